//! The appraisal table, every row times every mode, on real files with real attributes.
//!
//! Rows are those of `ima_appraise_measurement` and of what leads to it (`process_measurement`). For each row and mode:
//! the status, the audit record (op, cause, `res`) and that there is no second one, the grant or `EACCES`, the label
//! afterwards, and the same again for a second open. [`writers`] has the labels of what is written, [`labels`] who may
//! set a label, [`places`] the filesystems that keep none or lose them.
//!
//! Rows that nothing here can reach:
//!
//! - Those of an active EVM (pass immutable, fail immutable, `missing-HMAC`, `invalid-HMAC`, `invalid-fail-immutable`, a
//!   hash label under a portable signature): imafs has no EVM key, and `security.evm` cannot be written through it.
//! - Appended signatures: MODSIG is for modules and kexec images, which a container never loads.
//! - `IMA-sigv3-required`: the rule that asks for it (7.1: `appraise_type=sigv3` without `digest_type=verity`) is refused
//!   at load, as up to 6.19.
//! - `invalid-verity-digest`: needs a kernel with an fs-verity algorithm beyond SHA-256 and SHA-512.
//! - A filesystem mounted by an untrusted user: who mounted it cannot be found out; `fail_securely` covers it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod labels;
mod places;
mod rows;
mod writers;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use appraise::{LabelPlace, Labels, Requirement, Status, VerityDigests, collect, collect_verity, judge};
use common::{Bench, READ, Setting, TestFile, access, finish};
use ima::{DigestKind, HashAlgo};
use monitor::{Access, Denial, Grant, Mode, Object};

/// All modes.
pub(crate) const MODES: [Mode; 4] = [Mode::Enforce, Mode::Log, Mode::Fix, Mode::Off];

/// What fix mode makes of the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// It stays.
    No,
    /// A hash of the content by this algorithm.
    Hash(HashAlgo),
    /// A hash label with the fs-verity digest, as the kernel writes it.
    Verity,
}

/// One row: a file, an open, and what must come of it.
#[derive(Clone)]
pub(crate) struct Row {
    name: String,
    /// What follows `appraise func=FILE_CHECK`.
    rule: &'static str,
    content: Vec<u8>,
    label: Option<Vec<u8>>,
    flags: i32,
    created: bool,
    setting: Setting,
    blacklist: &'static str,
    /// Where the file is instead of in the bench's directory.
    path: Option<PathBuf>,
    /// None where the content is not judged at all.
    status: Option<Status>,
    record: Option<(&'static str, &'static str, u8)>,
    denied: bool,
    fixed: Fixed,
}

/// A row of a file with `hello\n` and this label.
pub(crate) fn row(name: impl Into<String>, label: Option<Vec<u8>>) -> Row {
    Row {
        name: name.into(),
        rule: "",
        content: b"hello\n".to_vec(),
        label,
        flags: READ,
        created: false,
        setting: Setting::default(),
        blacklist: "",
        path: None,
        status: Some(Status::Pass),
        record: None,
        denied: false,
        fixed: Fixed::No,
    }
}

pub(crate) const IMASIG: &str = "appraise_type=imasig";
pub(crate) const VERITY: &str = "digest_type=verity appraise_type=sigv3";

impl Row {
    pub(crate) fn under(self, rule: &'static str) -> Self {
        Self { rule, ..self }
    }

    pub(crate) fn content(self, content: &[u8]) -> Self {
        Self { content: content.to_vec(), ..self }
    }

    pub(crate) fn new_file(self) -> Self {
        Self { created: true, ..self }
    }

    pub(crate) fn flags(self, flags: i32) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn set(self, setting: Setting) -> Self {
        Self { setting, ..self }
    }

    pub(crate) fn blacklist(self, blacklist: &'static str) -> Self {
        Self { blacklist, ..self }
    }

    pub(crate) fn at(self, path: PathBuf) -> Self {
        Self { path: Some(path), ..self }
    }

