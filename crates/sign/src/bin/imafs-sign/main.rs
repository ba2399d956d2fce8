//! `imafs-sign`: makes keys, signs and hashes file trees, and checks what others signed.
//!
//! Results go to standard output, all else to standard error. Exit 0: done, or all verified. 1: the
//! answer is no. 2: could not find out.

mod hash;
mod keygen;
mod keys;
mod manifest;
mod output;
mod show;
mod sign;
mod tally;
mod tree;
mod verify;

use std::process::ExitCode;

use ::sign::cli::{Cli, Verb};
use clap::Parser;

/// How a run ended, when nothing kept it from ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Done, or all verified.
    Done,
    /// The answer is no.
    No,
    /// Some of it could not be found out or done; the reasons have been printed.
    Incomplete,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.verb {
        Verb::Keygen(args) => keygen::run(&args),
        Verb::Sign(args) => sign::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Hash(args) => hash::run(&args),
        Verb::Show(args) => show::run(&args),
        Verb::Manifest(args) => manifest::run(&args),
    };
    match outcome {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::No) => ExitCode::from(1),
        Ok(Ending::Incomplete) => ExitCode::from(2),
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
