//! `imafs policy`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use policy::{ParseOptions, Policy, SHIPPED};

use crate::config::PolicyChoice;

use super::explain::{self, ExplainArgs};
use super::{Failure, Outcome, output};

/// Check a policy before it is mounted with, and ask it about an access
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imafs policy check my.policy
  imafs policy check --print exec
      show the rules of a policy that comes with imafs
  imafs policy check --kernel my.policy
      refuse what only imafs understands
  imafs policy explain my.policy --path /usr/bin/id --func BPRM_CHECK
      say which rule decides, and why no earlier one does")]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Say whether a policy can be loaded: exit 0, or 1 with line, column and reason
    Check {
        /// A file of rules, or the name of a policy as --policy takes it
        file: PathBuf,
        /// Accept only what the kernel accepts
        #[arg(long)]
        kernel: bool,
        /// Accept no more rules than this
        #[arg(long, value_name = "N")]
        max_rules: Option<usize>,
        /// Print the rules as the kernel would read them back
        #[arg(long)]
        print: bool,
    },
    Explain(Box<ExplainArgs>),
}

pub(super) fn run(args: PolicyArgs) -> Outcome {
    match args.verb {
        PolicyVerb::Check { file, kernel, max_rules, print } => {
            let policy = load(&file, &ParseOptions { kernel_only: kernel })?;
            let policy = policy
                .at_most(max_rules.unwrap_or(usize::MAX))
                .map_err(|error| crate::daemon::policy_failure(&file, &error).with_code(super::NO))?;
            check(&file, &policy, print)
        }
        PolicyVerb::Explain(args) => explain::run(&args),
    }
}

fn check(file: &Path, policy: &Policy, print: bool) -> Outcome {
    for warning in policy.warnings() {
        eprintln!("imafs: {}: {warning}", file.display());
    }
    let count = policy.rules().len();
    if count == 0 {
        eprintln!("imafs: {}: no rules: it records and denies nothing", file.display());
    }
    if print {
        return output::print(&policy.to_string());
    }
    output::print(&format!("{}: ok, {count} {}", file.display(), if count == 1 { "rule" } else { "rules" }))
}

/// Reads a file, or the shipped policy of that name where there is no such file.
pub(super) fn load(file: &Path, options: &ParseOptions) -> Result<Policy, Failure> {
    let shipped = SHIPPED.iter().find(|(name, _)| Path::new(name) == file && !file.exists());
    if let Some((_, text)) = shipped {
        let parsed = Policy::parse(text.as_bytes(), options);
        return parsed.map_err(|error| crate::daemon::policy_failure(file, &error).with_code(super::NO));
    }
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) => return named(file, &error),
    };
    Policy::parse(&text, options)
        .map_err(|error| crate::daemon::policy_failure(file, &error).with_code(super::NO))
}

/// A name that is no file: the kernel's built-in policies, or what was meant.
fn named(file: &Path, error: &std::io::Error) -> Result<Policy, Failure> {
    let cannot = || Failure::cannot(format!("read policy {}", file.display()), crate::daemon::plain(error));
    match file.to_str().map(PolicyChoice::from_option) {
        Some(Ok(PolicyChoice::Builtin(names))) => {
            Policy::builtin(&names).map_err(|error| Failure::caused(&error))
        }
        Some(Err(meant)) if error.kind() == std::io::ErrorKind::NotFound => Err(cannot().advise(meant)),
        _ => Err(cannot().advise("name a file, or one of the policies 'imafs mount --help' lists")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        load(Path::new(name), &ParseOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn every_name_that_mount_takes_can_be_checked() {
        for name in ["exec", "tcb", "tcb|appraise_tcb", "ima_tcb"] {
            assert!(!load(Path::new(name), &ParseOptions { kernel_only: true }).unwrap().rules().is_empty());
        }
    }

    #[test]
    fn a_refusal_names_line_column_token_and_reason() {
        let digest = format!("digest=sha256:{}", "0".repeat(64));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy");
        let refusal = |line: &str, kernel_only| {
            std::fs::write(&file, format!("# a policy\nmeasure\n\n{line}\n")).unwrap();
            let failure = load(&file, &ParseOptions { kernel_only }).err()?.to_string();
            Some(failure.replace(&file.display().to_string(), "FILE"))
        };
        let table = [
            (
                "audit  func=NO_CHECK",
                "column 8: \"func=NO_CHECK\" is not a known value: expected FILE_CHECK, ",
            ),
            (
                "audit obj_type=x",
                "column 7: \"obj_type=x\" selects by the label of a Linux security module, which",
            ),
            ("uid=0", "column 1: the line has no action"),
        ];
        for (line, told) in table {
            let text = refusal(line, false).unwrap();
            assert!(text.starts_with(&format!("imafs: cannot use policy FILE: line 4, {told}")), "{text}");
        }
        // What imafs adds to the language is refused with --kernel, and only then.
        for token in ["path=/bin/*", &digest, "appraise_type=deny"] {
            let line = format!("appraise {token}");
            let told =
                format!("line 4, column 10: \"{token}\" is an extension of imafs that no kernel takes");
            assert_eq!(refusal(&line, true), Some(format!("imafs: cannot use policy FILE: {told}")));
            assert_eq!(refusal(&line, false), None, "{line}");
        }
        assert_eq!(refusal("appraise appraise_type=imasig", true), None);
    }

    #[test]
    fn a_mistyped_name_says_which_was_meant() {
        let text = refusal("exce");
        assert!(text.starts_with("imafs: cannot read policy exce: no such file or directory\n"), "{text}");
        assert!(text.ends_with("did you mean 'exec'?"), "{text}");
        assert!(refusal("/nonexistent/policy").ends_with("'imafs mount --help' lists"));
        assert!(refusal("/proc").contains("is a directory\n  name a file"));
    }
}
