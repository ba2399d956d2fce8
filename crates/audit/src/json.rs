//! Records as JSON: one object, one line, the kernel's field names, imafs's own after them.
//!
//! Bytes that are not UTF-8 keep a lossy text under their own name and stand exactly, as lowercase hex,
//! under the name with `_hex` added; that field is absent where the text is already exact.

use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;

use crate::record::{FileRule, Integrity, Lost, PolicyRule, Record};

/// The object; see the module's text. A record that could not be written as JSON does not exist: all
/// fields are strings and numbers, so the fallback is never taken.
pub(crate) fn line(serial: u64, time: SystemTime, ns: &str, record: &Record) -> String {
    let mut object =
        Object { kind: record.kind().number(), time: rfc3339(time), serial, ns, ..Object::default() };
    match record {
        Record::Integrity(integrity) => object.integrity(integrity),
        Record::FileRule(rule) => object.file_rule(rule),
        Record::PolicyRule(rule) => object.policy_rule(rule),
        Record::Lost(lost) => object.lost(lost),
    }
    serde_json::to_string(&object).unwrap_or_else(|_| format!("{{\"serial\":{serial}}}"))
}

/// `2026-11-22T03:04:05.000000006Z`: always nine digits, so that lines sort as text.
fn rfc3339(time: SystemTime) -> String {
    let t = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.nanosecond()
    )
}

/// Every field any record has, in the order they are written.
#[derive(Default, Serialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    kind: u16,
    time: String,
    serial: u64,
    ns: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ses: Option<u32>,
    #[serde(flatten)]
    ids: Option<Ids>,
    #[serde(flatten)]
    subj: Bytes<'a, Subj>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(flatten)]
    comm: Bytes<'a, Comm>,
    #[serde(flatten)]
    exe: Bytes<'a, Exe>,
    #[serde(flatten)]
    name: Bytes<'a, Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ino: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    res: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(flatten)]
    rule: Bytes<'a, Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
    #[serde(flatten)]
    lost: Option<Count>,
}

/// What type 1805 has beyond the others.
#[derive(Serialize)]
struct Ids {
    gid: u32,
    euid: u32,
    suid: u32,
    fsuid: u32,
    egid: u32,
    sgid: u32,
    fsgid: u32,
    tty: Option<String>,
}

#[derive(Serialize)]
struct Count {
    lost: u64,
    first: u64,
    last: u64,
}

/// The field name of some [`Bytes`].
trait Field {
    const NAME: &'static str;
    const HEX: &'static str;
}

macro_rules! field {
    ($type:ident, $name:literal) => {
        #[derive(Default)]
        struct $type;
        impl Field for $type {
            const NAME: &'static str = $name;
            const HEX: &'static str = concat!($name, "_hex");
        }
    };
}
field!(Subj, "subj");
field!(Comm, "comm");
field!(Exe, "exe");
field!(Name, "name");
field!(Rule, "rule");

/// Bytes that may or may not be text, written under one or two names.
#[derive(Default)]
struct Bytes<'a, F>(Option<&'a [u8]>, std::marker::PhantomData<F>);

impl<'a, F> From<Option<&'a [u8]>> for Bytes<'a, F> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        Self(bytes, std::marker::PhantomData)
    }
}

impl<F: Field> Serialize for Bytes<'_, F> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        if let Some(bytes) = self.0 {
            let text = String::from_utf8_lossy(bytes);
            map.serialize_entry(F::NAME, &text)?;
            if matches!(text, std::borrow::Cow::Owned(_)) {
                map.serialize_entry(F::HEX, &hex(bytes))?;
            }
        }
        map.end()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Object<'a> {
    fn task(&mut self, process: &'a crate::Process) {
        self.uid = Some(process.uid);
        self.auid = Some(process.auid);
        self.ses = Some(process.ses);
        self.subj = process.subj.as_deref().into();
        self.comm = process.comm.as_deref().into();
        self.exe = process.exe.as_deref().into();
    }

    fn integrity(&mut self, it: &'a Integrity) {
        self.task(&it.process);
        self.pid = Some(it.process.tid);
        self.op = Some(&it.op);
        self.cause = Some(&it.cause);
        self.name = it.name.as_deref().into();
        self.dev = it.dev.as_deref();
        self.ino = it.ino;
        self.res = Some(u8::from(it.res));
        self.errno = Some(it.errno);
        self.rule = it.rule.as_deref().map(str::as_bytes).into();
        self.digest = it.digest.as_ref().map(ToString::to_string);
    }

    fn file_rule(&mut self, it: &'a FileRule) {
        let p = &it.process;
        self.task(p);
        self.pid = Some(p.pid);
        self.ppid = Some(p.ppid);
        self.ids = Some(Ids {
            gid: p.gid,
            euid: p.euid,
            suid: p.suid,
            fsuid: p.fsuid,
            egid: p.egid,
            sgid: p.sgid,
            fsgid: p.fsgid,
            tty: p.tty.clone(),
        });
        self.name = Some(it.file.as_slice()).into();
        self.rule = it.rule.as_deref().map(str::as_bytes).into();
        self.digest = Some(it.digest.to_string());
    }

    fn policy_rule(&mut self, it: &'a PolicyRule) {
        self.rule = Some(it.text.as_slice()).into();
        self.res = Some(u8::from(it.res));
    }

    fn lost(&mut self, it: &'a Lost) {
        self.op = Some("audit_lost");
        self.cause = Some(&it.cause);
        self.sink = Some(&it.sink);
        self.res = Some(0);
        self.lost = Some(Count { lost: it.count, first: it.first, last: it.last });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_nine_digits_and_are_utc() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            // date -u -d @1790000000 --iso-8601=seconds
            (1_790_000_000, 6, "2026-09-21T14:13:20.000000006Z"),
            (951_782_400, 120_000_000, "2000-02-29T00:00:00.120000000Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)), expected);
        }
    }
}
