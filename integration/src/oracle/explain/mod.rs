//! Which differences between the kernel and imafs are the ones that docs/differences.md tells of.
//!
//! A difference at an operation is taken apart into [`Item`]s: another result, one list entry or one audit record
//! that only one side has. Each item needs an explanation: a named rule over the operation, the file, the policy and
//! what both sides say. What none explains is unexplained. The rules are as narrow as they can be without deciding
//! anew what IMA decides; how often each was used is counted, so that one that explains too much is seen.

mod items;
mod rules;
#[cfg(test)]
mod tests;

use crate::oracle::draft::{Draft, Op};
use crate::oracle::steps::{Difference, Run, differences};
use crate::oracle::world::{self, FileId, World};
use anyhow::Result;
pub use items::{Item, Side, What};
use std::collections::{BTreeMap, BTreeSet};

/// What is known when an item is looked at.
#[derive(Debug)]
pub struct Context<'a> {
    /// The scenario.
    pub draft: &'a Draft,
    /// The file system before the operation; at the end for a line of the tree.
    pub world: &'a World,
    /// The operation; none for a line of the tree.
    pub op: Option<&'a Op>,
    /// What the kernel answered.
    pub kernel: &'a str,
    /// What imafs answered.
    pub imafs: &'a str,
    /// All items of this operation.
    pub items: &'a [Item],
    /// What was explained before.
    pub past: &'a Past,
}

/// What earlier explanations leave for later ones.
#[derive(Debug, Default)]
pub struct Past {
    /// Entries that imafs had, explained, and the kernel has not had yet.
    pub early: BTreeSet<String>,
    /// The same the other way round.
    pub late: BTreeSet<String>,
    /// Opens that one side refused, by actor and name.
    pub unopened: BTreeSet<(String, String)>,
    /// Files whose content or label is another since an explained difference, and by which explanation.
    pub parted: BTreeMap<FileId, &'static str>,
    /// Files that the kernel audited with a digest of zeros, since they were opened with O_DIRECT.
    pub audited_as_zeros: BTreeSet<FileId>,
    /// Files for which an earlier denial was recorded by the kernel, by file and cause.
    pub denied: BTreeSet<(FileId, String)>,
}

/// A named reason.
#[derive(Debug)]
pub struct Explanation {
    /// Its name in the report.
    pub name: &'static str,
    /// The row or section of docs/differences.md that it stands for: words that must be found there.
    pub documented: &'static str,
    /// Whether it explains the item.
    pub explains: fn(&Context<'_>, &Item) -> bool,
    /// Whether content or label of the file may be another on both sides afterwards.
    pub parts: bool,
}

/// All explanations; the first that explains an item counts.
pub fn all() -> &'static [Explanation] {
    rules::ALL
}

/// What is left of the differences of two runs.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How often each explanation was used.
    pub explained: BTreeMap<&'static str, usize>,
    /// What nothing explains, with the operation's index.
    pub unexplained: Vec<Unexplained>,
}

/// An item that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// The operation's index; none before and after the operations.
    pub index: Option<usize>,
    /// What it is.
    pub item: Item,
    /// The whole difference, for people.
    pub whole: String,
}

