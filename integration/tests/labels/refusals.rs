//! Manifests that are refused as a whole, each with its cause.

use anyhow::{Context, Result, ensure};
use integration::keys::Kind;
use integration::process::output;
use integration::stand::flip;
use integration::store::{MANIFEST, Store, USER_LABEL, make_manifest, read};
use integration::{Door, Keys, MountBuilder, Stand, need};
use std::process::Command;

use super::{ALL_SIGNED, refusal, refused, two_signed_files};

fn stand() -> Result<Stand> {
    let stand = two_signed_files()?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web", "--serial", "5"])?;
    Ok(stand)
}

fn mount(stand: &Stand) -> Result<MountBuilder> {
    Ok(Store::Manifest.of(stand.mount()?.policy(ALL_SIGNED)?))
}

#[test]
fn one_changed_byte_refuses_all() -> Result<()> {
    need!();
    let stand = stand()?;
    let manifest = stand.source(MANIFEST);
    let length = manifest.metadata()?.len();
    // Each bit has its turn in the crate's own tests; here one byte in each part, through the whole program.
    for at in [0, 8, 13, 17, 25, 33, 36, 40, length / 2, length - 80, length - 1] {
        flip(&manifest, at)?;
        let said = refusal(mount(&stand)?)?;
        let whole = ["cannot use manifest", "cannot read manifest"].iter().any(|cause| said.contains(cause));
        ensure!(whole, "byte {at}: {said}");
        flip(&manifest, at)?;
    }
    mount(&stand)?.start()?.allowed(Door::Open, "good")
}

#[test]
fn an_entry_moved_to_another_path_refuses_all() -> Result<()> {
    need!();
    let stand = stand()?;
    let mut manifest = std::fs::read(stand.source(MANIFEST))?;
    let at = manifest.windows(5).position(|bytes| bytes == b"/good").context("no entry for /good")?;
    manifest[at..at + 5].copy_from_slice(b"/gone");
    std::fs::write(stand.source(MANIFEST), &manifest)?;
    std::fs::rename(stand.source("good"), stand.source("gone"))?;
    refused(mount(&stand)?, "the signature does not match")?;
    // A file moved instead has no label where it is.
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    std::fs::rename(stand.source("gone"), stand.source("good"))?;
    let mount = mount(&stand)?.start()?;
    mount.refused(Door::Open, "good", "IMA-signature-required")?;
    mount.allowed(Door::Open, "bad")
}

#[test]
fn a_stale_copy_is_refused_once_a_newer_one_has_been_served() -> Result<()> {
    need!();
    let stand = stand()?;
    let host = stand.scratch.dir("host")?;
    let on_host = || Ok::<_, anyhow::Error>(mount(&stand)?.state_dir_at(&host));
    on_host()?.start()?.allowed(Door::Open, "good")?;
    let old = std::fs::read(stand.source(MANIFEST))?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web", "--serial", "6"])?;
    on_host()?.start()?.allowed(Door::Open, "good")?;
    on_host()?.start()?.allowed(Door::Open, "good")?;
    let new = std::fs::read(stand.source(MANIFEST))?;
    std::fs::write(stand.source(MANIFEST), &old)?;
    refused(on_host()?, "it is stale: its serial is 5, and 6 has been served on this host")?;
    // Going back is possible on purpose, and no further than was said.
    on_host()?.args(["--manifest-serial", "5"]).start()?.allowed(Door::Open, "good")?;
    refused(on_host()?.args(["--manifest-serial", "6"]), "its serial is 5, and 6 is the lowest allowed")?;
    refused(on_host()?, "it is stale")?;
    // A host that has not seen the newer one has nothing to go by.
    mount(&stand)?.start()?.allowed(Door::Open, "good")?;
    std::fs::write(stand.source(MANIFEST), &new)?;
    on_host()?.start()?.allowed(Door::Open, "good")?;
    // Another one with the serial of one that was served.
    stand.file("more", "more", 0o644)?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web", "--serial", "6"])?;
    refused(on_host()?, "another manifest with serial 6 has been served")
}

#[test]
fn a_memory_of_serials_that_cannot_be_read_refuses() -> Result<()> {
    need!();
    let stand = stand()?;
    let host = stand.scratch.dir("host")?;
    mount(&stand)?.state_dir_at(&host).start()?.allowed(Door::Open, "good")?;
    let memory = std::fs::read_dir(host.join("manifests"))?.next().context("nothing is remembered")??.path();
    std::fs::write(&memory, "{}")?;
    refused(mount(&stand)?.state_dir_at(&host), "cannot keep its serial in")?;
    let pinned = mount(&stand)?.state_dir_at(&host).args(["--manifest-serial", "5"]);
    pinned.start()?.allowed(Door::Open, "good")
}

#[test]
fn the_manifest_of_another_image_is_refused() -> Result<()> {
    need!();
    let stand = stand()?;
    refused(mount(&stand)?.args(["--manifest-image", "db"]), "it is of image web, not of db")?;
    mount(&stand)?.args(["--manifest-image", "web"]).start()?.allowed(Door::Open, "good")
}

