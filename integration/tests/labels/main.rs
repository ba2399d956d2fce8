//! Where labels are kept: the three stores give the same verdicts, and none can be made to give others.
//!
//! `docs/manifest.md`. Each case that opens stands beside a sibling that does not, with its exact cause.

#![expect(clippy::tests_outside_test_module, reason = "this is a test program")]

mod inside;
mod refusals;
mod verdicts;

use anyhow::{Context, Result, bail};
use integration::{MountBuilder, Stand};

/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";
/// Every access of every file needs a label of any kind.
const ALL_LABELLED: &str = "appraise\n";
/// Reading needs a signature; writing is not looked at.
const READ_SIGNED: &str = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";
/// Running and mapping need a signature; reading and writing are not looked at.
const RUN_SIGNED: &str =
    "appraise func=BPRM_CHECK appraise_type=imasig\nappraise func=MMAP_CHECK appraise_type=imasig\n";

/// A stand with signed files `good` and `bad`, alike but for a line.
fn two_signed_files() -> Result<Stand> {
    let stand = Stand::new()?;
    for name in ["good", "bad"] {
        stand.file(name, format!("all is well\n{name}\n"), 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

/// What a mount that must not be made says.
fn refusal(builder: MountBuilder) -> Result<String> {
    match builder.start() {
        Ok(_) => bail!("it was mounted"),
        Err(error) => Ok(error.to_string()),
    }
}

/// Asserts that a mount is refused for this reason.
fn refused(builder: MountBuilder, reason: &str) -> Result<()> {
    let said = refusal(builder)?;
    if said.contains(reason) { Ok(()) } else { bail!("{reason:?} is not the reason: {said}") }
}

/// The errno of something that must fail.
fn errno<T>(outcome: std::io::Result<T>) -> Result<rustix::io::Errno> {
    match outcome {
        Ok(_) => bail!("it was let through"),
        Err(error) => rustix::io::Errno::from_io_error(&error).context("no errno"),
    }
}
