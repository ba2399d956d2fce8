//! `imafs-attest`: fetches quotes of measurement lists, and says whether a list is to be trusted.
//!
//! Results go to standard output, all else to standard error. Exit 0: done, or trusted. 1: refused. 2: could not find
//! out.

mod inputs;
mod output;
mod policy;
mod quote;
mod report;
mod verify;

use std::process::ExitCode;

use attest::cli::{Cli, Verb};
use clap::Parser;

/// How a run ended, when nothing kept it from ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Done, or trusted.
    Done,
    /// Refused.
    No,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.verb {
        Verb::Policy(args) => policy::run(&args),
        Verb::Quote(args) => quote::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Report(args) => report::run(&args),
    };
    match outcome {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::No) => ExitCode::from(1),
        Err(error) => {
            if !output::is_closed_pipe(&error) {
                output::complain(&error);
            }
            ExitCode::from(2)
        }
    }
}

/// Prints help and version as clap does, and bad usage as every other failure is told.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        output::warn(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    } else {
        // Nothing is left to tell when even the help cannot be printed.
        let _unprintable = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
