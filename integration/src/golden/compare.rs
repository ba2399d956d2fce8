//! Holds an outcome against a recording and names every place where they part.

use crate::golden::list::Entry;
use crate::golden::outcome::{Operation, Outcome};
use crate::golden::scenario::Recording;
use crate::golden::syntax;
use anyhow::{Context, Result, ensure};
use std::fmt;

/// A part of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `pre.tsv`, by line.
    Before,
    /// `ops.tsv`, by line: result, entries added, violations added.
    Operations,
    /// `audit.tsv`, by operation: all its records.
    Audit,
    /// The measurement list, by entry; boot_aggregate is entry 1.
    List,
    /// `tree`, by line.
    Tree,
    /// `ops.tsv` of a scenario of rules, by line: what `imafs policy check --kernel` says of the rule.
    Check,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "operations before the policy",
            Self::Operations => "operations",
            Self::Audit => "audit records of operation",
            Self::List => "list entries",
            Self::Tree => "tree lines",
            Self::Check => "policy check of operation",
        })
    }
}

/// One place where imafs and the kernel part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// In which part of the recording.
    pub part: Part,
    /// The kernel's first line there, counted from 1. With nothing from the kernel: the line it would have had.
    pub line: usize,
    /// What the kernel has.
    pub kernel: Vec<String>,
    /// What imafs has instead.
    pub imafs: Vec<String>,
}

impl Mismatch {
    /// The kernel's last line of the place; one before the first when the kernel has nothing there.
    pub fn last(&self) -> usize {
        match self.part {
            Part::Before | Part::Operations | Part::Audit | Part::Check => self.line,
            Part::List | Part::Tree => (self.line + self.kernel.len()).saturating_sub(1),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}..={}", self.part, self.line, self.last())?;
        self.kernel.iter().try_for_each(|line| writeln!(f, "  kernel {line}"))?;
        self.imafs.iter().try_for_each(|line| writeln!(f, "  imafs  {line}"))
    }
}

/// Every place where the outcome is not what was recorded.
///
/// # Errors
/// Fails where they cannot be compared at all, and where imafs contradicts itself: counts that are not those of
/// its list, registers that the list does not replay to.
pub fn mismatches(recording: &Recording, outcome: &Outcome) -> Result<Vec<Mismatch>> {
    consistent(recording, outcome)?;
    let mut found = operations(Part::Before, &recording.before, &outcome.before)?;
    found.extend(operations(Part::Operations, &recording.operations, &outcome.operations)?);
    found.extend(operations(Part::Check, &syntax::recorded(&recording.operations)?, &outcome.checked)?);
    let text = |entry: &Entry| shown(&entry.ascii);
    let (_, kernel) = recording.list.split_first().context("the recorded list is empty")?;
    let (_, imafs) = outcome.list.split_first().context("imafs's list is empty")?;
    // What is left of the list begins with its second entry.
    found.extend(hunks(Part::List, 2, kernel, imafs, text));
    found.extend(hunks(Part::Tree, 1, &recording.tree, &outcome.tree, |line| shown(line)));
    Ok(found)
}

/// What must hold whatever the kernel did.
fn consistent(recording: &Recording, outcome: &Outcome) -> Result<()> {
    for (who, list, counts) in
        [("kernel", &recording.list, recording.counts), ("imafs", &outcome.list, outcome.counts)]
    {
        let violations = list.iter().filter(|entry| entry.is_violation()).count() as u64;
        let counted = (list.len() as u64, violations);
        ensure!(counts == counted, "{who}: counts are {counts:?}, the list has {counted:?}");
    }
    if recording.registers.is_empty() {
        ensure!(outcome.registers.trim().is_empty(), "registers without banks: {}", outcome.registers);
        return Ok(());
    }
    crate::golden::list::matches_registers(&outcome.list, &outcome.registers)
}

