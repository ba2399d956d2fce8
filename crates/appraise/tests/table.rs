//! The appraisal table, row by row: labels made by other tools, and their malformed siblings.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

use appraise::{Cause, Requirement, Status, StoredLabel, Subject, Verdict, judge};
use ima::{HashAlgo, hash};
use keyring::{Added, Certificate, Keyring};

const CONTENT: &[u8] = b"hello\n";

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{name}.label", env!("CARGO_MANIFEST_DIR"));
    hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}

fn ring() -> Keyring {
    let ring = Keyring::new("_ima");
    for name in ["ec", "rsa"] {
        let path = format!("{}/tests/vectors/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        for certificate in Certificate::from_pem_or_der(&std::fs::read(path).unwrap()).unwrap() {
            assert!(matches!(ring.add(certificate), Added::New));
        }
    }
    ring
}

struct Case {
    label: StoredLabel,
    required: Requirement,
    new: bool,
    content: &'static [u8],
}

impl Case {
    fn of(label: StoredLabel) -> Self {
        Self { label, required: Requirement::AnyLabel, new: false, content: CONTENT }
    }

    fn value(value: impl Into<Vec<u8>>) -> Self {
        Self::of(StoredLabel::Value(value.into()))
    }

    fn signature_required(self) -> Self {
        Self { required: Requirement::Signature, ..self }
    }

    fn new_file(self) -> Self {
        Self { new: true, ..self }
    }

    fn content(self, content: &'static [u8]) -> Self {
        Self { content, ..self }
    }

    fn judge_with(&self, ring: &Keyring) -> Verdict {
        let algo = ima::collection_algo(self.label.value(), HashAlgo::Sha256);
        let digest = hash(algo, self.content).unwrap();
        let size = self.content.len() as u64;
        judge(
            &Subject { label: Ok(&self.label), digest: &digest, size, new: self.new, unverifiable: false },
            self.required,
            ring,
        )
    }

    fn gives(&self, status: Status, cause: Option<Cause>) -> Verdict {
        let verdict = self.judge_with(&ring());
        assert_eq!((verdict.status, verdict.cause), (status, cause), "label {:02x?}", self.label);
        verdict
    }
}

