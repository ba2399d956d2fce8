//! Records in the journal, by its native protocol: one datagram of `NAME=value` lines per record.
//!
//! `MESSAGE` is the kernel's text, or the JSON object when that format was asked for; the record's parts
//! stand beside it as `IMAFS_TYPE`, `IMAFS_OP` and so on, so that `journalctl IMAFS_CAUSE=invalid-hash`
//! works. No libsystemd.
//!
//! The protocol's way round oversized datagrams (a sealed memfd) is not taken: a record with the
//! longest possible paths stays under 100 KiB, the default send buffer takes 200 KiB.
//!
//! Follows systemd's JOURNAL_NATIVE_PROTOCOL.md.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Format, Sink};
use crate::record::{Record, Stamped};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How long one datagram may wait for room in journald's queue before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Syslog priorities: a refusal is a warning, the rest is informational.
const WARNING: &str = "4";
const INFO: &str = "6";

/// See the module's text.
#[derive(Debug)]
pub struct JournalSink {
    socket: UnixDatagram,
    path: PathBuf,
    format: Format,
}

impl JournalSink {
    /// A sink to the running journal.
    ///
    /// # Errors
    /// When no socket can be made, or nobody listens there. A journal that goes later and comes back is found again.
    pub fn new(format: Format) -> io::Result<Self> {
        Self::at(Path::new(SOCKET), format)
    }

    /// A sink to a journal that listens elsewhere.
    ///
    /// # Errors
    /// As [`JournalSink::new`].
    pub fn at(path: &Path, format: Format) -> io::Result<Self> {
        // Connected once only to learn whether somebody listens: what is sent is addressed each time.
        UnixDatagram::unbound()?.connect(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, path: path.to_owned(), format })
    }
}

impl Sink for JournalSink {
    fn name(&self) -> String {
        "journal".to_owned()
    }

    fn write(&mut self, record: &Stamped) -> io::Result<()> {
        let datagram = datagram(record, self.format);
        // Addressed each time rather than connected: journald may restart.
        self.socket.send_to(&datagram, &self.path).map(|_| ())
    }
}

/// The whole entry.
fn datagram(record: &Stamped, format: Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let message = match format {
        Format::Json => record.json().as_bytes().to_vec(),
        Format::Kernel => record.record.kernel_text(),
    };
    field(&mut out, "MESSAGE", &message);
    field(&mut out, "PRIORITY", priority(&record.record).as_bytes());
    field(&mut out, "SYSLOG_IDENTIFIER", b"imafs");
    field(&mut out, "IMAFS_NS", record.ns.as_bytes());
    field(&mut out, "IMAFS_SERIAL", record.serial.to_string().as_bytes());
    field(&mut out, "IMAFS_TYPE", record.record.kind().number().to_string().as_bytes());
    for (name, value) in parts(&record.record) {
        field(&mut out, name, &value);
    }
    out
}

fn priority(record: &Record) -> &'static str {
    match record {
        Record::Integrity(it) if it.res => INFO,
        Record::PolicyRule(it) if it.res => INFO,
        Record::FileRule(_) => INFO,
        Record::Integrity(_) | Record::PolicyRule(_) | Record::Lost(_) => WARNING,
    }
}

/// The record's own fields, those that it has.
fn parts(record: &Record) -> Vec<(&'static str, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut put = |name, value: Option<Vec<u8>>| parts.extend(value.map(|value| (name, value)));
    let text = |value: &dyn ToString| Some(value.to_string().into_bytes());
    match record {
        Record::Integrity(it) => {
            put("IMAFS_PID", text(&it.process.tid));
            put("IMAFS_UID", text(&it.process.uid));
            put("IMAFS_OP", text(&it.op));
            put("IMAFS_CAUSE", text(&it.cause));
            put("IMAFS_COMM", it.process.comm.clone());
            put("IMAFS_NAME", it.name.clone());
            put("IMAFS_DEV", it.dev.clone().map(String::into_bytes));
            put("IMAFS_INO", it.ino.and_then(|ino| text(&ino)));
            put("IMAFS_RES", text(&u8::from(it.res)));
            put("IMAFS_ERRNO", text(&it.errno));
            put("IMAFS_RULE", it.rule.clone().map(String::into_bytes));
            put("IMAFS_DIGEST", it.digest.and_then(|digest| text(&digest)));
        }
        Record::FileRule(it) => {
            put("IMAFS_PID", text(&it.process.pid));
            put("IMAFS_UID", text(&it.process.uid));
            put("IMAFS_COMM", it.process.comm.clone());
            put("IMAFS_EXE", it.process.exe.clone());
            put("IMAFS_NAME", Some(it.file.clone()));
            put("IMAFS_RULE", it.rule.clone().map(String::into_bytes));
            put("IMAFS_DIGEST", text(&it.digest));
        }
        Record::PolicyRule(it) => {
            put("IMAFS_RULE", Some(it.text.clone()));
            put("IMAFS_RES", text(&u8::from(it.res)));
        }
        Record::Lost(it) => put("IMAFS_LOST", text(&it.count)),
    }
    parts
}

/// `NAME=value` where the value is one line of text; else the name, a 64-bit length and the raw bytes.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    let plain = std::str::from_utf8(value).is_ok() && value.iter().all(|b| *b >= b' ' || *b == b'\t');
    if plain {
        out.push(b'=');
    } else {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_one_line_of_text_are_sent_with_their_length() {
        for (value, expected) in [
            (&b"/t/a b"[..], &b"N=/t/a b\n"[..]),
            (b"", b"N=\n"),
            (b"a\nb", b"N\n\x03\0\0\0\0\0\0\0a\nb\n"),
            (b"\xff", b"N\n\x01\0\0\0\0\0\0\0\xff\n"),
        ] {
            let mut out = Vec::new();
            field(&mut out, "N", value);
            assert_eq!(out, expected);
        }
    }
}
