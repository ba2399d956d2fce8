//! What a run came to, whoever ran it.

use crate::golden::list::Entry;
use anyhow::{Context, Result};

/// One operation and its consequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The operation as it stands in `ops`.
    pub text: Vec<u8>,
    /// Its result, entries added and violations added, separated by single spaces: `ok 2 +1 +0`.
    pub result: String,
    /// The audit records it caused, without what is a guest's own.
    pub records: Vec<Vec<u8>>,
}

impl Operation {
    /// Reads a line of `ops.tsv`: number, operation, result, entries, violations, between tabs.
    ///
    /// # Errors
    /// Fails on any other shape.
    pub fn parse(line: &[u8]) -> Result<Self> {
        let mut columns = line.split(|byte| *byte == b'\t');
        let mut column = || columns.next().with_context(|| format!("short: {}", line.escape_ascii()));
        let _number = column()?;
        let text = column()?.to_vec();
        let rest = [column()?, column()?, column()?].join(&b' ');
        Ok(Self { text, result: String::from_utf8_lossy(&rest).into_owned(), records: Vec::new() })
    }
}

/// What imafs made of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What was done before the policy was loaded.
    pub before: Vec<Operation>,
    /// The operations and their results, in order.
    pub operations: Vec<Operation>,
    /// The measurement list, boot_aggregate first.
    pub list: Vec<Entry>,
    /// All files at the end, a line each.
    pub tree: Vec<Vec<u8>>,
    /// `runtime_measurements_count` and `violations`.
    pub counts: (u64, u64),
    /// The control directory's `pcrs`.
    pub registers: String,
    /// What the policy checker says of each operation, where all are rules.
    pub checked: Vec<Operation>,
}

/// Fields of an audit record whose values are a machine's own, so that only their presence is compared.
const OWN: [&str; 8] = [" pid=", " ppid=", " auid=", " ses=", " dev=", " ino=", " tty=", " exe="];

/// An audit record without what is a machine's own: no time stamp and security label, `*` for own values.
pub fn normal_record(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    if let Some(start) = find(&record, b" msg=audit(")
        && let Some(end) = find(&record, b"): ")
    {
        record.drain(start..=end + 1);
    }
    if let Some((start, end)) = value(&record, b" subj=") {
        record.drain(start - b" subj=".len()..end);
    }
    for key in OWN {
        if let Some((start, end)) = value(&record, key.as_bytes()) {
            record.splice(start..end, *b"*");
        }
    }
    record
}

/// Where the value of ` key=` begins and ends.
fn value(record: &[u8], key: &[u8]) -> Option<(usize, usize)> {
    let start = find(record, key)? + key.len();
    let length = record.get(start..)?.iter().position(|byte| *byte == b' ');
    Some((start, length.map_or(record.len(), |length| start + length)))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_lose_what_is_the_machines_own_and_nothing_else() {
        let kernel = br#"type=1800 pid=* uid=0 auid=4294967295 ses=4294967295 subj=unconfined op=appraise_data cause=missing-hash comm="op" name="/t/a" dev="vda" ino=23 res=0 errno=0"#;
        let ours = br#"type=1800 msg=audit(1.002:3): pid=9 uid=0 auid=7 ses=1 op=appraise_data cause=missing-hash comm="op" name="/t/a" dev="loop0" ino=5 res=0 errno=0"#;
        let same = br#"type=1800 pid=* uid=0 auid=* ses=* op=appraise_data cause=missing-hash comm="op" name="/t/a" dev=* ino=* res=0 errno=0"#;
        assert_eq!(normal_record(kernel), same);
        assert_eq!(normal_record(ours), same);
        let rule = br#"type=1805 file="/t/a" hash="sha256:00" ppid=* pid=* auid=1 uid=0 tty=(none) ses=2 comm="op" exe="/bin/op" subj=unconfined"#;
        let same = br#"type=1805 file="/t/a" hash="sha256:00" ppid=* pid=* auid=* uid=0 tty=* ses=* comm="op" exe=*"#;
        assert_eq!(normal_record(rule), same);
    }

    #[test]
    fn a_line_of_results_is_taken_apart() {
        let operation = Operation::parse(b"3\t0 cat a\tok 2\t+1\t+0").unwrap();
        assert_eq!(operation.text, b"0 cat a");
        assert_eq!(operation.result, "ok 2 +1 +0");
        assert!(Operation::parse(b"3\t0 cat a\tok 2\t+1").is_err());
    }
}
