//! The format against manifests that other tools made, and against everything that is nearly one.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::path::Path;

use ima::HashAlgo;
use keyring::{Added, Certificate, Keyring, VerifyError};
use manifest::{Builder, EncodeError, Envelope, FormatError, InvalidName, Manifest, seal, to_be_signed};
use proptest::prelude::*;

const NAMES: [&str; 2] = ["ec", "rsa"];

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
}

fn ring(name: &str) -> Keyring {
    let ring = Keyring::new("_ima");
    for certificate in Certificate::from_pem_or_der(&vector(&format!("{name}.pem"))).unwrap() {
        assert!(matches!(ring.add(certificate), Added::New));
    }
    ring
}

/// What a mount makes of these bytes.
fn believe(bytes: Vec<u8>, ring: &Keyring) -> Result<Manifest, String> {
    let envelope = Envelope::parse(bytes).map_err(|error| error.to_string())?;
    let verified = envelope.verify(ring).map_err(|error| error.to_string())?;
    verified.index().map_err(|error| error.to_string())
}

fn sha256(content: &[u8]) -> Vec<u8> {
    [&[4, 4], ima::hash(HashAlgo::Sha256, content).unwrap().bytes()].concat()
}

#[test]
fn what_other_tools_made_is_read_and_verified() {
    for name in NAMES {
        let manifest = believe(vector(&format!("{name}.manifest")), &ring(name)).unwrap();
        let header = manifest.header();
        assert_eq!((header.image.as_str(), header.serial), ("registry.example/web:1", 1_700_000_000));
        assert_eq!(header.entries, 4);
        let label = |path: &[u8]| manifest.find(path).and_then(|id| manifest.label(id)).map(<[u8]>::to_vec);
        assert_eq!(label(b"/bin/sh"), Some(sha256(b"a shell")));
        assert_eq!(label(b"/bin/bash"), Some(sha256(b"a shell")));
        assert_eq!(label(b"/etc/.hidden"), Some(b"nonsense is kept as it is".to_vec()));
        assert!(label(b"/bin/a name\nwith \xff\xfe").unwrap().starts_with(&[1]));
        for path in
            [&b"/bin/s"[..], b"/bin/sh/", b"/bin/shx", b"bin/sh", b"//bin/sh", b"/bin/./sh", b"", b"/"]
        {
            assert_eq!(label(path), None, "{}", path.escape_ascii());
        }
        assert_ne!(
            manifest.find(b"/bin/sh"),
            manifest.find(b"/bin/bash"),
            "each name has an entry of its own"
        );
    }
}