/// Holds two runs of a draft against each other.
///
/// # Errors
/// Fails when they are not runs of the same operations.
pub fn judge(draft: &Draft, kernel: &Run, imafs: &Run) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut past = Past::default();
    let mut world = World::new(draft);
    let mut at: BTreeMap<usize, &Difference> = BTreeMap::new();
    let found = differences(kernel, imafs)?;
    for difference in &found {
        match difference {
            Difference::Step { index, .. } => drop(at.insert(*index, difference)),
            Difference::Prelude { .. } => {
                let item = Item { side: Side::Both, what: What::Prelude, text: String::new(), file: None };
                verdict.unexplained.push(Unexplained { index: None, item, whole: difference.to_string() });
            }
            Difference::Tree { .. } => {}
        }
    }
    for (index, (op, step)) in draft.ops.iter().zip(&kernel.steps).enumerate() {
        if let Some(Difference::Step { kernel, imafs, .. }) = at.get(&index).copied() {
            let items = items::of_step(&world, op, kernel, imafs);
            let answers = (kernel.result.as_str(), imafs.result.as_str());
            let whole = at.get(&index).map(ToString::to_string).unwrap_or_default();
            settle(
                &mut verdict,
                &mut past,
                &(draft, &world, Some(op), answers),
                &items,
                (Some(index), &whole),
            );
        }
        remember(&mut past, &world, op, step, imafs.steps.get(index));
        world.follow(op, &step.result);
    }
    for difference in &found {
        if let Difference::Tree { path, kernel, imafs } = difference {
            let items = items::of_tree(&world, path, kernel, imafs);
            let whole = difference.to_string();
            settle(&mut verdict, &mut past, &(draft, &world, None, (kernel, imafs)), &items, (None, &whole));
        }
    }
    Ok(verdict)
}

type Place<'a> = (&'a Draft, &'a World, Option<&'a Op>, (&'a str, &'a str));

/// Explains the items of one place.
fn settle(
    verdict: &mut Verdict,
    past: &mut Past,
    (draft, world, op, (kernel, imafs)): &Place<'_>,
    items: &[Item],
    (index, whole): (Option<usize>, &str),
) {
    for item in items {
        let context = Context { draft, world, op: *op, kernel, imafs, items, past };
        let found = all().iter().find(|explanation| (explanation.explains)(&context, item));
        let Some(explanation) = found else {
            let whole = whole.to_owned();
            verdict.unexplained.push(Unexplained { index, item: item.clone(), whole });
            continue;
        };
        *verdict.explained.entry(explanation.name).or_default() += 1;
        note(past, explanation, item, *op, (kernel, imafs));
    }
}

/// What an explained item leaves behind.
fn note(
    past: &mut Past,
    explanation: &Explanation,
    item: &Item,
    op: Option<&Op>,
    (kernel, imafs): (&str, &str),
) {
    match (item.what, item.side) {
        (What::Entry, Side::Imafs) => drop(past.early.insert(item.text.clone())),
        (What::Entry, Side::Kernel) => drop(past.late.insert(item.text.clone())),
        _ => {}
    }
    let opens = op.filter(|op| op.verb() == "open" && item.what == What::Result);
    if let Some(op) = opens
        && (kernel == "ok") != (imafs == "ok")
    {
        past.unopened.insert((op.actor.to_owned(), op.arg(1).to_owned()));
    }
    // A refused write leaves other content than one that was let through.
    let writes = op.is_some_and(world::writes) && item.what == What::Result;
    if (explanation.parts || writes)
        && let Some(file) = item.file
    {
        past.parted.entry(file).or_insert(explanation.name);
    }
}

/// What happened at an operation that explanations of later ones ask for.
fn remember(
    past: &mut Past,
    world: &World,
    op: &Op,
    kernel: &crate::oracle::steps::Step,
    _imafs: Option<&crate::oracle::steps::Step>,
) {
    for record in &kernel.records {
        if items::audits_zeros(record)
            && let Some(file) = items::named(world, record)
        {
            past.audited_as_zeros.insert(file);
        }
        if let (Some(cause), Some(file)) = (items::cause(record), items::named(world, record)) {
            past.denied.insert((file, cause.to_owned()));
        }
    }
    // What is copied from a file that is another is another too.
    if op.verb() == "copyrange"
        && let (Some(from), Some(to)) = (world.opened(op.actor, op.arg(1)), world.opened(op.actor, op.arg(2)))
        && let Some(name) = past.parted.get(&from).copied()
    {
        past.parted.entry(to).or_insert(name);
    }
    if op.verb() == "close" {
        past.unopened.remove(&(op.actor.to_owned(), op.arg(1).to_owned()));
    }
}