    /// It is judged so, with a record of this cause, and refused; fix mode makes the label good.
    pub(crate) fn fails(self, status: Status, cause: &'static str) -> Self {
        let record = Some(("appraise_data", cause, 0));
        let algo = ima::collection_algo(self.label.as_deref(), HashAlgo::Sha256);
        let fixed = if self.rule.contains("verity") { Fixed::Verity } else { Fixed::Hash(algo) };
        Self { status: Some(status), record, denied: true, fixed, ..self }
    }

    /// The label is left as it is, also in fix mode.
    pub(crate) fn unfixed(self) -> Self {
        Self { fixed: Fixed::No, ..self }
    }

    /// The record says that the inner result was none.
    pub(crate) fn res_1(self) -> Self {
        Self { record: self.record.map(|(op, cause, _)| (op, cause, 1)), ..self }
    }

    /// There is a record, but the open is allowed.
    pub(crate) fn excused(self) -> Self {
        Self { status: Some(Status::Pass), denied: false, fixed: Fixed::No, ..self }
    }

    /// It fails before or after it is judged, with a record of this op and cause.
    pub(crate) fn collecting_fails(self, cause: &'static str) -> Self {
        Self {
            status: None,
            record: Some(("collect_data", cause, 0)),
            denied: true,
            fixed: Fixed::No,
            ..self
        }
    }

    pub(crate) fn status(self, status: Option<Status>) -> Self {
        Self { status, ..self }
    }

    /// Plays the row in every mode.
    pub(crate) fn play(&self) {
        for mode in MODES {
            Played::new(self, mode).check();
        }
    }
}

/// One row in one mode.
struct Played<'a> {
    row: &'a Row,
    mode: Mode,
    bench: Bench,
    file: Arc<TestFile>,
    what: String,
}

impl<'a> Played<'a> {
    fn new(row: &'a Row, mode: Mode) -> Self {
        let policy = format!("appraise func=FILE_CHECK {}\n", row.rule);
        let bench = Bench::revoking(&policy, row.blacklist, Setting { mode, ..row.setting });
        ["ec", "rsa", "verity"].iter().for_each(|name| bench.trust(name));
        let file = match &row.path {
            Some(path) => Bench::existing(path.clone()),
            None => bench.file("f", &row.content),
        };
        if let Some(label) = &row.label {
            bench.label(&file, label);
        }
        Self { row, mode, bench, file, what: format!("{} ({mode:?})", row.name) }
    }

    fn check(&self) {
        let row = self.row;
        if let Some(status) = row.status {
            assert_eq!(self.status(), status, "{}", self.what);
        }
        let before = label(&self.file);
        self.opens(row.created, row.record);
        let expected = self.label_after().or(before);
        assert_eq!(label(&self.file), expected, "{}: the label", self.what);
        if row.created {
            return;
        }
        let again = match (row.fixed, row.rule) {
            // What was fixed passes now, where a hash is enough; a missing signature is what is left then.
            (Fixed::Hash(_), rule) if self.mode == Mode::Fix && !rule.contains("appraise_type") => None,
            (Fixed::Hash(_), _) if self.mode == Mode::Fix => Some("IMA-signature-required"),
            (Fixed::Verity, _) if self.mode == Mode::Fix => Some("verity-signature-required"),
            _ => row.record.map(|(_, cause, _)| cause),
        };
        let second = again.map(|cause| {
            let same = row.record.filter(|(_, first, _)| *first == cause && self.mode != Mode::Fix);
            same.or(row.record.filter(|_| row.fixed == Fixed::No)).unwrap_or(("appraise_data", cause, 0))
        });
        self.opens(false, second);
    }

