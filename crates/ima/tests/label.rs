//! Labels: every row of the kernel's malformed values, the signature vectors, and properties of the readers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use ima::{
    Digest, HashAlgo, KeyId, LabelType, ParseError, collection_algo, digest_matches, encode_digest,
    encode_signature, file_id_digest, hash,
    label::{EncodeError, signature_version},
    label_type, parse_signature,
};
use proptest::prelude::*;

/// Version 2, ECDSA P-256 over the digest of `hello\n`; the key's certificate is `data/ec-certificate.der`.
const EC_V2: &str = "030204d2d8a49d004730450220433bbb9888fb63ddf53308b80c3e73993cdaced49d46c4538178cee30075ca52022100bd\
                     f00e6cadb46911375f8df712d06474caf986c13b99e4862027c2a20cf476bb";
/// Version 3 over an fs-verity digest, same key.
const EC_V3_VERITY: &str = "060304d2d8a49d0047304502207acae72e0032b4f0d896fc08b473a34979acf6cf68f0da5001507668e8c53ea90\
                            22100dceb6983f0fc0f13d30ac7ed88adbf8c09ed145488306cb030a10acfff66334d";
/// Version 3 over an ordinary digest, same key (Linux 7.1).
const EC_V3: &str = "030304d2d8a49d00483046022100e31243c3e687f1a8409e2afd351a05d56b0326f744a51ed3c2b0f5d3c46c4de502210\
                     0e3ef9a58d50ff68d9f5e050d1605ba801606396f8a11c6fd8c8d94927474a3d6";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn hello(algo: HashAlgo) -> Digest {
    hash(algo, b"hello\n").unwrap()
}

