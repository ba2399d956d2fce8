//! Files that verification needs.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use attest::cli::{ReferenceArgs, TrustArgs};
use attest::reference::{Digests, Labels, References, RuntimePolicy};
use attest::trust::Trust;
use keyring::{Added, Certificate, Keyring};

use crate::output::mistake;

/// Endings of the files that are taken from a directory of certificates, as `imafs mount --key` takes them.
const CERTIFICATE_ENDINGS: [&str; 5] = ["der", "pem", "crt", "cer", "x509"];

/// A whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Which keys are trusted.
pub(crate) fn trust(args: &TrustArgs) -> Result<Trust> {
    if let Some(directory) = &args.ca {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let now = i64::try_from(now.as_secs()).context("the clock is beyond its range")?;
        return Ok(Trust::Authorities(certificates(directory)?, now));
    }
    let Some(name_or_file) = &args.ak else {
        return Err(mistake("no key is trusted", "name one with --ak, or an authority with --ca"));
    };
    if let Ok(trust @ Trust::Name(_)) = Trust::pin(name_or_file.as_os_str().as_bytes()) {
        return Ok(trust);
    }
    Trust::pin(&read(name_or_file)?).map_err(|error| {
        mistake(
            format!("cannot use key {}: {error}", name_or_file.display()),
            "give the key's name in hex, or its public key or certificate in PEM or DER",
        )
    })
}

/// What entries are held against.
pub(crate) fn references(args: &ReferenceArgs) -> Result<References> {
    let mut references = References::default();
    let root = args.root.as_deref().map_or(&b""[..], |root| root.as_os_str().as_bytes());
    for path in &args.digests {
        let digests = Digests::parse(&read(path)?, root);
        references.digests.push(digests.with_context(|| format!("cannot use digests {}", path.display()))?);
    }
    for path in &args.runtime_policy {
        let policy = RuntimePolicy::parse(&read(path)?);
        references
            .policies
            .push(policy.with_context(|| format!("cannot use runtime policy {}", path.display()))?);
    }
    if args.manifest.is_empty() {
        references.ring = if args.keyring.is_empty() { None } else { Some(ring(&args.keyring)?) };
    }
    for path in &args.manifest {
        let labels = Labels::parse(read(path)?, ring(&args.keyring)?);
        references.labels.push(labels.with_context(|| format!("cannot use manifest {}", path.display()))?);
    }
    Ok(references)
}

/// A ring of all certificates in these files and directories.
fn ring(paths: &[PathBuf]) -> Result<Keyring> {
    let ring = Keyring::new("reference");
    for path in paths {
        for certificate in certificates(path)? {
            match ring.add(certificate) {
                // Of two certificates with one keyid the first answers, as in the kernel.
                Added::New | Added::Present | Added::Shadowed { .. } | Added::Blacklisted => {}
            }
        }
    }
    Ok(ring)
}

/// The certificates of a file, or of the files in a directory.
fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let is_directory =
        fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.is_dir();
    let files = if is_directory { certificate_files(path)? } else { vec![path.to_owned()] };
    let mut certificates = Vec::new();
    for file in &files {
        let some = Certificate::from_pem_or_der(&read(file)?);
        certificates.extend(some.with_context(|| format!("cannot use certificate {}", file.display()))?);
    }
    if certificates.is_empty() {
        let endings = CERTIFICATE_ENDINGS.join(", *.");
        return Err(mistake(
            format!("no certificate in {}", path.display()),
            format!("name a certificate, or a directory that has some (*.{endings})"),
        ));
    }
    Ok(certificates)
}

fn certificate_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if CERTIFICATE_ENDINGS.contains(&ending) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
