//! Signatures and certificates OpenSSL makes while the test runs: every key kind with every hash.
//!
//! Needs the `openssl` program (3.0 or newer); without it each test says so and passes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use ima::{Digest, HashAlgo};
use keyring::{
    Added, CertError, Certificate, KeyError, KeyIdSource, KeyKind, Keyring, SignatureError, VerifyError,
};

const HASHES: [(HashAlgo, &str); 9] = [
    (HashAlgo::Sha1, "sha1"),
    (HashAlgo::Sha224, "sha224"),
    (HashAlgo::Sha256, "sha256"),
    (HashAlgo::Sha384, "sha384"),
    (HashAlgo::Sha512, "sha512"),
    (HashAlgo::Sha3_256, "sha3-256"),
    (HashAlgo::Sha3_384, "sha3-384"),
    (HashAlgo::Sha3_512, "sha3-512"),
    (HashAlgo::Rmd160, "ripemd160"),
];

fn have_openssl() -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: the openssl program is not installed");
    }
    found
}

fn openssl(dir: &Path, args: &[&str]) -> bool {
    let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    output.status.success()
}

fn newkey(dir: &Path, name: &str, kind: &str) {
    let made = match kind.strip_prefix("rsa:") {
        Some(bits) => {
            let bits = format!("rsa_keygen_bits:{bits}");
            openssl(dir, &["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", name])
        }
        None => {
            let curve = format!("ec_paramgen_curve:{kind}");
            openssl(dir, &["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", name])
        }
    };
    assert!(made, "openssl genpkey {kind}");
}

fn self_signed(dir: &Path, key: &str, extra: &[&str]) -> Result<Certificate, CertError> {
    let mut args = vec!["req", "-x509", "-key", key, "-subj", "/CN=test", "-days", "2", "-out", "c.pem"];
    args.extend_from_slice(extra);
    assert!(openssl(dir, &args), "openssl {args:?}");
    Certificate::from_pem_or_der(&std::fs::read(dir.join("c.pem")).unwrap()).map(|mut all| all.remove(0))
}

/// `None` where openssl refuses the pair.
fn sign(dir: &Path, key: &str, hash: &str, digest: &[u8]) -> Option<Vec<u8>> {
    std::fs::write(dir.join("digest"), digest).unwrap();
    let option = format!("digest:{hash}");
    let args = ["pkeyutl", "-sign", "-inkey", key, "-pkeyopt", &option, "-in", "digest", "-out", "sig"];
    openssl(dir, &args).then(|| std::fs::read(dir.join("sig")).unwrap())
}

fn check_all_hashes(kind: &str) {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "k", kind);
    newkey(dir.path(), "other", kind);
    let certificate = self_signed(dir.path(), "k", &[]).unwrap();
    let stranger = self_signed(dir.path(), "other", &[]).unwrap();
    let key = certificate.public_key();
    for (algo, name) in HASHES {
        let digest = ima::hash(algo, b"hello\n").unwrap();
        let Some(signature) = sign(dir.path(), "k", name, digest.bytes()) else {
            panic!("openssl does not sign {name} with {kind}");
        };
        if matches!(key.kind(), KeyKind::Ec(_)) && algo == HashAlgo::Rmd160 {
            let refusal = SignatureError::UnsupportedHash { kind: key.kind(), algo };
            assert_eq!(key.verify(&digest, &signature), Err(refusal));
            continue;
        }
        assert_eq!(key.verify(&digest, &signature), Ok(()), "{kind} {name}");

        let mut bent = digest.bytes().to_vec();
        bent[0] ^= 0x80;
        let bent = Digest::new(algo, &bent).unwrap();
        assert_eq!(key.verify(&bent, &signature), Err(SignatureError::Mismatch), "{kind} {name}");
        assert!(stranger.public_key().verify(&digest, &signature).is_err(), "{kind} {name}");
        let mut cut = signature.clone();
        cut[signature.len() / 2] ^= 1;
        assert!(key.verify(&digest, &cut).is_err(), "{kind} {name}");
    }
}

#[test]
fn rsa_2048_verifies_what_openssl_signs() {
    check_all_hashes("rsa:2048");
}

#[test]
fn rsa_of_an_odd_size_verifies_what_openssl_signs() {
    check_all_hashes("rsa:2050");
}

