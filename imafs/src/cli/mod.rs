//! The command line: one file per verb, all of it from clap's definitions.
//!
//! Results go to standard output, everything else to standard error. A failure is one line that names the object
//! and, where we know it, one line that says what to do. Exit 0: done; 1: the answer is no; 2: could not find out,
//! bad usage included.

mod explain;
mod generate;
mod journal;
mod mode;
mod mount;
mod mount_program;
mod option_list;
mod output;
mod policy;
mod profile;
mod ps;
mod status;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// What a verb ends with: an exit code, or a failure to report.
pub type Outcome = Result<ExitCode, Failure>;

/// The exit code of "the answer is no".
const NO: u8 = 1;

/// Give each container an IMA of its own: measure, appraise and audit every file of its root filesystem
#[derive(Debug, Parser)]
#[command(name = "imafs", version, subcommand_required = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Mount(Box<mount::MountArgs>),
    Umount(umount::UmountArgs),
    Ps(ps::PsArgs),
    Status(status::StatusArgs),
    Mode(mode::ModeArgs),
    Policy(policy::PolicyArgs),
    Journal(journal::JournalArgs),
    Profile(profile::ProfileArgs),
    #[command(hide = true)]
    Man(generate::ManArgs),
    #[command(hide = true)]
    Completions(generate::CompletionsArgs),
}

/// Runs the program with these arguments, the first of which is its own name.
///
/// Called as `mount.fuse.imafs` or `mount.imafs` it speaks mount(8)'s helper language, and called as
/// `imafs-mount-program` that of containers-storage.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = option_list::from_mount_helper(arguments.into_iter().collect());
    let arguments = match mount_program::rewritten(arguments) {
        Ok(arguments) => arguments,
        Err(failure) => return failure.report(),
    };
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.verb {
        Verb::Mount(args) => mount::run(*args, &arguments),
        Verb::Umount(args) => umount::run(&args),
        Verb::Ps(args) => ps::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Mode(args) => mode::run(&args),
        Verb::Policy(args) => policy::run(args),
        Verb::Journal(args) => journal::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Man(args) => generate::man(&args),
        Verb::Completions(args) => generate::completions(&args),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

/// Prints help and version as clap does, and bad usage as every other failure is told.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        match text.strip_prefix("error: ") {
            Some(text) => eprint!("imafs: {text}"),
            None => eprint!("{text}"),
        }
    } else {
        // Nothing is left to tell when even the help cannot be printed.
        let _unprintable = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Failure::CANNOT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_a_person_uses_shows_examples() {
        let mut root = Cli::command();
        root.build();
        for verb in root.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples", verb.get_name());
        }
    }

    #[test]
    fn bad_usage_is_exit_code_2() {
        for line in [&["imafs", "mount", "--no-such"][..], &["imafs", "status"], &["imafs", "frobnicate"]] {
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }
}
