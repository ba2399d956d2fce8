//! The `imafs` command; all of it is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    imafs::cli::run(std::env::args_os())
}
