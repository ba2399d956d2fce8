//! Which certificates may join a restricted ring. The certificates are made by OpenSSL while the test runs.
//!
//! Needs the `openssl` program (3.0 or newer); without it each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Stdio};

use ima::Digest;
use keyring::{Added, AdmissionError, Certificate, Keyring, vouched_for};

fn have_openssl() -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
        eprintln!("skipped: the openssl program is not installed");
    }
    found
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a test certificate is like.
#[derive(Clone, Copy)]
struct Made<'a> {
    name: &'a str,
    subject: &'a str,
    /// The one that signs it; none: itself.
    by: Option<&'a str>,
    extensions: &'a str,
}

const SIGNER: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\n";
const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=hash\n";

fn make(dir: &Path, made: Made<'_>) -> Certificate {
    let Made { name, subject, by, extensions } = made;
    let (key, request, out) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.der"));
    let config = format!("{name}.ext");
    std::fs::write(dir.join(&config), extensions).unwrap();
    openssl(dir, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
    openssl(dir, &["req", "-new", "-key", &key, "-subj", subject, "-out", &request]);
    let mut sign = vec![
        "x509", "-req", "-in", &request, "-days", "30", "-extfile", &config, "-out", &out, "-outform", "DER",
    ];
    let (issuer, issuer_key);
    match by {
        Some(by) => {
            (issuer, issuer_key) = (format!("{by}.der"), format!("{by}.key"));
            sign.extend(["-CA", &issuer, "-CAform", "DER", "-CAkey", &issuer_key, "-CAcreateserial"]);
        }
        None => sign.extend(["-key", &key]),
    }
    openssl(dir, &sign);
    Certificate::from_der(&std::fs::read(dir.join(out)).unwrap()).unwrap()
}

fn ring(certificates: impl IntoIterator<Item = Certificate>) -> Keyring {
    let ring = Keyring::new("trust");
    for certificate in certificates {
        assert!(matches!(ring.add(certificate), Added::New));
    }
    ring
}

#[test]
fn a_signer_whose_issuer_is_trusted_joins_however_the_issuer_is_named() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Made { name: "root", subject: "/CN=root", by: None, extensions: AUTHORITY };
    let trust = ring([make(dir.path(), root)]);
    for (name, authority) in [
        ("by-name", "authorityKeyIdentifier=none"),
        ("by-identifier", "authorityKeyIdentifier=keyid:always"),
        ("by-serial", "authorityKeyIdentifier=issuer:always"),
        ("by-both", "authorityKeyIdentifier=keyid:always,issuer:always"),
    ] {
        let extensions = format!("{SIGNER}subjectKeyIdentifier=hash\n{authority}\n");
        let leaf = Made { name, subject: "/CN=leaf", by: Some("root"), extensions: &extensions };
        assert_eq!(vouched_for(&make(dir.path(), leaf), &trust), Ok(()), "{name}");
    }
}

#[test]
fn who_is_not_vouched_for_stays_out() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Made { name: "root", subject: "/CN=root", by: None, extensions: AUTHORITY };
    let other = Made { name: "other", subject: "/CN=other", ..root };
    // The same name as the trusted one, and another key.
    let namesake = Made { name: "namesake", subject: "/CN=root", ..root };
    let trusted = make(dir.path(), root);
    let keyid = trusted.keyid();
    let trust = ring([trusted]);
    make(dir.path(), other);
    make(dir.path(), namesake);
    let named = format!("{SIGNER}authorityKeyIdentifier=none\n");
    let by = |name, by| Made { name, subject: "/CN=leaf", by: Some(by), extensions: &named };
    let good = make(dir.path(), by("good", "root"));
    assert_eq!(vouched_for(&good, &trust), Ok(()));
    let stranger = make(dir.path(), by("stranger", "other"));
    assert_eq!(vouched_for(&stranger, &trust), Err(AdmissionError::UnknownIssuer));
    let forged = make(dir.path(), by("forged", "namesake"));
    assert_eq!(vouched_for(&forged, &trust), Err(AdmissionError::BadSignature));
    assert_eq!(vouched_for(&good, &Keyring::new("empty")), Err(AdmissionError::UnknownIssuer));
    assert!(trust.revoke(keyid));
    assert_eq!(vouched_for(&good, &trust), Err(AdmissionError::RevokedIssuer));
}

#[test]
fn what_could_sign_certificates_or_does_not_say_it_signs_data_stays_out() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Made { name: "root", subject: "/CN=root", by: None, extensions: AUTHORITY };
    let trust = ring([make(dir.path(), root)]);
    for (name, extensions) in [
        ("no-usage", "basicConstraints=critical,CA:FALSE\n"),
        ("authority", "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature\n"),
        ("issues", "keyUsage=digitalSignature,keyCertSign\n"),
        ("encrypts", "keyUsage=keyEncipherment\n"),
    ] {
        let leaf = Made { name, subject: "/CN=leaf", by: Some("root"), extensions };
        assert_eq!(vouched_for(&make(dir.path(), leaf), &trust), Err(AdmissionError::NotASigner), "{name}");
    }
}

#[test]
fn a_self_signed_certificate_joins_only_if_it_is_trusted_already() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let extensions = format!("{SIGNER}subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    let own = Made { name: "own", subject: "/CN=own", by: None, extensions: &extensions };
    let own = make(dir.path(), own);
    assert_eq!(vouched_for(&own, &Keyring::new("empty")), Err(AdmissionError::UnknownIssuer));
    let again = Certificate::from_der(own.der()).unwrap();
    assert_eq!(vouched_for(&own, &ring([again])), Ok(()));
}

#[test]
fn what_is_verified_is_what_openssl_says_was_signed() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Made { name: "root", subject: "/CN=root", by: None, extensions: AUTHORITY };
    let trust = ring([make(dir.path(), root)]);
    let named = format!("{SIGNER}authorityKeyIdentifier=none\n");
    let leaf = Made { name: "leaf", subject: "/CN=leaf", by: Some("root"), extensions: &named };
    let leaf = make(dir.path(), leaf);
    // What was signed is the TBSCertificate, whose digest OpenSSL gives too.
    openssl(
        dir.path(),
        &["asn1parse", "-inform", "DER", "-in", "leaf.der", "-strparse", "4", "-out", "tbs", "-noout"],
    );
    let output = Command::new("openssl")
        .current_dir(dir.path())
        .args(["dgst", "-sha256", "-r", "tbs"])
        .output()
        .unwrap();
    let hex = String::from_utf8(output.stdout).unwrap();
    let bytes = hex::decode(hex.split(' ').next().unwrap()).unwrap();
    assert_eq!(leaf.tbs_digest(), Digest::new(ima::HashAlgo::Sha256, &bytes).unwrap());
    assert_eq!(vouched_for(&leaf, &trust), Ok(()));
}