#[test]
fn rsa_4096_verifies_what_openssl_signs() {
    check_all_hashes("rsa:4096");
}

#[test]
fn p256_verifies_what_openssl_signs() {
    check_all_hashes("P-256");
}

#[test]
fn p384_verifies_what_openssl_signs() {
    check_all_hashes("P-384");
}

#[test]
fn p521_verifies_what_openssl_signs() {
    check_all_hashes("P-521");
}

#[test]
fn weak_and_foreign_keys_are_refused_by_name() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "small", "rsa:1024");
    newkey(dir.path(), "large", "rsa:4104");
    newkey(dir.path(), "koblitz", "secp256k1");
    assert!(openssl(dir.path(), &["genpkey", "-algorithm", "ED25519", "-out", "ed"]));
    assert!(openssl(dir.path(), &["ec", "-in", "koblitz", "-conv_form", "compressed", "-out", "x"]));
    let refused = |key: &str| self_signed(dir.path(), key, &[]).unwrap_err();
    assert!(matches!(refused("small"), CertError::Key(KeyError::RsaSize { bits: 1024 })));
    assert!(matches!(refused("large"), CertError::Key(KeyError::RsaSize { bits: 4104 })));
    assert!(
        matches!(refused("koblitz"), CertError::Key(KeyError::UnsupportedType { oid }) if oid == "1.3.132.0.10")
    );
    assert!(matches!(refused("ed"), CertError::UnsupportedSignature { oid } if oid == "1.3.101.112"));
}

#[test]
fn a_compressed_point_is_refused() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "k", "P-256");
    assert!(openssl(dir.path(), &["ec", "-in", "k", "-conv_form", "compressed", "-out", "c"]));
    assert!(matches!(self_signed(dir.path(), "c", &[]), Err(CertError::Key(KeyError::EcPoint))));
}

#[test]
fn a_certificate_without_identifier_is_found_by_its_key_and_says_so() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "k", "P-256");
    let bare = self_signed(dir.path(), "k", &["-addext", "subjectKeyIdentifier=none"]).unwrap();
    let full = self_signed(dir.path(), "k", &["-addext", "subjectKeyIdentifier=hash"]).unwrap();
    assert_eq!(bare.keyid_source(), KeyIdSource::PublicKeyHash);
    assert_eq!(full.keyid_source(), KeyIdSource::SubjectKeyIdentifier);
    assert_eq!(bare.keyid(), full.keyid());
}

#[test]
fn of_two_certificates_with_one_keyid_the_first_answers() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "first", "P-256");
    newkey(dir.path(), "second", "P-256");
    let identifier = ["-addext", "subjectKeyIdentifier=00112233445566778899aabbccddeeffdeadbeef"];
    let first = self_signed(dir.path(), "first", &identifier).unwrap();
    let second = self_signed(dir.path(), "second", &identifier).unwrap();
    let keyid = first.keyid();
    assert_eq!(keyid, second.keyid());
    let digest = ima::hash(HashAlgo::Sha256, b"hello\n").unwrap();
    let by_first = sign(dir.path(), "first", "sha256", digest.bytes()).unwrap();
    let by_second = sign(dir.path(), "second", "sha256", digest.bytes()).unwrap();

    let ring = Keyring::new("_ima");
    assert!(matches!(ring.add(first), Added::New));
    let generation = ring.generation();
    let Added::Shadowed { by } = ring.add(second) else { panic!("a collision went unnoticed") };
    assert_eq!(by.keyid(), keyid);
    assert_eq!(ring.generation(), generation, "no answer changed");
    assert_eq!(ring.list().len(), 2);
    assert_eq!(ring.verify(keyid, &digest, &by_first), Ok(()));
    assert_eq!(ring.verify(keyid, &digest, &by_second), Err(VerifyError::BadSignature));
}

#[test]
fn an_authority_is_told_from_an_end_entity() {
    if !have_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    newkey(dir.path(), "k", "P-256");
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=digitalSignature"];
    assert!(self_signed(dir.path(), "k", &leaf).unwrap().is_end_entity_signer());
    assert!(!self_signed(dir.path(), "k", &[]).unwrap().is_end_entity_signer());
}
