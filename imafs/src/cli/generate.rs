//! Man pages and shell completions, from the definitions of the command line itself.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use crate::daemon::plain;

use super::{Cli, Failure, Outcome, output};

/// Write the man pages
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write them to; without it imafs(1) is printed
    directory: Option<PathBuf>,
}

/// Print a completion script
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell it is for
    shell: Shell,
}

pub(super) fn man(args: &ManArgs) -> Outcome {
    let mut root = Cli::command();
    root.build();
    let Some(directory) = &args.directory else {
        let page = page(&root).map_err(|error| Failure::cannot("print the man page", plain(&error)))?;
        return output::print_bytes(&page);
    };
    for (name, page) in pages(&root).map_err(|error| Failure::cannot("make the man pages", plain(&error)))? {
        let path = directory.join(name);
        std::fs::write(&path, page)
            .map_err(|error| Failure::cannot(format!("write {}", path.display()), plain(&error)))?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// A page for the program and one for each verb that is shown, and for each of a verb's own, with their file names.
fn pages(root: &Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    push_pages(root, "imafs", &mut pages)?;
    Ok(pages)
}

fn push_pages(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    pages.push((format!("{name}.1"), page(command)?));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        push_pages(verb, &format!("{name}-{}", verb.get_name()), pages)?;
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

pub(super) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "imafs", &mut script);
    output::print_bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_every_option_of_mount_is_on_it() {
        let mut root = Cli::command();
        root.build();
        let pages = pages(&root).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "imafs.1",
                "imafs-mount.1",
                "imafs-umount.1",
                "imafs-ps.1",
                "imafs-status.1",
                "imafs-mode.1",
                "imafs-policy.1",
                "imafs-policy-check.1",
                "imafs-policy-explain.1",
                "imafs-journal.1",
                "imafs-journal-show.1",
                "imafs-journal-verify.1",
                "imafs-profile.1",
                "imafs-profile-check.1",
                "imafs-profile-schema.1"
            ]
        );
        let mount = String::from_utf8(pages[1].1.clone()).unwrap().replace('\\', "");
        for option in root.find_subcommand("mount").unwrap().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(mount.contains(&format!("--{option}")), "{option}");
        }
    }

    #[test]
    fn completions_know_the_verbs() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "imafs", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["mount", "umount", "status", "--policy", "enforce", "explain", "--fowner"] {
            assert!(script.contains(word), "{word}");
        }
    }
}
