//! Two runs of one scenario, operation by operation: what each came to, with the list entries and the records that
//! it caused, and where the two part.

use crate::golden::list::Entry;
use crate::golden::outcome::{Operation, Outcome};
use crate::golden::scenario::Recording;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt;

/// What one operation came to on one side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// `ok`, `ok 2`, an errno's name, `exit 7`, `not open`.
    pub result: String,
    /// Entries added to the list, violations among them.
    pub entries: Vec<Entry>,
    /// How much the count of violations grew.
    pub violations: u64,
    /// Audit records, without what is a machine's own.
    pub records: Vec<String>,
}

/// A run of a scenario on one side.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Entries before the first operation but boot_aggregate, which is a machine's own.
    pub prelude: Vec<Entry>,
    /// The operations.
    pub steps: Vec<Step>,
    /// All files at the end: path, and the line without it.
    pub tree: BTreeMap<String, String>,
}

impl Run {
    /// The kernel's run.
    ///
    /// # Errors
    /// Fails when counts and list do not agree.
    pub fn of_kernel(recording: &Recording) -> Result<Self> {
        Self::new(&recording.operations, &recording.list, &recording.tree).context("the kernel's run")
    }

    /// imafs's run.
    ///
    /// # Errors
    /// Fails when counts and list do not agree.
    pub fn of_imafs(outcome: &Outcome) -> Result<Self> {
        Self::new(&outcome.operations, &outcome.list, &outcome.tree).context("imafs's run")
    }

    fn new(operations: &[Operation], list: &[Entry], tree: &[Vec<u8>]) -> Result<Self> {
        let counted: Vec<(String, usize, u64)> = operations.iter().map(counts).collect::<Result<_>>()?;
        let added: usize = counted.iter().map(|(_, entries, _)| entries).sum();
        let before = list.len().checked_sub(added).context("more entries were added than there are")?;
        let (prelude, mut rest) = list.split_at_checked(before).context("the list is too short")?;
        let (_, prelude) = prelude.split_first().context("the list has no boot_aggregate")?;
        let mut steps = Vec::new();
        for (operation, (result, entries, violations)) in operations.iter().zip(counted) {
            let (entries, left) = rest.split_at_checked(entries).context("the list is too short")?;
            rest = left;
            let listed = entries.iter().filter(|entry| entry.is_violation()).count() as u64;
            ensure!(listed == violations, "{violations} violations were counted, {listed} listed");
            let records = operation.records.iter().map(|record| shown(record)).collect();
            steps.push(Step { result, entries: entries.to_vec(), violations, records });
        }
        let tree = tree.iter().filter_map(|line| {
            let (path, rest) = shown(line).split_once("\\t").map(|(p, r)| (p.to_owned(), r.to_owned()))?;
            Some((path.strip_prefix("./").unwrap_or(&path).to_owned(), rest))
        });
        Ok(Self { prelude: prelude.to_vec(), steps, tree: tree.collect() })
    }
}

/// Takes `ok 2 +1 +0` apart.
fn counts(operation: &Operation) -> Result<(String, usize, u64)> {
    let mut words = operation.result.rsplitn(3, ' ');
    let mut count = || words.next().and_then(|word| word.strip_prefix('+')).unwrap_or_default();
    let (violations, entries) = (count(), count());
    let parsed = (entries.parse(), violations.parse());
    let (Ok(entries), Ok(violations)) = parsed else { anyhow::bail!("no counts in {:?}", operation.result) };
    Ok((words.next().unwrap_or_default().to_owned(), entries, violations))
}

/// Bytes as text, with escapes for all that is not printable ASCII.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// Where the two runs part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Before the first operation.
    Prelude {
        /// What the kernel listed.
        kernel: Vec<Entry>,
        /// What imafs listed.
        imafs: Vec<Entry>,
    },
    /// At an operation, by its index.
    Step {
        /// Which one.
        index: usize,
        /// What the kernel made of it.
        kernel: Step,
        /// What imafs made of it.
        imafs: Step,
    },
    /// A file at the end.
    Tree {
        /// Its path.
        path: String,
        /// The kernel's line, empty for no such file.
        kernel: String,
        /// imafs's.
        imafs: String,
    },
}

/// All places where two runs part.
///
/// # Errors
/// Fails when they are not runs of the same operations.
pub fn differences(kernel: &Run, imafs: &Run) -> Result<Vec<Difference>> {
    ensure!(kernel.steps.len() == imafs.steps.len(), "the runs have not the same length");
    let mut found = Vec::new();
    if kernel.prelude != imafs.prelude {
        found.push(Difference::Prelude { kernel: kernel.prelude.clone(), imafs: imafs.prelude.clone() });
    }
    for (index, (kernel, imafs)) in kernel.steps.iter().zip(&imafs.steps).enumerate() {
        if kernel != imafs {
            found.push(Difference::Step { index, kernel: kernel.clone(), imafs: imafs.clone() });
        }
    }
    let paths: std::collections::BTreeSet<&String> = kernel.tree.keys().chain(imafs.tree.keys()).collect();
    for path in paths {
        let line = |run: &Run| run.tree.get(path).cloned().unwrap_or_default();
        let (kernel, imafs) = (line(kernel), line(imafs));
        if kernel != imafs {
            found.push(Difference::Tree { path: path.clone(), kernel, imafs });
        }
    }
    Ok(found)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} +{} +{}", self.result, self.entries.len(), self.violations)?;
        self.entries.iter().try_for_each(|entry| write!(f, "\n      list  {}", shown(&entry.ascii)))?;
        self.records.iter().try_for_each(|record| write!(f, "\n      audit {record}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prelude { kernel, imafs } => {
                write!(f, "before the operations: {} entries, imafs {}", kernel.len(), imafs.len())
            }
            Self::Step { kernel, imafs, .. } => write!(f, "kernel {kernel}\n  imafs  {imafs}"),
            Self::Tree { path, kernel, imafs } => write!(f, "{path}\n  kernel {kernel}\n  imafs  {imafs}"),
        }
    }
}
