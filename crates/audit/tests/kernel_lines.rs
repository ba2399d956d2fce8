//! Every audit record a 6.1 kernel wrote in the recorded scenarios, taken apart and put together again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::fs;
use std::path::{Path, PathBuf};

use audit::{FileRule, Integrity, PolicyRule, Process, Record, RecordType};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/golden")
}

/// A record's text, read from the front.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// What stands between `key` and the next `until` (the end, where that is empty).
    fn between(&mut self, key: &str, until: &str) -> &'a str {
        let rest = self.0.strip_prefix(key).unwrap_or_else(|| panic!("{key:?} expected at {:?}", self.0));
        let end = if until.is_empty() { rest.len() } else { rest.find(until).expect(until) };
        self.0 = &rest[end..];
        &rest[..end]
    }

    fn id(&mut self, key: &str) -> u32 {
        // The recordings leave process ids out.
        match self.between(key, " ") {
            "*" => 0,
            number => number.parse().expect(number),
        }
    }

    /// A quoted or hexadecimal string.
    fn string(&mut self, key: &str) -> Vec<u8> {
        let rest = self.0.strip_prefix(key).expect(key);
        if let Some(text) = rest.strip_prefix('"') {
            let end = text.find('"').expect("closing quote");
            self.0 = &text[end + 1..];
            return text.as_bytes()[..end].to_vec();
        }
        let end = rest.find(' ').unwrap_or(rest.len());
        self.0 = &rest[end..];
        let digit = |at: usize| u8::from_str_radix(&rest[at..at + 2], 16).expect("hex");
        (0..end).step_by(2).map(digit).collect()
    }

    fn has(&self, key: &str) -> bool {
        self.0.starts_with(key)
    }
}

fn integrity(kind: RecordType, text: &str) -> Record {
    let mut at = Cursor(text);
    let mut process = Process::unknown(at.id("pid="));
    process.uid = at.id(" uid=");
    process.auid = at.id(" auid=");
    process.ses = at.id(" ses=");
    process.subj = at.has(" subj=").then(|| at.between(" subj=", " op=").as_bytes().to_vec());
    let op = at.between(" op=", " cause=").to_owned();
    let cause = at.between(" cause=", " comm=").to_owned();
    process.comm = Some(at.string(" comm="));
    let mut record = Integrity::new(kind, process, op, cause);
    record.name = at.has(" name=").then(|| at.string(" name="));
    record.dev = at.has(" dev=").then(|| String::from_utf8(at.string(" dev=")).unwrap());
    record.ino = at.has(" ino=").then(|| u64::from(at.id(" ino=")));
    record.res = at.id(" res=") == 1;
    record.errno = at.between(" errno=", "").parse().unwrap();
    record.into()
}

fn file_rule(text: &str) -> Record {
    let mut at = Cursor(text);
    let mut process = Process::unknown(0);
    let file = at.string("file=");
    let digest = String::from_utf8(at.string(" hash=")).unwrap().parse().unwrap();
    process.ppid = at.id(" ppid=");
    process.pid = at.id(" pid=");
    process.auid = at.id(" auid=");
    process.uid = at.id(" uid=");
    process.gid = at.id(" gid=");
    process.euid = at.id(" euid=");
    process.suid = at.id(" suid=");
    process.fsuid = at.id(" fsuid=");
    process.egid = at.id(" egid=");
    process.sgid = at.id(" sgid=");
    process.fsgid = at.id(" fsgid=");
    process.tty = Some(at.between(" tty=", " ").to_owned()).filter(|tty| tty != "(none)");
    process.ses = at.id(" ses=");
    process.comm = Some(at.string(" comm="));
    process.exe = Some(at.string(" exe="));
    process.subj = at.has(" subj=").then(|| at.between(" subj=", "").as_bytes().to_vec());
    FileRule { process, file, digest, rule: None }.into()
}

fn record(kind: &str, text: &str) -> Record {
    match kind {
        "1800" => integrity(RecordType::IntegrityData, text),
        "1802" => integrity(RecordType::IntegrityStatus, text),
        "1804" => integrity(RecordType::IntegrityPcr, text),
        "1805" => file_rule(text),
        "1807" => {
            // A rule of which nothing was understood is `res=0` alone.
            let (rule, res) = text.rsplit_once("res=").expect("res");
            PolicyRule { text: rule.trim_end_matches(' ').as_bytes().to_vec(), res: res == "1" }.into()
        }
        other => panic!("no record of type {other} was recorded"),
    }
}

#[test]
fn every_recorded_line_is_made_again_byte_for_byte() {
    let mut lines = 0;
    for scenario in fs::read_dir(golden()).unwrap() {
        let Ok(tsv) = fs::read_to_string(scenario.unwrap().path().join("kernel/audit.tsv")) else { continue };
        for line in tsv.lines() {
            let (_, recorded) = line.split_once('\t').unwrap();
            let (kind, text) = recorded.strip_prefix("type=").unwrap().split_once(' ').unwrap();
            let record = record(kind, text);
            assert_eq!(record.kind().number().to_string(), kind);
            let ours = String::from_utf8(record.kernel_text()).unwrap();
            assert_eq!(ours, text.replace("pid=*", "pid=0"), "{kind}");
            lines += 1;
        }
    }
    assert_eq!(lines, 485, "records in the golden scenarios");
}
