//! Records in the kernel's spelling: key order, quoting, and auditd's line around it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::record::{FileRule, Integrity, Lost, PolicyRule, Record, Stamped};

/// `type=N msg=audit(SECONDS.mmm:SERIAL): TEXT`.
pub(crate) fn line(stamped: &Stamped) -> Vec<u8> {
    let since = stamped.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let kind = stamped.record.kind().number();
    let stamp = format!(
        "type={kind} msg=audit({}.{:03}:{}): ",
        since.as_secs(),
        since.subsec_millis(),
        stamped.serial
    );
    let mut out = stamp.into_bytes();
    out.append(&mut text(&stamped.record));
    out
}

pub(crate) fn text(record: &Record) -> Vec<u8> {
    spelled(record, Place::Line)
}

/// The text for where the kernel puts it between single quotes.
pub(crate) fn quotable(record: &Record) -> Vec<u8> {
    spelled(record, Place::Quotes)
}

fn spelled(record: &Record, place: Place) -> Vec<u8> {
    let mut out = Text(Vec::with_capacity(256), place);
    match record {
        Record::Integrity(integrity) => out.integrity(integrity),
        Record::FileRule(rule) => out.file_rule(rule),
        Record::PolicyRule(rule) => out.policy_rule(rule),
        Record::Lost(lost) => out.lost(lost),
    }
    out.0
}

/// A line under construction. Writing to a vector cannot fail, so the results of `write!` are dropped in
/// one place ([`Text::put`]).
struct Text(Vec<u8>, Place);

/// What stands around a text, and must not be ended by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A line of its own.
    Line,
    /// Single quotes, in a C string.
    Quotes,
}

impl Text {
    fn put(&mut self, args: std::fmt::Arguments<'_>) {
        // The only error a vector's writer has is running out of memory, which does not return.
        drop(self.0.write_fmt(args));
    }

    /// `audit_log_untrustedstring`: quoted when every byte is printable ASCII other than space and the
    /// double quote, else uppercase hex without quotes. Source: `audit_string_contains_control`.
    fn string(&mut self, bytes: &[u8]) {
        let ends_quotes = |byte: u8| self.1 == Place::Quotes && byte == b'\'';
        if bytes.iter().all(|b| (0x21..=0x7e).contains(b) && *b != b'"' && !ends_quotes(*b)) {
            self.0.push(b'"');
            self.0.extend_from_slice(bytes);
            self.0.push(b'"');
        } else {
            for byte in bytes {
                self.put(format_args!("{byte:02X}"));
            }
        }
    }

    /// As [`Text::string`], with the kernel's word for what is not known.
    fn known(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.string(bytes),
            None => self.put(format_args!("(null)")),
        }
    }

    fn subject(&mut self, subj: Option<&[u8]>) {
        if let Some(subj) = subj {
            self.0.extend_from_slice(b" subj=");
            self.plain(subj);
        }
    }

    /// Bytes the kernel writes as they are. A line feed would begin a forged record.
    fn plain(&mut self, bytes: &[u8]) {
        let place = self.1;
        self.0.extend(bytes.iter().map(|b| match (place, *b) {
            (_, b'\n') => b' ',
            (Place::Quotes, b'\'' | 0..=0x1f) => b' ',
            (Place::Line | Place::Quotes, other) => other,
        }));
    }

    /// Source: `integrity_audit_message`, security/integrity/integrity_audit.c.
    fn integrity(&mut self, it: &Integrity) {
        let task = &it.process;
        self.put(format_args!("pid={} uid={} auid={} ses={}", task.tid, task.uid, task.auid, task.ses));
        self.subject(task.subj.as_deref());
        self.put(format_args!(" op="));
        self.plain(it.op.as_bytes());
        self.put(format_args!(" cause="));
        self.plain(it.cause.as_bytes());
        self.put(format_args!(" comm="));
        self.known(task.comm.as_deref());
        if let Some(name) = &it.name {
            self.put(format_args!(" name="));
            self.string(name);
        }
        if let (Some(dev), Some(ino)) = (&it.dev, it.ino) {
            self.put(format_args!(" dev="));
            self.string(dev.as_bytes());
            self.put(format_args!(" ino={ino}"));
        }
        self.put(format_args!(" res={} errno={}", u8::from(it.res), it.errno));
    }

    /// Source: `ima_audit_measurement` and `audit_log_task_info` (kernel/audit.c).
    fn file_rule(&mut self, it: &FileRule) {
        let p = &it.process;
        self.put(format_args!("file="));
        self.string(&it.file);
        self.put(format_args!(" hash=\"{}\"", it.digest));
        self.put(format_args!(" ppid={} pid={} auid={}", p.ppid, p.pid, p.auid));
        self.put(format_args!(
            " uid={} gid={} euid={} suid={} fsuid={}",
            p.uid, p.gid, p.euid, p.suid, p.fsuid
        ));
        self.put(format_args!(" egid={} sgid={} fsgid={}", p.egid, p.sgid, p.fsgid));
        self.put(format_args!(" tty={} ses={} comm=", p.tty.as_deref().unwrap_or("(none)"), p.ses));
        self.known(p.comm.as_deref());
        self.put(format_args!(" exe="));
        self.known(p.exe.as_deref());
        self.subject(p.subj.as_deref());
    }

    fn policy_rule(&mut self, it: &PolicyRule) {
        self.plain(&it.text);
        if !it.text.is_empty() {
            self.0.push(b' ');
        }
        self.put(format_args!("res={}", u8::from(it.res)));
    }

    fn lost(&mut self, it: &Lost) {
        self.put(format_args!("op=audit_lost cause="));
        self.plain(it.cause.as_bytes());
        self.put(format_args!(" sink="));
        self.string(it.sink.as_bytes());
        self.put(format_args!(" lost={} first={} last={} res=0", it.count, it.first, it.last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut text = Text(Vec::new(), Place::Line);
        text.string(bytes);
        String::from_utf8(text.0).unwrap()
    }

    #[test]
    fn strings_are_quoted_when_plain_and_uppercase_hex_otherwise() {
        for (bytes, expected) in [
            (&b"/t/a"[..], "\"/t/a\""),
            (b"/t/with space", "2F742F77697468207370616365"),
            (b"/t/quote\"d", "2F742F71756F74652264"),
            (b"/t/utf-\xc3\xa4", "2F742F7574662DC3A4"),
            (b"tab\t", "74616209"),
            (b"del\x7f", "64656C7F"),
            (b"", "\"\""),
            (b"back\\slash'~!", "\"back\\slash'~!\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
    }

    #[test]
    fn between_quotes_nothing_ends_them() {
        let mut text = Text(Vec::new(), Place::Quotes);
        text.string(b"/a'");
        text.plain(b" op=a' res=1\0\n");
        assert_eq!(text.0, b"2F6127 op=a  res=1  ");
    }

    #[test]
    fn a_line_feed_in_a_rule_cannot_begin_a_second_record() {
        let rule = PolicyRule { text: b"action=measure UNKNOWN=x\ntype=1800".to_vec(), res: false };
        assert_eq!(text(&rule.into()), b"action=measure UNKNOWN=x type=1800 res=0");
    }
}