#[test]
fn a_manifest_by_a_key_that_is_not_trusted_or_was_revoked_is_refused() -> Result<()> {
    need!();
    let stand = stand()?;
    let stranger = stand.stranger()?;
    make_manifest(stand.tree(), &stranger, &["--image", "web"])?;
    refused(mount(&stand)?, " on the keyring")?;
    let other = Keys::make(&stand.scratch.dir("keys")?, "other", Kind::Rsa)?;
    make_manifest(stand.tree(), &other, &["--image", "web", "--from", "xattr"])?;
    mount(&stand)?.trust(&other.certificate).start()?.allowed(Door::Open, "good")?;
    // The same, with the key of the manifest revoked and that of the files still good.
    let mut openssl = Command::new("openssl");
    openssl.args(["asn1parse", "-strparse", "4", "-noout", "-inform", "DER", "-out"]);
    let tbs = stand.scratch.path().join("tbs");
    integration::process::succeed(openssl.arg(&tbs).arg("-in").arg(other.der()?))?;
    let sum = integration::process::succeed(Command::new("sha256sum").arg(&tbs))?;
    let digest = sum.split(' ').next().context("no digest")?;
    let revoked = stand.scratch.file("revoked", format!("tbs:{digest}\n"))?;
    let with_both = mount(&stand)?.trust(&other.certificate).arg("--blacklist").arg(revoked);
    refused(with_both, " on the keyring")
}

#[test]
fn what_the_container_could_reach_is_no_manifest() -> Result<()> {
    need!();
    let stand = stand()?;
    let place = stand.source(MANIFEST);
    std::fs::hard_link(&place, stand.source("copy"))?;
    refused(mount(&stand)?, "it has other names in the image")?;
    std::fs::rename(stand.source("copy"), &place)?;
    std::fs::remove_file(stand.source("copy")).or_else(|error| {
        // Renaming one name over another of the same file removes neither, but some filesystems know better.
        if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    })?;
    std::fs::rename(&place, stand.source("elsewhere"))?;
    std::os::unix::fs::symlink("elsewhere", &place)?;
    refused(mount(&stand)?, "cannot read manifest")?;
    // Outside the image it may have as many names as anybody likes.
    let outside = mount(&stand)?.arg("--manifest").arg(stand.source("elsewhere"));
    outside.start()?.allowed(Door::Open, "good")?;
    std::fs::remove_file(&place)?;
    integration::process::succeed(Command::new("mkfifo").arg(&place))?;
    refused(mount(&stand)?, "not a regular file")
}

#[test]
fn a_manifest_is_asked_for_where_it_is_used_and_takes_no_labels() -> Result<()> {
    need!();
    let stand = stand()?;
    refused(stand.mount()?.args(["--manifest-serial", "1"]), "labels are not looked for in a manifest")?;
    let fixing = Store::Manifest.of(stand.mount()?.args(["--appraise", "fix"]));
    refused(fixing, "fix writes labels, which a manifest does not take")
}

#[test]
fn imafs_sign_says_what_a_mount_would() -> Result<()> {
    need!();
    let stand = stand()?;
    let manifest = stand.source(MANIFEST);
    let verify = |args: &[&str]| -> Result<(Option<i32>, String)> {
        let mut verify = Command::new(integration::process::ours("imafs-sign")?);
        verify.args(["manifest", "verify", "--cert"]).arg(&stand.keys.certificate);
        let out = output(verify.args(args).arg("--tree").arg(stand.tree()).arg(&manifest))?;
        Ok((out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let (code, said) = verify(&["--image", "web", "--serial", "5"])?;
    ensure!(code == Some(0) && said.contains("verified 2 files"), "{said}");
    let (code, said) = verify(&["--serial", "6"])?;
    ensure!(code == Some(1) && said.contains("it is stale: its serial is 5"), "{said}");
    let (code, said) = verify(&["--image", "db"])?;
    ensure!(code == Some(1) && said.contains("not of db"), "{said}");
    let mut show = Command::new(integration::process::ours("imafs-sign")?);
    let said = integration::process::succeed(show.args(["manifest", "show"]).arg(&manifest))?;
    let lines: Vec<_> = said.lines().collect();
    ensure!(lines[..3] == ["image:  web", "serial: 5", "labels: 2"], "{said}");
    ensure!(lines[5].starts_with("/bad: signature version 2, sha256, key "), "{said}");
    flip(&stand.source("bad"), 3)?;
    let (code, said) = verify(&[])?;
    ensure!(code == Some(1) && said.contains("verified 1 file, not 1 file"), "{said}");
    flip(&manifest, 36)?;
    let (code, said) = verify(&[])?;
    ensure!(code == Some(1) && said.contains("the signature does not match"), "{said}");
    Ok(())
}

#[test]
fn imafs_sign_labels_the_attribute_it_is_told_and_no_other() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content", 0o644)?;
    let run = |verb: &[&str]| -> Result<(Option<i32>, String)> {
        let mut sign = Command::new(integration::process::ours("imafs-sign")?);
        let out = output(sign.args(verb).arg(stand.source("file")))?;
        Ok((out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    ensure!(run(&["hash", "--write", "--labels", "user"])?.0 == Some(0));
    ensure!(read(&stand.source("file"), "security.ima")?.is_none(), "both attributes were written");
    ensure!(read(&stand.source("file"), USER_LABEL)?.is_some_and(|label| label.starts_with(&[4, 4])));
    let (code, said) = run(&["verify", "--hash", "--labels", "user"])?;
    ensure!(code == Some(0) && said.contains("verified 1 file"), "{said}");
    let (code, said) = run(&["verify", "--hash"])?;
    ensure!(code == Some(1) && said.contains("no label"), "{said}");
    Ok(())
}