/// `04 04` and the SHA-256 of `hello\n`, from `spec/ima-xattr.md` section 3.
fn hash_label() -> Vec<u8> {
    hex::decode("04045891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap()
}

#[test]
fn signatures_by_other_tools_pass_and_make_the_file_immutable() {
    for name in ["ec", "rsa"] {
        for case in [Case::value(vector(name)), Case::value(vector(name)).signature_required()] {
            assert_eq!(case.gives(Status::Pass, None).signed, Some(true), "{name}");
        }
    }
}

#[test]
fn the_same_signatures_on_other_content_fail() {
    for name in ["ec", "rsa"] {
        let verdict =
            Case::value(vector(name)).content(b"hellp\n").gives(Status::Fail, Some(Cause::InvalidSignature));
        assert_eq!(verdict.signed, Some(true), "{name}");
    }
}

#[test]
fn every_flipped_bit_of_a_signature_label_fails() {
    for name in ["ec", "rsa"] {
        let good = vector(name);
        for at in 0..good.len() {
            let mut label = good.clone();
            label[at] ^= 1;
            let verdict = Case::value(label).signature_required().judge_with(&ring());
            assert!(!verdict.status.allows(), "{name}: byte {at}");
        }
    }
}

#[test]
fn every_truncation_and_an_extension_of_a_label_fail_under_imasig() {
    let good = vector("ec");
    for cut in 0..good.len() {
        let verdict = Case::value(&good[..cut]).signature_required().judge_with(&ring());
        assert!(!verdict.status.allows(), "cut at {cut}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    Case::value(longer).gives(Status::Fail, Some(Cause::InvalidSignature));
}

#[test]
fn the_version_byte_decides_the_cause() {
    let mut label = vector("ec");
    label[1] = 3;
    Case::value(label.clone()).gives(Status::Fail, Some(Cause::InvalidSignatureVersion));
    label[1] = 1;
    Case::value(label.clone()).gives(Status::Fail, Some(Cause::InvalidSignature));
    label[1] = 0;
    Case::value(label).gives(Status::Unknown, Some(Cause::Unknown));
    Case::value(vector("v3-type03")).gives(Status::Fail, Some(Cause::InvalidSignatureVersion));
}

#[test]
fn an_unknown_or_revoked_key_fails() {
    let empty = Keyring::new("_ima");
    let verdict = Case::value(vector("ec")).judge_with(&empty);
    assert_eq!((verdict.status, verdict.cause), (Status::Fail, Some(Cause::InvalidSignature)));
    let revoked = ring();
    let keyid = ima::parse_signature(&vector("ec")).unwrap().keyid;
    assert!(revoked.revoke(keyid));
    assert!(!Case::value(vector("ec")).judge_with(&revoked).status.allows());
    assert!(Case::value(vector("rsa")).judge_with(&revoked).status.allows(), "the other key still stands");
}

#[test]
fn a_hash_passes_only_where_no_signature_is_asked() {
    assert_eq!(Case::value(hash_label()).gives(Status::Pass, None).signed, Some(false));
    Case::value(hash_label()).signature_required().gives(Status::Fail, Some(Cause::SignatureRequired));
    Case::value(hash_label()).content(b"other\n").gives(Status::Fail, Some(Cause::InvalidHash));
    let sha1 = hex::decode("01f572d396fae9206628714fb2ce00f72e94f2258f").unwrap();
    Case::value(sha1).gives(Status::Pass, None);
}

#[test]
fn a_verity_signature_is_no_signature_of_the_content() {
    let label = vector("v3-type06");
    Case::value(label.clone()).signature_required().gives(Status::Fail, Some(Cause::SignatureRequired));
    // The vector's digest stands in for an fs-verity digest: it is that of `hello\n`, so it verifies here.
    Case::value(label.clone()).gives(Status::Pass, None);
    Case::value(label).content(b"other\n").gives(Status::Fail, Some(Cause::InvalidVeritySignature));
}

#[test]
fn a_missing_label_passes_only_on_new_files() {
    let missing = || Case::of(StoredLabel::Missing);
    assert!(!missing().gives(Status::NoLabel, Some(Cause::MissingHash)).res);
    missing().signature_required().gives(Status::NoLabel, Some(Cause::SignatureRequired));
    missing().new_file().gives(Status::Pass, None);
    missing().new_file().signature_required().gives(Status::NoLabel, Some(Cause::SignatureRequired));
    missing().new_file().signature_required().content(b"").gives(Status::Pass, None);
}

#[test]
fn an_empty_label_is_a_missing_one_whose_record_says_res_1() {
    for label in [StoredLabel::Value(Vec::new()), StoredLabel::Unsupported] {
        assert!(Case::of(label.clone()).gives(Status::NoLabel, Some(Cause::MissingHash)).res);
        assert!(
            Case::of(label).signature_required().gives(Status::NoLabel, Some(Cause::SignatureRequired)).res
        );
    }
}

#[test]
fn types_that_a_label_cannot_have_are_unknown() {
    for kind in [0x00, 0x02, 0x05, 0x07, 0xff] {
        let mut label = hash_label();
        label[0] = kind;
        Case::value(label).gives(Status::Unknown, Some(Cause::UnknownImaData));
        Case::value([kind]).gives(Status::Unknown, Some(Cause::UnknownImaData));
    }
    Case::value([0x04]).gives(Status::Fail, Some(Cause::InvalidHash));
    Case::value([0x01]).gives(Status::Fail, Some(Cause::InvalidHash));
    Case::value([0x03]).gives(Status::Fail, Some(Cause::InvalidSignature));
}

#[test]
fn an_archiver_may_label_a_new_empty_file_before_writing_it() {
    let verdict =
        Case::value(vector("ec")).new_file().content(b"").gives(Status::Pass, Some(Cause::InvalidSignature));
    assert_eq!(verdict.signed, Some(true));
    Case::value(vector("ec")).new_file().content(b"x").gives(Status::Fail, Some(Cause::InvalidSignature));
    Case::value(vector("ec")).content(b"").gives(Status::Fail, Some(Cause::InvalidSignature));
}

#[test]
fn a_label_that_cannot_be_read_is_unknown() {
    let error = appraise::LabelError::Read(rustix::io::Errno::IO);
    let digest = hash(HashAlgo::Sha256, CONTENT).unwrap();
    let subject = Subject { label: Err(&error), digest: &digest, size: 6, new: true, unverifiable: false };
    let verdict = judge(&subject, Requirement::AnyLabel, &ring());
    assert_eq!((verdict.status, verdict.cause), (Status::Unknown, Some(Cause::Unknown)));
}
