//! Throwaway keys, made by `imafs-sign keygen` when the tests run. None is ever committed or trusted by default.

use crate::process::{ours, succeed};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kinds of key that `security.ima` signatures are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RSA, 2048 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
}

/// A private key and its self-signed certificate.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, as `imafs mount --key` takes it.
    pub certificate: PathBuf,
}

impl Keys {
    /// Makes a key named `name` in `dir`.
    ///
    /// # Errors
    /// Fails when `imafs-sign keygen` does.
    pub fn make(dir: &Path, name: &str, kind: Kind) -> Result<Self> {
        let keys = Self {
            key: dir.join(format!("{name}.key.pem")),
            certificate: dir.join(format!("{name}.crt.pem")),
        };
        let algorithm = match kind {
            Kind::Rsa => "rsa",
            Kind::P256 => "p256",
        };
        let mut keygen = Command::new(ours("imafs-sign")?);
        keygen.args(["keygen", "--subject", name, "--type", algorithm]);
        if kind == Kind::Rsa {
            keygen.args(["--bits", "2048"]);
        }
        keygen.arg("--out-key").arg(&keys.key).arg("--out-cert").arg(&keys.certificate);
        succeed(&mut keygen)?;
        Ok(keys)
    }

    /// The certificate in DER, the only form some tools read.
    ///
    /// # Errors
    /// Fails when `openssl x509` does.
    pub fn der(&self) -> Result<PathBuf> {
        let der = self.certificate.with_extension("der");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-outform", "DER", "-in"]).arg(&self.certificate).arg("-out").arg(&der);
        succeed(&mut openssl)?;
        Ok(der)
    }

    /// Signs one file or a whole tree in place.
    ///
    /// # Errors
    /// Fails when `imafs-sign sign` does.
    pub fn sign(&self, path: &Path) -> Result<()> {
        let mut sign = Command::new(ours("imafs-sign")?);
        sign.arg("sign").arg("--key").arg(&self.key).arg("--cert").arg(&self.certificate).arg(path);
        succeed(&mut sign).map(drop)
    }

    /// Signs the fs-verity digest of one file or of each in a tree.
    ///
    /// # Errors
    /// Fails when `imafs-sign sign` does.
    pub fn sign_verity(&self, path: &Path) -> Result<()> {
        let mut sign = Command::new(ours("imafs-sign")?);
        sign.args(["sign", "--verity", "--force", "--key"]).arg(&self.key).arg("--cert");
        succeed(sign.arg(&self.certificate).arg(path)).map(drop)
    }
}

/// Gives a file or a tree plain hash labels (type 0x04, sha256), in place of whatever labels it has.
///
/// # Errors
/// Fails when `imafs-sign hash` does.
pub fn label_with_hash(path: &Path) -> Result<()> {
    succeed(Command::new(ours("imafs-sign")?).args(["hash", "--write", "--force"]).arg(path)).map(drop)
}