#[test]
fn what_is_written_is_what_other_tools_write() {
    let theirs = vector("ec.manifest");
    let mut builder = Builder::new("registry.example/web:1", 1_700_000_000).unwrap();
    for entry in Envelope::parse(theirs.clone()).unwrap().entries().collect::<Vec<_>>().into_iter().rev() {
        let entry = entry.unwrap();
        builder.add(entry.path.to_vec(), entry.label.to_vec()).unwrap();
    }
    let body = builder.body().unwrap();
    let trailer = ima::parse_signature(&theirs[body.len()..]).unwrap();
    let ours = seal(body, HashAlgo::Sha256, trailer.keyid, trailer.signature).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn every_changed_bit_of_a_manifest_refuses_it_whole() {
    let whole = vector("ec.manifest");
    let ring = ring("ec");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(believe(changed, &ring).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(believe(whole, &ring).is_ok());
}

#[test]
fn every_end_but_the_right_one_refuses_it() {
    let whole = vector("rsa.manifest");
    let ring = ring("rsa");
    for end in 0..whole.len() {
        assert!(believe(whole[..end].to_vec(), &ring).is_err(), "{end} bytes");
    }
    for more in [&b"\0"[..], b"more", &whole] {
        assert!(believe([&whole, more].concat(), &ring).is_err());
    }
}

#[test]
fn an_entry_under_another_path_refuses_it() {
    let whole = vector("ec.manifest");
    let text = |bytes: &[u8]| bytes.windows(8).position(|at| at == b"/bin/sh\x04").unwrap();
    let mut moved = whole.clone();
    let at = text(&moved);
    moved[at..at + 7].copy_from_slice(b"/bin/su");
    assert_eq!(believe(moved, &ring("ec")).unwrap_err(), "the signature does not match");
}

/// Who builds an image signs files that he has not written. One that is a manifest's body must not become a manifest.
#[test]
fn the_signature_of_a_file_is_none_of_a_manifest() {
    for name in NAMES {
        let file = vector(&format!("{name}-signed-as-a-file.manifest"));
        assert_eq!(believe(file.clone(), &ring(name)).unwrap_err(), "the signature does not match");
        // And it is indeed what a file with this content would have.
        let body_len = vector(&format!("{name}.manifest")).len();
        let body_len = (0..body_len).find(|at| ima::parse_signature(&file[*at..]).is_ok()).unwrap();
        let signature = ima::parse_signature(&file[body_len..]).unwrap();
        let digest = ima::hash(signature.algo.unwrap(), &file[..body_len]).unwrap();
        assert_eq!(ring(name).verify(signature.keyid, &digest, signature.signature), Ok(()));
    }
}

#[test]
fn a_key_that_goes_takes_the_manifest_with_it() {
    let ring = ring("ec");
    let manifest = believe(vector("ec.manifest"), &ring).unwrap();
    assert_eq!(manifest.reverify(&ring), Ok(()));
    let keyid = manifest.keyid();
    assert!(ring.revoke(keyid));
    assert_eq!(manifest.reverify(&ring), Err(VerifyError::Revoked { keyid }));
    let other = self::ring("rsa");
    assert_eq!(manifest.reverify(&other), Err(VerifyError::UnknownKey { keyid }));
    let refused = believe(vector("ec.manifest"), &other).unwrap_err();
    assert_eq!(refused, format!("no key {keyid} on the keyring"));
}

/// A manifest of these entries, in this order, as somebody may write it who does not keep to the format.
fn raw(count: u32, entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = Builder::new("web", 1).unwrap().body().unwrap();
    for (path, label) in entries {
        body.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
        body.extend(u16::try_from(label.len()).unwrap().to_le_bytes());
        body.extend(*path);
        body.extend(*label);
    }
    let length = u64::try_from(body.len()).unwrap();
    body[12..16].copy_from_slice(&count.to_le_bytes());
    body[16..24].copy_from_slice(&length.to_le_bytes());
    seal(body, HashAlgo::Sha256, "d2d8a49d".parse().unwrap(), &[1; 70]).unwrap()
}

fn first_error(bytes: Vec<u8>) -> Option<FormatError> {
    let envelope = Envelope::parse(bytes).unwrap();
    envelope.entries().find_map(Result::err)
}

#[test]
fn entries_that_are_none_are_refused_each_for_its_reason() {
    let path = |index, source| Some(FormatError::Path { index, source });
    let cases: Vec<(Vec<u8>, Option<FormatError>)> = vec![
        (raw(2, &[(b"/a", b"x"), (b"/b", b"y")]), None),
        (raw(0, &[]), None),
        (raw(2, &[(b"/b", b"x"), (b"/a", b"y")]), Some(FormatError::Order(1))),
        (raw(2, &[(b"/a", b"x"), (b"/a", b"x")]), Some(FormatError::Order(1))),
        (raw(1, &[(b"/a/../b", b"x")]), path(0, InvalidName::PathForm)),
        (raw(2, &[(b"/a", b"x"), (b"bb", b"y")]), path(1, InvalidName::PathForm)),
        (raw(1, &[(b"/a\0", b"x")]), path(0, InvalidName::PathForm)),
        (raw(1, &[(b"", b"x")]), path(0, InvalidName::PathLength(0))),
        (raw(1, &[(&[b'/'; 5000], b"x")]), path(0, InvalidName::PathLength(5000))),
        (raw(1, &[(b"/a", b"")]), Some(FormatError::Label(0))),
        (raw(3, &[(b"/a", b"x"), (b"/b", b"y")]), Some(FormatError::Truncated("entries"))),
        (raw(u32::MAX, &[(b"/a", b"x")]), Some(FormatError::Truncated("entries"))),
        (raw(1, &[(b"/a", b"x"), (b"/b", b"y")]), Some(FormatError::Trailing(7))),
        (raw(0, &[(b"/a", b"x")]), Some(FormatError::Trailing(7))),
    ];
    for (number, (bytes, error)) in cases.into_iter().enumerate() {
        assert_eq!(first_error(bytes), error, "case {number}");
    }
}

#[test]
fn headers_that_are_none_are_refused_each_for_its_reason() {
    let good = raw(1, &[(b"/a", b"x")]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Envelope::parse(changed).unwrap_err()
    };
    assert_eq!(with(0, b"IMAFSMAN"), FormatError::Magic);
    assert_eq!(with(8, &[2, 0]), FormatError::Version(2));
    assert_eq!(with(10, &[0, 0]), FormatError::Image(InvalidName::ImageLength(0)));
    assert_eq!(with(10, &[0xff, 0xff]), FormatError::Truncated("header"));
    assert_eq!(with(16, &u64::MAX.to_le_bytes()), FormatError::Truncated("entries"));
    assert_eq!(with(16, &34_u64.to_le_bytes()), FormatError::Truncated("entries"), "within the header");
    assert_eq!(with(32, b"\n"), FormatError::Image(InvalidName::ImageLetter));
    let trailer = good.len() - 79;
    // SHA-1, an unknown algorithm, fs-verity, version 3.
    for (at, byte) in [(2, 2), (2, 99), (0, 6), (1, 3)] {
        let error = with(trailer + at, &[byte]);
        assert!(matches!(error, FormatError::Algorithm | FormatError::Signature(_)), "{at} {byte}: {error}");
    }
    assert!(matches!(with(trailer, &[4]), FormatError::Signature(_)));
    assert!(matches!(with(trailer + 7, &[0, 69]), FormatError::Signature(_)), "something behind it");
}

#[test]
fn what_cannot_stand_in_a_manifest_is_not_written() {
    let mut builder = Builder::new("web", 1).unwrap();
    assert_eq!(builder.add(b"/a".to_vec(), vec![1]), Ok(()));
    assert_eq!(builder.add(b"/a".to_vec(), vec![2]), Err(EncodeError::Twice));
    assert_eq!(builder.add(b"/b".to_vec(), vec![]), Err(EncodeError::Label(0)));
    assert_eq!(builder.add(b"/b".to_vec(), vec![1; 65536]), Err(EncodeError::Label(65536)));
    let name = EncodeError::Name(InvalidName::PathForm);
    assert_eq!(builder.add(b"/a/../b".to_vec(), vec![1]), Err(name));
    assert_eq!(builder.len(), 1);
    assert!(Builder::new("a b", 1).is_err());
    assert!(to_be_signed(HashAlgo::Sha1, b"").is_none());
    let sealed = seal(Vec::new(), HashAlgo::Sha1, "d2d8a49d".parse().unwrap(), &[1]);
    assert_eq!(sealed, Err(EncodeError::Algorithm(HashAlgo::Sha1)));
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        labels in proptest::collection::btree_map(
            proptest::collection::vec(proptest::collection::vec(1_u8..=255, 1..20), 1..5),
            proptest::collection::vec(any::<u8>(), 1..200),
            0..30,
        ),
        serial: u64,
    ) {
        let mut builder = Builder::new("web", serial).unwrap();
        let mut expected = std::collections::BTreeMap::new();
        for (names, label) in labels {
            let path = names.iter().fold(Vec::new(), |path, name| [path.as_slice(), b"/", name].concat());
            if builder.add(path.clone(), label.clone()).is_ok() {
                expected.insert(path, label);
            }
        }
        let body = builder.body().unwrap();
        let bytes = seal(body, HashAlgo::Sha384, "00000001".parse().unwrap(), &[7; 100]).unwrap();
        let envelope = Envelope::parse(bytes).unwrap();
        prop_assert_eq!(envelope.header().serial, serial);
        let read: Vec<_> = envelope.entries().map(|entry| entry.map(|e| (e.path.to_vec(), e.label.to_vec()))).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read, expected.into_iter().collect::<Vec<_>>());
    }
}
