//! What a record holds. How it is spelled is `kernel.rs` and `json.rs`.
//!
//! Follows `integrity_audit_message` (security/integrity/integrity_audit.c), `ima_audit_measurement`
//! (security/integrity/ima/ima_api.c) and `ima_parse_rule` (security/integrity/ima/ima_policy.c), Linux 6.1.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use ima::Digest;

use crate::{Process, json, kernel};

/// The audit message types in use, by the kernel's numbers (include/uapi/linux/audit.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RecordType {
    /// 1800: an appraisal or collection that failed, a refused label.
    IntegrityData = 1800,
    /// 1801: an attribute change or label check that EVM would refuse.
    IntegrityMetadata = 1801,
    /// 1802: the result of loading a policy.
    IntegrityStatus = 1802,
    /// 1804: violations and trouble with the list or the PCR.
    IntegrityPcr = 1804,
    /// 1805: an `audit` rule matched; carries the file's digest.
    IntegrityRule = 1805,
    /// 1807: one policy rule as it was parsed.
    IntegrityPolicyRule = 1807,
    /// 2000: a word of the audit system about itself; here, how many records a sink missed.
    Kernel = 2000,
}

impl RecordType {
    /// The number that stands after `type=`.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// One record, before it has a serial and a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// Types 1800, 1801, 1802 and 1804, which share one shape. Boxed: it is much the largest.
    Integrity(Box<Integrity>),
    /// Type 1805.
    FileRule(Box<FileRule>),
    /// Type 1807.
    PolicyRule(PolicyRule),
    /// Type 2000: records that a sink did not get.
    Lost(Lost),
}

/// The shape that types 1800, 1801, 1802 and 1804 share.
///
/// `op` and `cause` are the kernel's words and go out unquoted, so they must not come from the container.
#[derive(Clone, Debug)]
pub struct Integrity {
    /// Which of the four types.
    pub kind: RecordType,
    /// The task that asked.
    pub process: Process,
    /// What was being done: `appraise_data`, `collect_data`, `invalid_pcr`, `policy_update`...
    pub op: Cow<'static, str>,
    /// Why, in the kernel's words: `missing-hash`, `invalid-signature`, `open_writers`...
    pub cause: Cow<'static, str>,
    /// The path (for collection errors the last component), when the record is about a file.
    pub name: Option<Vec<u8>>,
    /// The superblock's id: a block device's name, else the file system's type.
    pub dev: Option<String>,
    /// The inode number. Written only together with `dev`, as the kernel does.
    pub ino: Option<u64>,
    /// Whether the internal operation succeeded. A recorded violation has `true`.
    pub res: bool,
    /// 0, or a negative errno for failures of buffer measurements.
    pub errno: i32,
    /// The rule that decided, in canonical spelling. Not in the kernel's line.
    pub rule: Option<String>,
    /// The collected digest, where one was collected. Not in the kernel's line.
    pub digest: Option<Digest>,
}

impl Integrity {
    /// A record about no file yet: `res` 0, `errno` 0, everything optional absent.
    #[must_use]
    pub fn new(
        kind: RecordType,
        process: Process,
        op: impl Into<Cow<'static, str>>,
        cause: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            process,
            op: op.into(),
            cause: cause.into(),
            name: None,
            dev: None,
            ino: None,
            res: false,
            errno: 0,
            rule: None,
            digest: None,
        }
    }

    /// Names the file the record is about.
    #[must_use]
    pub fn file(mut self, name: impl Into<Vec<u8>>, dev: impl Into<String>, ino: u64) -> Self {
        self.name = Some(name.into());
        self.dev = Some(dev.into());
        self.ino = Some(ino);
        self
    }
}

impl From<Integrity> for Record {
    fn from(integrity: Integrity) -> Self {
        Record::Integrity(Box::new(integrity))
    }
}

/// An `audit` rule's hit: type 1805.
#[derive(Clone, Debug)]
pub struct FileRule {
    /// The task that opened the file.
    pub process: Process,
    /// Full path of this open.
    pub file: Vec<u8>,
    /// The collected digest, in the label's algorithm if the file has a label.
    pub digest: Digest,
    /// The rule that matched. Not in the kernel's line.
    pub rule: Option<String>,
}

impl From<FileRule> for Record {
    fn from(rule: FileRule) -> Self {
        Record::FileRule(Box::new(rule))
    }
}

/// One rule of a policy being loaded, accepted or not: type 1807.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    /// The tokens as they were understood, as in `action=measure func=FILE_CHECK`; no trailing space.
    pub text: Vec<u8>,
    /// Whether the rule was taken.
    pub res: bool,
}

impl From<PolicyRule> for Record {
    fn from(rule: PolicyRule) -> Self {
        Record::PolicyRule(rule)
    }
}

/// How many records one sink did not get, and which: serials `first` to `last`, of which `count` were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The sink's name.
    pub sink: String,
    /// Why the last of them was lost: `queue full`, or the error of the write.
    pub cause: String,
    /// How many.
    pub count: u64,
    /// Serial of the first one lost.
    pub first: u64,
    /// Serial of the last one lost.
    pub last: u64,
}

impl Record {
    /// The kernel's number for this record.
    #[must_use]
    pub fn kind(&self) -> RecordType {
        match self {
            Record::Integrity(integrity) => integrity.kind,
            Record::FileRule(_) => RecordType::IntegrityRule,
            Record::PolicyRule(_) => RecordType::IntegrityPolicyRule,
            Record::Lost(_) => RecordType::Kernel,
        }
    }

    /// The record's text as the kernel writes it after `audit(TIME:SERIAL): `, without a newline.
    ///
    /// Names may hold any byte, but quoting leaves only printable ASCII of them; the rest is the kernel's
    /// own text. A newline inside a policy rule's text would forge a second record, so it becomes a space.
    #[must_use]
    pub fn kernel_text(&self) -> Vec<u8> {
        kernel::text(self)
    }
}

/// A record with its serial, its time and the mount it belongs to: what sinks are given.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Position in the mount's audit trail, counted from 1 without gaps.
    pub serial: u64,
    /// When it was emitted.
    pub time: SystemTime,
    /// The mount's namespace id.
    pub ns: Arc<str>,
    /// The record itself.
    pub record: Record,
    json: Arc<str>,
}

impl Stamped {
    /// Stamps `record`; its JSON form is made here, once.
    #[must_use]
    pub fn new(serial: u64, time: SystemTime, ns: Arc<str>, record: Record) -> Self {
        let json = json::line(serial, time, &ns, &record).into();
        Self { serial, time, ns, record, json }
    }

    /// One JSON object on one line, without the newline. Always valid UTF-8 and free of control bytes.
    #[must_use]
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The line auditd would write: `type=1800 msg=audit(SECONDS.mmm:SERIAL): TEXT`, without the newline.
    /// `ausearch` and `aureport` read it.
    #[must_use]
    pub fn kernel_line(&self) -> Vec<u8> {
        kernel::line(self)
    }
}
