//! `imafs-sign keygen`

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ::sign::{
    certify::{self, Authority, Purpose},
    cli::{KeyType, KeygenArgs},
    key::{NewKey, RsaBits, SigningKey},
};
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use keyring::{Certificate, Curve};
use time::OffsetDateTime;

use crate::{
    Ending,
    keys::{read_certificates, read_key},
    output::{Mistake, Results},
};

pub(crate) fn run(args: &KeygenArgs) -> anyhow::Result<Ending> {
    for path in [&args.out_key, &args.out_cert] {
        if path.symlink_metadata().is_ok() {
            let message = format!("{} exists already and is not overwritten", path.display());
            return Err(Mistake { message, next_step: "name another file, or move this one away" }.into());
        }
    }
    let (key, key_pem) = SigningKey::generate(kind(args)?)?;
    let der = make_certificate(args, &key)?;
    let certificate = Certificate::from_der(&der).context("the new certificate does not read back")?;
    let encoded = if args.out_cert.extension().is_some_and(|extension| extension == "der") {
        der
    } else {
        certify::to_pem(&der)?.into_bytes()
    };

    write_new(&args.out_key, key_pem.as_bytes(), 0o600)?;
    if let Err(error) = write_new(&args.out_cert, &encoded, 0o644) {
        // A key without its certificate would only stand in the way of the next attempt.
        return Err(match fs::remove_file(&args.out_key) {
            Ok(()) => error,
            Err(_) => error.context(format!("{} was made and remains", args.out_key.display())),
        });
    }
    let mut results = Results::new(&ProgressBar::hidden());
    results.line(&format!("key         {} ({})", args.out_key.display(), certificate.key_kind()))?;
    results.line(&format!("certificate {} ({})", args.out_cert.display(), certificate.subject()))?;
    results.line(&format!("keyid       {}", certificate.keyid()))?;
    results.finish()?;
    Ok(Ending::Done)
}

fn kind(args: &KeygenArgs) -> anyhow::Result<NewKey> {
    Ok(match (args.kind, args.bits) {
        (KeyType::Rsa, Some(2048)) => NewKey::Rsa(RsaBits::B2048),
        (KeyType::Rsa, None | Some(3072)) => NewKey::Rsa(RsaBits::B3072),
        (KeyType::Rsa, Some(4096)) => NewKey::Rsa(RsaBits::B4096),
        (KeyType::P256, None) => NewKey::Ec(Curve::P256),
        (KeyType::P384, None) => NewKey::Ec(Curve::P384),
        (_, Some(bits)) => bail!("--bits {bits} does not go with this type of key"),
    })
}

fn make_certificate(args: &KeygenArgs, key: &SigningKey) -> anyhow::Result<Vec<u8>> {
    let purpose = if args.ca { Purpose::Authority } else { Purpose::Files };
    let issuer = match (&args.ca_key, &args.ca_cert) {
        (Some(ca_key), Some(ca_cert)) => {
            let (ca_key, _) = read_key(ca_key)?;
            let Some(certificate) = read_certificates(ca_cert)?.into_iter().next() else {
                bail!("no certificate in {}", ca_cert.display());
            };
            Some((ca_key, certificate))
        }
        _ => None,
    };
    let authority = issuer.as_ref().map(|(key, certificate)| Authority { key, certificate });
    certify::certify(key, &args.subject, purpose, authority, OffsetDateTime::now_utc(), args.days)
        .context("cannot make the certificate")
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
