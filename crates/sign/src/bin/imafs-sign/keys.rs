//! Reads keys and certificates from files and says what is odd about them.

use std::{fs, path::Path, path::PathBuf};

use ::sign::key::SigningKey;
use anyhow::Context;
use ima::KeyId;
use keyring::{Added, Certificate, KeyIdSource, Keyring};
use zeroize::Zeroizing;

use crate::output::{Mistake, warn};

/// Reads a private key; the file's bytes are wiped afterwards.
pub(crate) fn read_key(path: &Path) -> anyhow::Result<(SigningKey, Zeroizing<Vec<u8>>)> {
    let bytes = Zeroizing::new(fs::read(path).with_context(|| cannot("read", path))?);
    let key = SigningKey::from_pem_or_der(&bytes).with_context(|| cannot("use", path))?;
    Ok((key, bytes))
}

/// Reads all certificates of a file.
pub(crate) fn read_certificates(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let bytes = fs::read(path).with_context(|| cannot("read", path))?;
    Certificate::from_pem_or_der(&bytes).with_context(|| cannot("use", path))
}

/// A ring of all certificates in `paths`.
pub(crate) fn read_ring(paths: &[PathBuf]) -> anyhow::Result<Keyring> {
    let ring = Keyring::new("command line");
    for path in paths {
        for certificate in read_certificates(path)? {
            let keyid = certificate.keyid();
            if certificate.keyid_source() == KeyIdSource::PublicKeyHash {
                warn(&format!("{} has no subject key identifier: no kernel will find it", path.display()));
            }
            match ring.add(certificate) {
                // A ring of the command line has no blacklist.
                Added::New | Added::Present | Added::Blacklisted => {}
                Added::Shadowed { by } => warn(&format!(
                    "{} is never asked: {} has the same keyid {keyid} and came first",
                    path.display(),
                    by.subject()
                )),
            }
        }
    }
    Ok(ring)
}

/// Reads the key to sign files with, and finds the keyid that goes into the labels.
pub(crate) fn read_signer(
    key_path: &Path,
    certificate_path: Option<&Path>,
    keyid: Option<KeyId>,
) -> anyhow::Result<(SigningKey, KeyId)> {
    let (key, bytes) = read_key(key_path)?;
    if let Some(keyid) = keyid {
        return Ok((key, keyid));
    }
    let beside = match certificate_path {
        Some(path) => read_certificates(path)?,
        // As newer evmctl does: a certificate may stand behind the key in the same file.
        None => Certificate::from_pem_or_der(&bytes).unwrap_or_default(),
    };
    let own = beside.iter().find(|certificate| certificate.public_key() == key.public());
    match (own, certificate_path) {
        (Some(certificate), _) => {
            if !certificate.is_end_entity_signer() {
                warn(&format!(
                    "{} is a CA or not for digital signatures: kernels since 6.6 refuse it",
                    certificate_path.unwrap_or(key_path).display()
                ));
            }
            Ok((key, certificate.keyid()))
        }
        (None, Some(path)) => Err(Mistake {
            message: format!("{} is not the certificate of {}", path.display(), key_path.display()),
            next_step: "give --cert the certificate that was made with this key",
        }
        .into()),
        (None, None) => {
            let keyid = key.public().sha1_keyid();
            Ok((key, keyid))
        }
    }
}

fn cannot(verb: &str, path: &Path) -> String {
    format!("cannot {verb} {}", path.display())
}
