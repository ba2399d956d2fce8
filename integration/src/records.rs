//! Reads one mount's audit records: JSON, one object per line, in the kernel's field names.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a record may take to reach its file after the system call it is about has returned.
const SETTLE: Duration = Duration::from_secs(5);
/// How long to look for a record too many.
const QUIET: Duration = Duration::from_millis(60);

/// One audit record.
#[derive(Debug, Clone)]
pub struct Record(Value);

impl Record {
    /// A field as text; empty when the record has none by that name. Numbers are rendered in decimal.
    pub fn text(&self, field: &str) -> String {
        match self.0.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(s)) => s.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// Whether the record is about an access that was held against `security.ima` and failed.
    ///
    /// Measurement and policy records are not: their `op` says so.
    pub fn is_refusal(&self) -> bool {
        let about_a_file =
            matches!(self.text("op").as_str(), "appraise_data" | "collect_data" | "mmap_file" | "set_data");
        about_a_file && matches!(self.text("res").as_str(), "0" | "false")
    }

    /// Whether the record announces a violation of the measurement list.
    pub fn is_violation(&self) -> bool {
        self.text("op") == "invalid_pcr"
    }
}

/// The file that records arrive in.
#[derive(Debug, Clone)]
pub struct Records {
    path: PathBuf,
}

/// A point in the record file; what came before does not count.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Records {
    /// Records in the file at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All complete records.
    ///
    /// # Errors
    /// Fails when a complete line is not one JSON object.
    pub fn all(&self) -> Result<Vec<Record>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let lines =
            bytes.get(..complete).unwrap_or_default().split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines
            .map(|line| {
                let value: Value = serde_json::from_slice(line)
                    .with_context(|| format!("not a JSON record: {}", String::from_utf8_lossy(line)))?;
                anyhow::ensure!(value.is_object(), "not a JSON object: {value}");
                Ok(Record(value))
            })
            .collect()
    }

    /// The point before the first record.
    pub fn beginning(&self) -> Mark {
        Mark(0)
    }

    /// Waits until so many bytes of records are there, no longer than they may take.
    pub fn reach(&self, bytes: u64) {
        let end = Instant::now() + SETTLE;
        while std::fs::metadata(&self.path).map_or(0, |file| file.len()) < bytes && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Remembers how many records there are now.
    ///
    /// # Errors
    /// As [`Records::all`].
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.all()?.len()))
    }

    /// The records since `mark` that `wanted` picks: waits until there are at least `count`, then a moment longer
    /// for one too many.
    ///
    /// # Errors
    /// As [`Records::all`].
    pub fn since(&self, mark: Mark, count: usize, wanted: impl Fn(&Record) -> bool) -> Result<Vec<Record>> {
        let end = Instant::now() + SETTLE;
        let pick = || -> Result<Vec<Record>> {
            Ok(self.all()?.into_iter().skip(mark.0).filter(|r| wanted(r)).collect())
        };
        while pick()?.len() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(QUIET);
        pick()
    }

    /// Asserts that since `mark` there is exactly one refusal, with this cause, about this path in the mount, and
    /// that it names operation, process, rule and digest or label as invariant I6 asks.
    ///
    /// # Errors
    /// Fails saying what is different.
    pub fn one_refusal(&self, mark: Mark, cause: &str, name: &str) -> Result<Record> {
        let found = self.since(mark, 1, Record::is_refusal)?;
        let [record] = found.as_slice() else {
            bail!("expected one record with cause {cause} about {name}, found {}: {found:#?}", found.len());
        };
        anyhow::ensure!(record.text("cause") == cause, "cause is not {cause}: {record:?}");
        anyhow::ensure!(record.text("name") == name, "the record does not name {name}: {record:?}");
        for field in ["op", "comm", "dev", "ino", "errno", "rule"] {
            anyhow::ensure!(!record.text(field).is_empty(), "the record lacks {field}: {record:?}");
        }
        // Whatever was compared with a label was collected first.
        let compared = record.text("op") == "appraise_data";
        anyhow::ensure!(
            !compared || !record.text("digest").is_empty(),
            "the record lacks a digest: {record:?}"
        );
        Ok(record.clone())
    }

    /// Asserts that no refusal was recorded since `mark`.
    ///
    /// # Errors
    /// Fails with the records found.
    pub fn no_refusal(&self, mark: Mark) -> Result<()> {
        let found = self.since(mark, 0, Record::is_refusal)?;
        anyhow::ensure!(found.is_empty(), "expected no refusal, found {found:#?}");
        Ok(())
    }
}
