//! Labels of other people's tools: what evmctl writes, imafs accepts; what imafs-sign writes, evmctl accepts.

use anyhow::{Result, ensure};
use integration::keys::Kind;
use integration::process::succeed;
use integration::stand::{flip, label};
use integration::{Door, Keys, Need, Stand, need};
use std::path::Path;
use std::process::Command;

/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";

/// A stand whose trusted key is of this kind, made by openssl or by imafs-sign.
fn stand_with(kind: Kind) -> Result<Stand> {
    let mut stand = Stand::new()?;
    stand.keys = Keys::make(&stand.scratch.dir("keys-of-kind")?, "kind", kind)?;
    Ok(stand)
}

/// `evmctl ima_sign` with a key and the key id of its certificate.
fn evmctl_sign(keys: &Keys, algorithm: &str, file: &Path) -> Result<()> {
    let mut evmctl = Command::new("evmctl");
    evmctl.args(["ima_sign", "--hashalgo", algorithm, "--key"]).arg(&keys.key);
    evmctl.arg("--keyid-from-cert").arg(&keys.certificate).arg(file);
    succeed(&mut evmctl).map(drop)
}

/// Files signed by evmctl over each algorithm open; with one byte changed they do not.
fn evmctl_signatures_are_accepted(kind: Kind) -> Result<()> {
    let stand = stand_with(kind)?;
    let algorithms = ["sha1", "sha224", "sha256", "sha384", "sha512"];
    for algorithm in algorithms {
        for name in ["good", "bad"] {
            let file = stand.file(&format!("{name}-{algorithm}"), format!("{name} {algorithm}\n"), 0o644)?;
            evmctl_sign(&stand.keys, algorithm, &file)?;
        }
        flip(&stand.source(format!("bad-{algorithm}")), 1)?;
    }
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    for algorithm in algorithms {
        mount.allowed(Door::Open, &format!("good-{algorithm}"))?;
        mount.refused(Door::Open, &format!("bad-{algorithm}"), "invalid-signature")?;
    }
    Ok(())
}

#[test]
fn rsa_signatures_of_evmctl_are_accepted() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    evmctl_signatures_are_accepted(Kind::Rsa)
}

#[test]
fn ecdsa_signatures_of_evmctl_are_accepted() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    evmctl_signatures_are_accepted(Kind::P256)
}

#[test]
fn hashes_of_evmctl_are_accepted() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    let stand = Stand::new()?;
    let algorithms = ["sha1", "sha256", "sha512"];
    for algorithm in algorithms {
        for name in ["good", "bad"] {
            let file = stand.file(&format!("{name}-{algorithm}"), format!("{name} {algorithm}\n"), 0o644)?;
            succeed(Command::new("evmctl").args(["ima_hash", "--hashalgo", algorithm]).arg(file))?;
        }
        flip(&stand.source(format!("bad-{algorithm}")), 1)?;
    }
    let mount = stand.mount()?.policy("appraise\n")?.start()?;
    for algorithm in algorithms {
        mount.allowed(Door::Open, &format!("good-{algorithm}"))?;
        mount.refused(Door::Open, &format!("bad-{algorithm}"), "invalid-hash")?;
    }
    Ok(())
}

#[test]
fn signatures_of_imafs_sign_are_accepted_by_evmctl_and_a_changed_byte_is_not() -> Result<()> {
    need!(Need::Root, Need::Program("evmctl"));
    for kind in [Kind::Rsa, Kind::P256] {
        let stand = stand_with(kind)?;
        let file = stand.file("file", "content\n", 0o644)?;
        stand.sign("file")?;
        // evmctl reads certificates in DER alone.
        let der = stand.scratch.path().join("certificate.der");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-outform", "DER", "-in"]).arg(&stand.keys.certificate).arg("-out").arg(&der);
        succeed(&mut openssl)?;
        let verify = || {
            let mut evmctl = Command::new("evmctl");
            evmctl.args(["ima_verify", "--key"]).arg(&der).arg(&file);
            integration::process::output(&mut evmctl)
        };
        let out = verify()?;
        ensure!(out.status.success(), "{kind:?}: evmctl refuses: {}", String::from_utf8_lossy(&out.stderr));
        flip(&file, 1)?;
        ensure!(!verify()?.status.success(), "{kind:?}: evmctl accepts a changed file");
    }
    Ok(())
}

#[test]
fn hashes_of_imafs_sign_are_those_of_evmctl() -> Result<()> {
    need!(Need::Root, Need::Program("evmctl"));
    let stand = Stand::new()?;
    let (ours, theirs) = (stand.file("ours", "content\n", 0o644)?, stand.file("theirs", "content\n", 0o644)?);
    stand.hash("ours")?;
    succeed(Command::new("evmctl").args(["ima_hash", "--hashalgo", "sha256"]).arg(&theirs))?;
    ensure!(label(&ours)? == label(&theirs)?, "the labels differ");
    Ok(())
}
