//! `imafs policy`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use policy::{ParseOptions, Policy, SHIPPED};

use super::{Failure, Outcome, output};

/// Check a policy before it is mounted with
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imafs policy check my.policy
  imafs policy check --print exec
      show the rules of a policy that comes with imafs
  imafs policy check --kernel my.policy
      refuse what only imafs understands")]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Say whether a policy can be loaded: exit 0, or 1 with line, column and reason
    Check {
        /// A file of rules, or the name of a policy that comes with imafs
        file: PathBuf,
        /// Accept only what the kernel accepts
        #[arg(long)]
        kernel: bool,
        /// Print the rules as the kernel would read them back
        #[arg(long)]
        print: bool,
    },
}

pub(super) fn run(args: PolicyArgs) -> Outcome {
    let PolicyVerb::Check { file, kernel, print } = args.verb;
    let options = ParseOptions { kernel_only: kernel };
    let policy = load(&file, &options)?;
    for warning in policy.warnings() {
        eprintln!("imafs: {}: {warning}", file.display());
    }
    if print {
        return output::print(&policy.to_string());
    }
    let count = policy.rules().len();
    output::print(&format!("{}: ok, {count} {}", file.display(), if count == 1 { "rule" } else { "rules" }))
}

/// Reads a file, or the shipped policy of that name where there is no such file.
fn load(file: &Path, options: &ParseOptions) -> Result<Policy, Failure> {
    let shipped = SHIPPED.iter().find(|(name, _)| Path::new(name) == file && !file.exists());
    if let Some((_, text)) = shipped {
        let parsed = Policy::parse(text.as_bytes(), options);
        return parsed.map_err(|error| crate::daemon::policy_failure(file, &error).with_code(super::NO));
    }
    let text = std::fs::read(file).map_err(|error| {
        Failure::cannot(format!("read policy {}", file.display()), crate::daemon::plain(&error))
    })?;
    Policy::parse(&text, options)
        .map_err(|error| crate::daemon::policy_failure(file, &error).with_code(super::NO))
}
