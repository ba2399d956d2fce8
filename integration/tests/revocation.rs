//! What the host has revoked is refused, whoever signed it: content by its digest, keys by their certificates.

use anyhow::{Result, ensure};
use integration::process::succeed;
use integration::{Door, Stand, need};
use std::process::Command;

/// Every access of every file needs a signature, and every read is measured.
const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\nappraise appraise_type=imasig\n";

/// The digest of a file, by coreutils.
fn digest(stand: &Stand, name: &str) -> Result<String> {
    let line = succeed(Command::new("sha256sum").arg(stand.source(name)))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn signed_content_on_the_blacklist_is_refused_and_listed_and_its_neighbour_opens() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    for name in ["revoked", "good"] {
        stand.file(name, format!("{name}\n"), 0o644)?;
    }
    stand.sign(".")?;
    let revoked = digest(&stand, "revoked")?;
    let blacklist = stand.scratch.path().join("blacklist");
    std::fs::write(&blacklist, format!("# recalled\nbin:{revoked}\n"))?;
    let mount = stand.mount()?.policy(POLICY)?.arg("--blacklist").arg(&blacklist).start()?;
    mount.refused(Door::Open, "revoked", "blacklisted-hash")?;
    mount.allowed(Door::Open, "good")?;
    let list = mount.measurements()?;
    ensure!(list.contains(&format!(" blacklisted-hash {revoked}\n")), "the list does not say so:\n{list}");
    drop(mount);
    let mount = stand.mount()?.policy(POLICY)?.start()?;
    mount.allowed(Door::Open, "revoked")
}

#[test]
fn what_a_blacklisted_certificate_signed_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    stand.sign("file")?;
    // openssl cuts the signed part out of the certificate: the sequence that begins at its fifth byte.
    let part = stand.scratch.path().join("tbs");
    let der = stand.scratch.path().join("certificate.der");
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-outform", "DER", "-in"]).arg(&stand.keys.certificate).arg("-out").arg(&der);
    succeed(&mut openssl)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["asn1parse", "-inform", "DER", "-strparse", "4", "-noout", "-in"]).arg(&der);
    succeed(openssl.arg("-out").arg(&part))?;
    let sum = succeed(Command::new("sha256sum").arg(&part))?;
    let blacklist = stand.scratch.path().join("blacklist");
    std::fs::write(&blacklist, format!("tbs:{}\n", sum.split_whitespace().next().unwrap_or_default()))?;
    let mount = stand.mount()?.policy(POLICY)?.arg("--blacklist").arg(&blacklist).start()?;
    mount.refused(Door::Open, "file", "invalid-signature")?;
    drop(mount);
    stand.mount()?.policy(POLICY)?.start()?.allowed(Door::Open, "file")
}