    /// Opens once: the grant or `EACCES`, and this record or none.
    fn opens(&self, created: bool, record: Option<(&str, &str, u8)>) {
        let (row, what) = (self.row, &self.what);
        let seen = self.bench.records().len();
        match (self.open(created), row.denied && self.mode == Mode::Enforce) {
            (Ok(grant), false) => {
                drop(grant);
                self.bench.close(&self.file, row.flags);
            }
            (Err(denial), true) => {
                assert_eq!(denial.errno(), rustix::io::Errno::ACCESS, "{what}");
                assert_eq!(Some(denial.cause()), record.map(|(_, cause, _)| cause), "{what}");
            }
            (outcome, _) => panic!("{what}: {outcome:?}"),
        }
        let records = self.bench.records().split_off(seen);
        let Some((op, cause, res)) = record.filter(|_| self.mode != Mode::Off) else {
            assert!(records.is_empty(), "{what}: {records:?}");
            return;
        };
        let [found] = records.as_slice() else { panic!("{what}: {records:?}") };
        for part in [format!("\"op\":\"{op}\""), format!("\"cause\":\"{cause}\""), format!("\"res\":{res}")] {
            assert!(found.contains(&part), "{what}: no {part} in {found}");
        }
    }

    fn open(&self, created: bool) -> Result<Grant, Denial> {
        let object: Arc<dyn Object> = Arc::<TestFile>::clone(&self.file);
        finish(self.bench.monitor.begin_open(object, Access { created, ..access(self.row.flags) }))
    }

    /// The status by the appraising crate alone.
    fn status(&self) -> Status {
        let fd: Arc<OwnedFd> = self.file.read_fd().unwrap();
        let stored = Labels::in_security_ima().read(LabelPlace::Attribute, &fd);
        let value = stored.as_ref().ok().and_then(|stored| stored.value());
        let (required, kind) = match self.row.rule {
            rule if rule.contains("verity") => (Requirement::VeritySignature, DigestKind::Verity),
            rule if rule.contains("imasig") => (Requirement::Signature, DigestKind::Ima),
            _ => (Requirement::AnyLabel, DigestKind::Ima),
        };
        let default = HashAlgo::Sha256;
        let collected = match kind {
            DigestKind::Ima => collect(&fd, ima::collection_algo(value, default)),
            DigestKind::Verity => {
                collect_verity(&fd, ima::verity::digest_algo(value, default), VerityDigests::Computed)
            }
        };
        let subject = appraise::Subject {
            label: stored.as_ref(),
            digest: &collected.unwrap().digest,
            size: self.row.content.len() as u64,
            new: self.row.created,
            unverifiable: self.row.setting.unverifiable,
        };
        judge(&subject, required, &self.bench.ring).status
    }

    /// What fix mode writes; none where the label is to stay.
    fn label_after(&self) -> Option<Vec<u8>> {
        let content = &self.row.content;
        let digest = match self.row.fixed {
            Fixed::No => return None,
            Fixed::Hash(algo) => ima::hash(algo, content).unwrap(),
            Fixed::Verity => {
                let file = self.file.read_fd().unwrap();
                collect_verity(file, HashAlgo::Sha256, VerityDigests::Computed).unwrap().digest
            }
        };
        (self.mode == Mode::Fix).then(|| ima::encode_digest(&digest))
    }
}

/// The label as it is stored, where there is one that can be read.
pub(crate) fn label(file: &TestFile) -> Option<Vec<u8>> {
    let stored = Labels::in_security_ima().read(LabelPlace::Attribute, file.read_fd().unwrap());
    stored.ok().and_then(|stored| stored.value().map(<[u8]>::to_vec))
}

/// A label made by other tools: `crates/appraise/tests/vectors`.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/../appraise/tests/vectors/{name}.label", env!("CARGO_MANIFEST_DIR"));
    hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}

/// The label with the byte at this place set, or its last bit flipped.
pub(crate) fn with_byte(mut label: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    *label.get_mut(at).unwrap() = byte;
    label
}

pub(crate) fn flipped(mut label: Vec<u8>) -> Vec<u8> {
    *label.last_mut().unwrap() ^= 1;
    label
}
