//! Reads a journal by the byte table of `docs/journal.md`, with nothing of imafs's own.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::path::Path;

/// What a journal holds up to its last whole batch.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// The payloads of all entry records: the binary list.
    pub list: Vec<u8>,
    /// Entries.
    pub entries: u64,
    /// Whether the last record is an end.
    pub ended: bool,
    /// The list's digest in that end.
    pub list_digest: Vec<u8>,
    /// Where the last whole batch ends.
    pub end: usize,
    /// Bytes behind it.
    pub unfinished: usize,
}

fn sum(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().iter().take(8).copied().collect()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..at + N).context("cut short")?;
    Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl Journal {
    /// Reads the journal at `path`.
    ///
    /// # Errors
    /// Fails when its header is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(bytes.starts_with(b"imafsJRN"), "no journal: {}", path.display());
        ensure!(number::<2>(&bytes, 8)? == 1, "another version");
        let header = usize::try_from(number::<2>(&bytes, 10)?)?;
        let covered = bytes.get(..header - 8).context("the header is cut short")?;
        ensure!(bytes.get(header - 8..header) == Some(&sum(&[covered])), "the header's checksum is wrong");
        let id = bytes.get(16..32).context("the header has no id")?;
        let mut journal = Self { end: header, ..Self::default() };
        let (mut at, mut sequence, mut batch) = (header, 0, 1);
        let (mut list, mut entries) = (Vec::new(), 0);
        while let Some((kind, payload)) = record(&bytes, id, at, sequence, batch) {
            at += 32 + payload.len();
            sequence += 1;
            if kind == b'E' {
                list.extend_from_slice(payload);
                entries += 1;
                continue;
            }
            journal.list.append(&mut list);
            journal.entries += std::mem::take(&mut entries);
            journal.ended = kind == b'Z';
            journal.list_digest = payload.get(16..48).filter(|_| journal.ended).unwrap_or_default().to_vec();
            journal.end = at;
            batch += 1;
        }
        journal.unfinished = bytes.len() - journal.end;
        Ok(journal)
    }
}

/// The record at `at`, if it is whole and the one that comes next.
fn record<'a>(bytes: &'a [u8], id: &[u8], at: usize, sequence: u64, batch: u64) -> Option<(u8, &'a [u8])> {
    let head = bytes.get(at..at + 32)?;
    let (covered, checksum) = head.split_at_checked(24)?;
    let payload = bytes.get(at + 32..at + 32 + usize::try_from(number::<4>(head, 4).ok()?).ok()?)?;
    let expected = number::<8>(head, 8).ok()? == sequence && number::<8>(head, 16).ok()? == batch;
    let whole = head.starts_with(b"IJR") && checksum == sum(&[id, covered, payload]);
    (expected && whole).then_some((*head.get(3)?, payload))
}