/// Compares what was performed line by line.
fn operations(part: Part, kernel: &[Operation], imafs: &[Operation]) -> Result<Vec<Mismatch>> {
    ensure!(kernel.len() == imafs.len(), "{} operations instead of {}", imafs.len(), kernel.len());
    let mut found = Vec::new();
    for (line, (kernel, imafs)) in (1..).zip(kernel.iter().zip(imafs)) {
        ensure!(kernel.text == imafs.text, "operation {line} is another one");
        if kernel.result != imafs.result {
            let (kernel, imafs) = (vec![kernel.result.clone()], vec![imafs.result.clone()]);
            found.push(Mismatch { part, line, kernel, imafs });
        }
        if kernel.records != imafs.records {
            let texts = |records: &[Vec<u8>]| records.iter().map(|record| shown(record)).collect();
            let (kernel, imafs) = (texts(&kernel.records), texts(&imafs.records));
            found.push(Mismatch { part: Part::Audit, line, kernel, imafs });
        }
    }
    Ok(found)
}

/// Bytes as text, with escapes for all that is not printable ASCII. Quotes are left as they are.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// The places where two sequences part, by a longest common subsequence. `first` is the number of the first line.
fn hunks<T: PartialEq>(
    part: Part,
    first: usize,
    kernel: &[T],
    imafs: &[T],
    text: impl Fn(&T) -> String,
) -> Vec<Mismatch> {
    let common = common_lengths(kernel, imafs);
    let length = |i: usize, j: usize| common.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    let mut open: Option<Mismatch> = None;
    while i < kernel.len() || j < imafs.len() {
        let (ours, theirs) = (imafs.get(j), kernel.get(i));
        if ours.is_some() && ours == theirs {
            found.extend(open.take());
            i += 1;
            j += 1;
            continue;
        }
        let place = open.get_or_insert_with(|| Mismatch {
            part,
            line: first + i,
            kernel: Vec::new(),
            imafs: Vec::new(),
        });
        match (theirs, ours) {
            (Some(theirs), ours) if ours.is_none() || length(i + 1, j) >= length(i, j + 1) => {
                place.kernel.push(text(theirs));
                i += 1;
            }
            (_, Some(ours)) => {
                place.imafs.push(text(ours));
                j += 1;
            }
            (_, None) => break,
        }
    }
    found.extend(open);
    found
}

/// Lengths of the longest common subsequences of all pairs of tails.
fn common_lengths<T: PartialEq>(left: &[T], right: &[T]) -> Vec<Vec<usize>> {
    let mut rows = vec![vec![0; right.len() + 1]];
    for l in left.iter().rev() {
        let mut row = vec![0];
        let below = rows.last().cloned().unwrap_or_default();
        // `below` is turned round, so that both begin at the tail's end.
        for (r, pair) in right.iter().rev().zip(below.windows(2)) {
            let (diagonal, up) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            let before = row.last().copied().unwrap_or(0);
            row.push(if l == r { diagonal + 1 } else { up.max(before) });
        }
        rows.push(row);
    }
    rows.reverse();
    rows.iter_mut().for_each(|row| row.reverse());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kernel: &str, imafs: &str) -> Vec<(usize, String, String)> {
        let (kernel, imafs): (Vec<_>, Vec<_>) = (kernel.chars().collect(), imafs.chars().collect());
        let hunks = hunks(Part::Tree, 1, &kernel, &imafs, char::to_string);
        hunks.into_iter().map(|hunk| (hunk.line, hunk.kernel.concat(), hunk.imafs.concat())).collect()
    }

    #[test]
    fn equal_sequences_have_no_hunks() {
        assert!(found("abc", "abc").is_empty());
        assert!(found("", "").is_empty());
    }

    #[test]
    fn hunks_are_where_sequences_part_and_no_larger() {
        let hunk = |line: usize, kernel: &str, imafs: &str| (line, kernel.to_owned(), imafs.to_owned());
        assert_eq!(found("abcd", "abXd"), [hunk(3, "c", "X")]);
        assert_eq!(found("abcd", "bcd"), [hunk(1, "a", "")]);
        assert_eq!(found("abcd", "abcdXY"), [hunk(5, "", "XY")]);
        assert_eq!(found("abcd", "aXbcY"), [hunk(2, "", "X"), hunk(4, "d", "Y")]);
        assert_eq!(found("ab", ""), [hunk(1, "ab", "")]);
    }
}
