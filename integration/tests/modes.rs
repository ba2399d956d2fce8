//! What a refusal depends on: the appraisal mode, and whether a file is its owner's own or signed.

use anyhow::{Context, Result, ensure};
use integration::stand::{flip, label};
use integration::{Door, Stand, need};
use std::fs::File;

/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";
/// Every access of every file needs a label of any kind.
const ALL_LABELLED: &str = "appraise\n";
/// Reading needs a signature; writing is not looked at.
const READ_SIGNED: &str = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";

/// A stand with signed files `good` and `bad`, alike but for a line.
fn two_signed_files() -> Result<Stand> {
    let stand = Stand::new()?;
    for name in ["good", "bad"] {
        stand.file(name, format!("all is well\n{name}\n"), 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

#[test]
fn a_signed_file_opens_for_writing_only_where_no_rule_asks_for_its_signature() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    let errno = File::options().append(true).open(mount.path("good")).err().and_then(|e| e.raw_os_error());
    ensure!(
        errno == Some(rustix::io::Errno::ACCESS.raw_os_error()),
        "a signed file opens for writing: {errno:?}"
    );
    drop(mount);
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::OpenAppend, "good")
}

#[test]
fn a_tampered_file_is_let_through_but_recorded_in_log_mode() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    flip(&stand.source("bad"), 3)?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.args(["--appraise", "log"]).start()?;
    let mark = mount.mark()?;
    std::fs::read(mount.path("bad")).context("log mode denies")?;
    mount.records().one_refusal(mark, "invalid-signature", "/bad")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_wrong_hash_is_mended_in_fix_mode() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("bad", "all is well\n", 0o644)?;
    stand.hash("bad")?;
    flip(&stand.source("bad"), 3)?;
    let fixing = stand.mount()?.policy(ALL_LABELLED)?.args(["--appraise", "fix"]).start()?;
    let mark = fixing.mark()?;
    std::fs::read(fixing.path("bad")).context("fix mode denies")?;
    fixing.records().one_refusal(mark, "invalid-hash", "/bad")?;
    drop(fixing);
    let mount = stand.mount()?.policy(ALL_LABELLED)?.start()?;
    mount.allowed(Door::Open, "bad")
}

#[test]
fn an_own_file_is_labelled_at_the_last_close_and_a_signature_never_is() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let signature = label(&stand.source("good"))?;
    let mount = stand.mount()?.policy(ALL_LABELLED)?.start()?;
    let mark = mount.mark()?;
    std::fs::write(mount.path("own"), "first\n").context("cannot write an own file")?;
    ensure!(std::fs::read(mount.path("own"))? == b"first\n", "read back something else");
    std::fs::write(mount.path("own"), "second\n").context("cannot rewrite an own file")?;
    ensure!(std::fs::read(mount.path("own"))? == b"second\n", "read back something else");
    mount.records().no_refusal(mark)?;
    // What the kernel writes for sha256: type 0x04, algorithm 4, and openssl's digest of the content.
    let digest = integration::process::shell(stand.tree(), "openssl dgst -sha256 -r own | cut -d' ' -f1")?;
    let written: String = label(&stand.source("own"))?.iter().map(|b| format!("{b:02x}")).collect();
    ensure!(written == format!("0404{}", digest.trim()), "label {written}, digest {digest}");
    mount.allowed(Door::Open, "good")?;
    ensure!(label(&stand.source("good"))? == signature, "the signature was replaced");
    Ok(())
}
