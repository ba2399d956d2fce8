//! The `imafs-runtime` command; all of it is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::run(std::env::args_os().skip(1).collect())
}