#[test]
fn collection_algorithm_follows_the_label() {
    use HashAlgo::{Md4, Md5, Rmd160, Sha1, Sha3_512, Sha256, Sha384, Sha512};
    let md5_padded = format!("01{}00000000", "aa".repeat(16));
    let table: &[(&str, HashAlgo)] = &[
        ("", Sha256),
        ("03", Sha256),
        ("04", Sha256),
        ("030206d2d8a49d0001", Sha256),
        ("030206d2d8a49d0001ff", Sha512),
        ("030206d2d8a49d0009ff", Sha512),
        ("030205d2d8a49d0001ff", Sha384),
        ("030217d2d8a49d0001ff", Sha256),
        ("030106d2d8a49d0001ff", Sha256),
        ("030306d2d8a49d0001ff", Sha256),
        ("060306d2d8a49d0001ff", Sha512),
        ("060306d2d8a49d0001", Sha256),
        ("060206d2d8a49d0001ff", Sha256),
        ("050206d2d8a49d0001ff", Sha256),
        ("0406", Sha512),
        ("0400", Md4),
        ("0414ff", HashAlgo::Sha3_256),
        ("0416", Sha3_512),
        ("0417", Sha256),
        ("04ff", Sha256),
        ("0403aa", Rmd160),
        (&md5_padded, Md5),
        ("01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Md5),
        ("01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Sha1),
        ("01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000001", Sha1),
        ("01aaaa", Sha256),
        ("0006aa", Sha256),
        ("0206aa", Sha256),
        ("0706aa", Sha256),
        ("ff06aa", Sha256),
    ];
    for (label, algo) in table {
        assert_eq!(collection_algo(Some(&bytes(label)), Sha256), *algo, "{label}");
    }
    assert_eq!(collection_algo(None, Sha384), Sha384);
}

#[test]
fn digests_match_by_their_prefix() {
    let (sha1, sha256) = (hello(HashAlgo::Sha1), hello(HashAlgo::Sha256));
    let (hex1, hex256) = (sha1.to_hex(), sha256.to_hex());
    let table: &[(&str, &Digest, bool)] = &[
        (&format!("0404{hex256}"), &sha256, true),
        (&format!("0404{hex256}00ff"), &sha256, true),
        (&format!("04ff{hex256}"), &sha256, true),
        (&format!("01{hex256}"), &sha256, true),
        (&format!("01{hex1}"), &sha1, true),
        (&format!("0402{hex1}"), &sha1, true),
        (&format!("0402{hex256}"), &sha1, false),
        (&format!("0404{hex1}"), &sha256, false),
        (&format!("0404{}", &hex256[..62]), &sha256, false),
        (&format!("01{}", &hex1[..38]), &sha1, false),
        (&format!("0204{hex256}"), &sha256, false),
        (&format!("0304{hex256}"), &sha256, false),
        (&format!("0004{hex256}"), &sha256, false),
        ("", &sha256, false),
        ("01", &sha256, false),
        ("04", &sha256, false),
        ("0404", &sha256, false),
    ];
    for (label, digest, expected) in table {
        assert_eq!(digest_matches(&bytes(label), digest), *expected, "{label}");
    }
}

#[test]
fn md5_in_twenty_bytes_matches() {
    let label = bytes("01b1946ac92492d2347c6235b4d261118400000000");
    let algo = collection_algo(Some(&label), HashAlgo::Sha256);
    assert!(digest_matches(&label, &hello(algo)));
}

#[test]
fn a_changed_digest_byte_does_not_match() {
    let digest = hello(HashAlgo::Sha256);
    let label = encode_digest(&digest);
    for at in 2..label.len() {
        let mut changed = label.clone();
        changed[at] ^= 0x80;
        assert!(!digest_matches(&changed, &digest), "byte {at}");
    }
}

#[test]
fn digest_labels_are_written_as_the_kernel_writes_them() {
    assert_eq!(
        hex::encode(encode_digest(&hello(HashAlgo::Sha256))),
        "04045891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    );
    assert_eq!(
        hex::encode(encode_digest(&hello(HashAlgo::Sha1))),
        "01f572d396fae9206628714fb2ce00f72e94f2258f"
    );
    assert_eq!(hex::encode(encode_digest(&hello(HashAlgo::Md5))), "01b1946ac92492d2347c6235b4d2611184");
    assert_eq!(encode_digest(&hello(HashAlgo::Rmd160))[..2], [0x04, 0x03]);
}

#[test]
fn signature_vectors_are_taken_apart_and_put_together() {
    for (label, label_type, version) in [
        (EC_V2, LabelType::Signature, 2),
        (EC_V3, LabelType::Signature, 3),
        (EC_V3_VERITY, LabelType::VeritySignature, 3),
    ] {
        let label = bytes(label);
        let signature = parse_signature(&label).unwrap();
        assert_eq!((signature.label_type, signature.version), (label_type, version));
        assert_eq!(signature.algo, Some(HashAlgo::Sha256));
        assert_eq!(signature.keyid, KeyId(0xd2d8_a49d));
        assert_eq!(signature.signature, &label[9..]);
        let again = encode_signature(
            signature.label_type,
            signature.version,
            HashAlgo::Sha256,
            signature.keyid,
            signature.signature,
        );
        assert_eq!(again, Ok(label));
    }
}

#[test]
fn malformed_signatures_are_refused_for_the_reason_the_kernel_finds_first() {
    use ParseError::{Empty, Length, NoVersion, NotASignature, Obsolete, Version};
    let table: &[(&str, ParseError)] = &[
        ("", Empty),
        ("00", NotASignature(LabelType::Other(0))),
        ("01aa", NotASignature(LabelType::Digest)),
        ("02", NotASignature(LabelType::Hmac)),
        ("0404aa", NotASignature(LabelType::DigestNg)),
        ("07", NotASignature(LabelType::Other(7))),
        ("ff", NotASignature(LabelType::Other(0xff))),
        ("03", NoVersion),
        ("0300", Version(0)),
        ("0301", Obsolete),
        ("0302", Length { found: 2 }),
        ("0304", Version(4)),
        ("0309", Version(9)),
        ("0602", Version(2)),
        ("0604", Version(4)),
        ("0603", Length { found: 2 }),
        ("030204d2d8a49d00", Length { found: 8 }),
        ("030204d2d8a49d0000", Length { found: 9 }),
        ("030204d2d8a49d0000ff", Length { found: 10 }),
        ("030204d2d8a49d0001", Length { found: 9 }),
        ("030204d2d8a49d0001ffff", Length { found: 11 }),
        ("030204d2d8a49d0002ff", Length { found: 10 }),
        ("030204d2d8a49d0100ff", Length { found: 10 }),
    ];
    for (label, error) in table {
        assert_eq!(parse_signature(&bytes(label)), Err(*error), "{label}");
    }
    assert_eq!(parse_signature(&bytes("030217d2d8a49d0001ff")).unwrap().algo, None);
    assert_eq!(signature_version(&bytes("0309")), Some(9));
    assert_eq!(signature_version(&bytes("03")), None);
    assert_eq!(signature_version(&bytes("0402")), None);
}

#[test]
fn every_truncation_and_every_extension_of_a_signature_is_refused() {
    for vector in [EC_V2, EC_V3, EC_V3_VERITY] {
        let label = bytes(vector);
        for length in 2..label.len() {
            assert_eq!(parse_signature(&label[..length]), Err(ParseError::Length { found: length }));
        }
        let longer = [label.as_slice(), &[0]].concat();
        assert_eq!(parse_signature(&longer), Err(ParseError::Length { found: longer.len() }));
    }
}

#[test]
fn what_is_no_signature_cannot_be_written_as_one() {
    let write =
        |label_type, signature: &[u8]| encode_signature(label_type, 2, HashAlgo::Sha256, KeyId(1), signature);
    assert_eq!(write(LabelType::DigestNg, &[1]), Err(EncodeError::NotASignature(LabelType::DigestNg)));
    assert_eq!(write(LabelType::Signature, &[]), Err(EncodeError::SignatureLength(0)));
    assert_eq!(write(LabelType::Signature, &[0; 65_536]), Err(EncodeError::SignatureLength(65_536)));
    assert_eq!(write(LabelType::Signature, &[0; 65_535]).map(|label| label.len()), Ok(65_544));
}

#[test]
fn version_three_signs_type_algorithm_and_digest() {
    let digest = hello(HashAlgo::Sha256);
    assert_eq!(
        file_id_digest(LabelType::VeritySignature, &digest).unwrap().to_hex(),
        "75dec10f66abb0e5f226d4f2d90544a5b4fc50d714bbcad0711888e4a6c88b41"
    );
    assert_eq!(
        file_id_digest(LabelType::Signature, &digest).unwrap().to_hex(),
        "221f1a2aabd12ac7b4e500b6afce85ceb9851f40f7892c7c5c5b4b3c69ccd85e"
    );
    assert!(file_id_digest(LabelType::Signature, &Digest::zero(HashAlgo::Md4)).is_err());
}

#[test]
fn types_up_to_six_can_be_stored() {
    for byte in 0..=u8::MAX {
        let label_type = LabelType::from_byte(byte);
        assert_eq!(label_type.byte(), byte);
        assert_eq!(label_type.is_storable(), byte < 7);
        assert_eq!(label_type.is_signature(), matches!(byte, 3 | 5 | 6));
    }
    assert_eq!(label_type(&[]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(mut label in proptest::collection::vec(any::<u8>(), 0..80), first in 0u8..9) {
        if let Some(byte) = label.first_mut() {
            *byte = first;
        }
        let algo = collection_algo(Some(&label), HashAlgo::Sha256);
        digest_matches(&label, &Digest::zero(algo));
        if let Ok(signature) = parse_signature(&label) {
            prop_assert_eq!(signature.signature.len() + 9, label.len());
        }
    }

    #[test]
    fn digest_labels_round_trip(id in 0u8..23, bytes in proptest::collection::vec(any::<u8>(), 64)) {
        let algo = HashAlgo::from_id(id).unwrap();
        let digest = Digest::new(algo, &bytes[..algo.digest_len()]).unwrap();
        let label = encode_digest(&digest);
        prop_assert!(digest_matches(&label, &digest));
        // The `01` form does not say which of MD4 and MD5 it is, and takes a SHA-1 that ends in zeros for MD5.
        if algo != HashAlgo::Md4 && !(algo == HashAlgo::Sha1 && digest.bytes().ends_with(&[0; 4])) {
            prop_assert_eq!(collection_algo(Some(&label), HashAlgo::Sha512), algo);
        }
    }

    #[test]
    fn signature_labels_round_trip(
        version in 2u8..=3,
        id in 0u8..23,
        keyid in any::<u32>(),
        signature in proptest::collection::vec(any::<u8>(), 1..600),
    ) {
        let algo = HashAlgo::from_id(id).unwrap();
        let label = encode_signature(LabelType::Signature, version, algo, KeyId(keyid), &signature).unwrap();
        let parsed = parse_signature(&label).unwrap();
        prop_assert_eq!(parsed.signature, &signature[..]);
        prop_assert_eq!((parsed.version, parsed.algo, parsed.keyid), (version, Some(algo), KeyId(keyid)));
    }
}
