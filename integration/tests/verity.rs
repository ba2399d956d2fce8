//! Rules with `digest_type=verity` on a mount, over a source without fs-verity.

use anyhow::{Context, Result, ensure};
use integration::process::shell;
use integration::stand::flip;
use integration::{Door, Need, Stand, need};

const SIGNED: &str = "appraise func=FILE_CHECK digest_type=verity appraise_type=sigv3\n";
const MEASURED: &str = "measure func=FILE_CHECK digest_type=verity template=ima-ngv2\n";

/// A stand whose files are signed by their fs-verity digests: a small one, and one that several threads hash.
fn signed() -> Result<Stand> {
    let stand = Stand::new()?;
    stand.file("small", "hello\n", 0o644)?;
    let numbers: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    stand.file("large", numbers, 0o644)?;
    stand.keys.sign_verity(stand.tree())?;
    Ok(stand)
}

#[test]
fn a_changed_bit_anywhere_is_refused_and_the_signed_content_is_not() -> Result<()> {
    need!();
    let stand = signed()?;
    let mount = stand.mount()?.policy(SIGNED)?.args(["--cache", "shared"]).start()?;
    for name in ["small", "large"] {
        mount.allowed(Door::Open, name)?;
    }
    for at in [0, 9_999_999, 19_999_999] {
        flip(&stand.source("large"), at)?;
        mount.refused(Door::Open, "large", "invalid-verity-signature")?;
        flip(&stand.source("large"), at)?;
        mount.allowed(Door::Open, "large")?;
    }
    Ok(())
}

#[test]
fn a_signature_of_the_content_is_none_of_its_fs_verity_digest() -> Result<()> {
    need!();
    let stand = signed()?;
    stand.file("plain", "hello\n", 0o644)?;
    stand.sign("plain")?;
    stand.file("none", "hello\n", 0o644)?;
    let mount = stand.mount()?.policy(SIGNED)?.start()?;
    mount.refused(Door::Open, "plain", "verity-signature-required")?;
    mount.refused(Door::Open, "none", "verity-signature-required")?;
    drop(mount);
    let mount = stand.mount()?.policy("appraise appraise_type=imasig\n")?.start()?;
    mount.refused(Door::Open, "small", "IMA-signature-required")?;
    mount.allowed(Door::Open, "plain")
}

#[test]
fn the_list_has_the_digests_that_fsverity_gives() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("fsverity"));
    let stand = signed()?;
    let mount = stand.mount()?.policy(MEASURED)?.start()?;
    for name in ["small", "large"] {
        let digest = shell(stand.tree(), format!("fsverity digest --compact {name}"))?;
        mount.allowed(Door::Open, name)?;
        let line = format!(" ima-ngv2 verity:sha256:{} /{name}", digest.trim());
        let list = mount.measurements()?;
        ensure!(list.lines().filter(|found| found.ends_with(&line)).count() == 1, "no {line} in {list}");
    }
    Ok(())
}

#[test]
fn with_digests_of_the_backing_alone_a_file_without_fs_verity_is_refused() -> Result<()> {
    need!();
    let stand = signed()?;
    for policy in [SIGNED, MEASURED] {
        let mount = stand.mount()?.policy(policy)?.args(["--verity", "backing"]).start()?;
        let mark = mount.mark()?;
        let error = std::fs::read(mount.path("small")).err().context("it is served")?;
        ensure!(error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error()), "{error}");
        mount.records().one_refusal(mark, "no-verity-digest", "small")?;
        ensure!(!mount.measurements()?.contains("/small"), "it was measured");
    }
    Ok(())
}
