//! The published vectors: certificates and labels made by OpenSSL, and each way they can go wrong.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use ima::{Digest, HashAlgo, KeyId};
use keyring::{Added, Blacklist, CertError, Certificate, Curve, KeyIdSource, KeyKind, Keyring, VerifyError};

const EC: &[u8] = include_bytes!("../testdata/vector-ec.pem");
const RSA: &[u8] = include_bytes!("../testdata/vector-rsa.pem");
const EC_LABEL: &str = include_str!("../testdata/vector-ec.label");
const RSA_LABEL: &str = include_str!("../testdata/vector-rsa.label");
const EC_V3_VERITY: &str = include_str!("../testdata/vector-ec-v3-verity.label");
const EC_V3_FILE: &str = include_str!("../testdata/vector-ec-v3-file.label");

const EXPIRED: &[u8] = include_bytes!("../testdata/expired.pem");
const EXPIRED_LABEL: &str = include_str!("../testdata/expired.label");

const HELLO_SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
/// SHA-256 of the two `ima_file_id` structures over that digest, types 06 and 03.
const FILE_ID_06: &str = "75dec10f66abb0e5f226d4f2d90544a5b4fc50d714bbcad0711888e4a6c88b41";
const FILE_ID_03: &str = "221f1a2aabd12ac7b4e500b6afce85ceb9851f40f7892c7c5c5b4b3c69ccd85e";

fn one(pem: &[u8]) -> Certificate {
    let mut all = Certificate::from_pem_or_der(pem).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn ring() -> Keyring {
    let ring = Keyring::new(".ima");
    assert!(matches!(ring.add(one(EC)), Added::New));
    assert!(matches!(ring.add(one(RSA)), Added::New));
    ring
}

fn digest(hex_digest: &str) -> Digest {
    Digest::new(HashAlgo::Sha256, &hex::decode(hex_digest).unwrap()).unwrap()
}

fn check(ring: &Keyring, label: &[u8], digest: &Digest) -> Result<(), VerifyError> {
    let parsed = ima::parse_signature(label).unwrap();
    ring.verify(parsed.keyid, digest, parsed.signature)
}

fn label(text: &str) -> Vec<u8> {
    hex::decode(text.trim()).unwrap()
}

#[test]
fn certificates_say_who_they_are() {
    let ec = one(EC);
    assert_eq!(ec.keyid(), KeyId(0xd2d8_a49d));
    assert_eq!(ec.keyid_source(), KeyIdSource::SubjectKeyIdentifier);
    assert_eq!(ec.subject(), "CN=imafs spec vector EC");
    assert_eq!(ec.key_kind(), KeyKind::Ec(Curve::P256));
    assert!(ec.is_end_entity_signer());
    assert_eq!(
        ec.fingerprint_sha256().to_hex(),
        "868b3b505c348601a298f893e4ef14d824b6b2beb31963aea31871294218c4b4"
    );
    assert_eq!(
        ec.subject_key_identifier().map(hex::encode).as_deref(),
        Some("6666df2515620b7ba97381e780460de5d2d8a49d")
    );
    let rsa = one(RSA);
    assert_eq!((rsa.keyid(), rsa.key_kind()), (KeyId(0xeb6e_88f7), KeyKind::Rsa(2048)));
}

#[test]
fn an_openssl_identifier_is_the_sha1_of_the_key() {
    for pem in [EC, RSA] {
        let certificate = one(pem);
        assert_eq!(
            Some(&certificate.public_key().sha1_identifier()[..]),
            certificate.subject_key_identifier()
        );
        assert_eq!(certificate.public_key().sha1_keyid(), certificate.keyid());
    }
}

#[test]
fn published_labels_verify() {
    let ring = ring();
    for (text, signed) in [
        (EC_LABEL, HELLO_SHA256),
        (RSA_LABEL, HELLO_SHA256),
        (EC_V3_VERITY, FILE_ID_06),
        (EC_V3_FILE, FILE_ID_03),
    ] {
        assert_eq!(check(&ring, &label(text), &digest(signed)), Ok(()), "{text}");
    }
}

#[test]
fn a_version_3_label_does_not_sign_the_file_digest_itself() {
    for text in [EC_V3_VERITY, EC_V3_FILE] {
        assert_eq!(check(&ring(), &label(text), &digest(HELLO_SHA256)), Err(VerifyError::BadSignature));
    }
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let ring = ring();
    let hello = digest(HELLO_SHA256);
    for text in [EC_LABEL, RSA_LABEL] {
        let good = label(text);
        let parsed = ima::parse_signature(&good).unwrap();
        for bit in 0..parsed.signature.len() * 8 {
            let mut bent = parsed.signature.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ring.verify(parsed.keyid, &hello, &bent), Err(VerifyError::BadSignature), "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_any_extra_byte_of_a_signature_is_refused() {
    let ring = ring();
    let hello = digest(HELLO_SHA256);
    for text in [EC_LABEL, RSA_LABEL] {
        let good = label(text);
        let parsed = ima::parse_signature(&good).unwrap();
        for len in 0..parsed.signature.len() {
            assert!(ring.verify(parsed.keyid, &hello, &parsed.signature[..len]).is_err(), "{len} bytes");
        }
        let longer = [parsed.signature, &[0]].concat();
        assert!(ring.verify(parsed.keyid, &hello, &longer).is_err());
    }
    let rsa = label(RSA_LABEL);
    assert_eq!(
        ring.verify(KeyId(0xeb6e_88f7), &hello, &rsa[10..]),
        Err(VerifyError::SignatureLength { expected: 256, found: 255 })
    );
}

#[test]
fn another_digest_another_algorithm_and_another_key_are_refused() {
    let ring = ring();
    let mut other = hex::decode(HELLO_SHA256).unwrap();
    other[31] ^= 1;
    let other = Digest::new(HashAlgo::Sha256, &other).unwrap();
    let rsa = label(RSA_LABEL);
    let signature = &rsa[9..];
    assert_eq!(check(&ring, &rsa, &other), Err(VerifyError::BadSignature));

    let renamed = Digest::new(HashAlgo::Sha3_256, &hex::decode(HELLO_SHA256).unwrap()).unwrap();
    assert_eq!(check(&ring, &rsa, &renamed), Err(VerifyError::BadSignature));

    let md5 = Digest::new(HashAlgo::Md5, &[7; 16]).unwrap();
    assert_eq!(
        ring.verify(KeyId(0xeb6e_88f7), &md5, signature),
        Err(VerifyError::Unsupported { kind: KeyKind::Rsa(2048), algo: HashAlgo::Md5 })
    );
    assert_eq!(
        ring.verify(KeyId(0xd2d8_a49d), &digest(HELLO_SHA256), signature),
        Err(VerifyError::BadSignature)
    );
    assert_eq!(
        ring.verify(KeyId(0xeb6e_88f8), &digest(HELLO_SHA256), signature),
        Err(VerifyError::UnknownKey { keyid: KeyId(0xeb6e_88f8) })
    );
}

#[test]
fn revoking_and_removing_end_a_key_and_raise_the_generation() {
    let ring = ring();
    let hello = digest(HELLO_SHA256);
    let keyid = KeyId(0xeb6e_88f7);
    let rsa = label(RSA_LABEL);
    let start = ring.generation();
    assert!(matches!(ring.add(one(RSA)), Added::Present));
    assert_eq!(ring.generation(), start);

    assert_eq!(ring.remove(keyid), 1);
    assert!(ring.generation() > start);
    assert_eq!(check(&ring, &rsa, &hello), Err(VerifyError::UnknownKey { keyid }));

    assert!(matches!(ring.add(one(RSA)), Added::New));
    assert_eq!(check(&ring, &rsa, &hello), Ok(()));
    let before = ring.generation();
    assert!(ring.revoke(keyid));
    assert!(!ring.revoke(keyid));
    assert!(ring.generation() > before);
    assert_eq!(check(&ring, &rsa, &hello), Err(VerifyError::Revoked { keyid }));
    assert_eq!(check(&ring, &label(EC_LABEL), &hello), Ok(()), "the other key still answers");
}

/// The digests are `openssl dgst` over what `openssl asn1parse -strparse 4 -noout -out` cuts out of the certificates.
#[test]
fn a_blacklisted_certificate_is_taken_by_no_ring_and_the_others_are() {
    assert_eq!(
        one(EC).tbs_digest().to_string(),
        "sha256:e180132430a6cf6250737977ffb1ee1ac1ab848ed514d4636e4e5bf324eb34e4"
    );
    let list = b"tbs:e180132430a6cf6250737977ffb1ee1ac1ab848ed514d4636e4e5bf324eb34e4\n";
    let ring = Keyring::with_blacklist("_ima", Blacklist::parse(list).unwrap().into());
    assert!(matches!(ring.add(one(EC)), Added::Blacklisted));
    assert!(matches!(ring.add(one(RSA)), Added::New));
    assert_eq!(ring.list().len(), 1);
    let keyid = KeyId(0xd2d8_a49d);
    let refused = check(&ring, &label(EC_LABEL), &digest(HELLO_SHA256));
    assert_eq!(refused, Err(VerifyError::UnknownKey { keyid }));
    // A digest of content with the same bytes names no certificate.
    let list = b"bin:e180132430a6cf6250737977ffb1ee1ac1ab848ed514d4636e4e5bf324eb34e4\n";
    let ring = Keyring::with_blacklist("_ima", Blacklist::parse(list).unwrap().into());
    assert!(matches!(ring.add(one(EC)), Added::New));
}

#[test]
fn an_expired_certificate_keeps_verifying() {
    let ring = Keyring::new("_ima");
    assert!(matches!(ring.add(one(EXPIRED)), Added::New));
    assert_eq!(check(&ring, &label(EXPIRED_LABEL), &digest(HELLO_SHA256)), Ok(()));
    assert_eq!(check(&ring, &label(EXPIRED_LABEL), &digest(FILE_ID_03)), Err(VerifyError::BadSignature));
}

#[test]
fn every_truncation_of_a_certificate_is_refused() {
    for pem in [EC, RSA] {
        let der = one(pem).der().to_vec();
        for len in 0..der.len() {
            assert!(Certificate::from_der(&der[..len]).is_err(), "{len} bytes");
        }
        let trailing = [&der[..], &[0]].concat();
        assert!(matches!(Certificate::from_der(&trailing), Err(CertError::Malformed)));
    }
}

#[test]
fn every_flipped_bit_of_a_self_signed_certificate_is_refused_or_leaves_the_key() {
    let original = one(EC);
    for bit in 0..original.der().len() * 8 {
        let mut der = original.der().to_vec();
        der[bit / 8] ^= 1 << (bit % 8);
        // A flip inside one of the names makes it no longer self-signed, which is for its adder to judge.
        if let Ok(parsed) = Certificate::from_der(&der)
            && parsed.subject() == parsed.issuer()
        {
            assert_eq!(parsed.public_key(), original.public_key(), "bit {bit}");
            assert_eq!(parsed.keyid(), original.keyid(), "bit {bit}");
        }
    }
}

#[test]
fn what_is_not_a_certificate_is_named() {
    let key = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let encrypted =
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    let cut = b"-----BEGIN CERTIFICATE-----\nMAA=\n";
    assert!(matches!(Certificate::from_pem_or_der(b""), Err(CertError::Empty)));
    assert!(matches!(Certificate::from_pem_or_der(b"hello"), Err(CertError::Malformed)));
    assert!(matches!(Certificate::from_pem_or_der(key), Err(CertError::PrivateKey)));
    assert!(matches!(Certificate::from_pem_or_der(encrypted), Err(CertError::PrivateKey)));
    assert!(matches!(Certificate::from_pem_or_der(cut), Err(CertError::Pem)));
    assert!(matches!(Certificate::from_der(&[0x30; 70_000]), Err(CertError::TooLong { len: 70_000 })));
}

#[test]
fn a_pem_text_may_hold_several_certificates_and_a_key() {
    let text = [EC, b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", RSA].concat();
    let all = Certificate::from_pem_or_der(&text).unwrap();
    assert_eq!(
        all.iter().map(Certificate::keyid).collect::<Vec<_>>(),
        [KeyId(0xd2d8_a49d), KeyId(0xeb6e_88f7)]
    );
    let der = Certificate::from_pem_or_der(all[0].der()).unwrap();
    assert_eq!(der[0].keyid(), KeyId(0xd2d8_a49d));
}

proptest::proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        assert!(Certificate::from_der(&bytes).is_err());
        assert!(keyring::PublicKey::from_spki_der(&bytes).is_err());
        let _outcome = Certificate::from_pem_or_der(&bytes);
    }

    #[test]
    fn bent_certificates_never_panic(
        edits in proptest::collection::vec((0..800_usize, proptest::num::u8::ANY), 1..8)
    ) {
        let mut der = one(RSA).der().to_vec();
        for (at, byte) in edits {
            if let Some(slot) = der.get_mut(at) {
                *slot = byte;
            }
        }
        let _outcome = Certificate::from_der(&der);
    }
}
