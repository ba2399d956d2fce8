//! The parts that a difference is made of.

use crate::oracle::draft::Op;
use crate::oracle::steps::Step;
use crate::oracle::world::{FileId, World};

/// Who has what the other has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Only the kernel.
    Kernel,
    /// Only imafs.
    Imafs,
    /// Each has its own.
    Both,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Another result.
    Result,
    /// A list entry.
    Entry,
    /// An entry that stands for a violation.
    Violation,
    /// An audit record.
    Record,
    /// The line of a file at the end.
    Line,
    /// What was listed before the first operation.
    Prelude,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Who has it.
    pub side: Side,
    /// What it is.
    pub what: What,
    /// Its text: the entry's or record's; nothing for a result.
    pub text: String,
    /// The file it is about.
    pub file: Option<FileId>,
}

/// The items of a difference at an operation.
pub fn of_step(world: &World, op: &Op, kernel: &Step, imafs: &Step) -> Vec<Item> {
    let mut items = Vec::new();
    let subject = world.subjects(op).first().copied();
    if kernel.result != imafs.result {
        items.push(Item { side: Side::Both, what: What::Result, text: String::new(), file: subject });
    }
    let entries = |step: &Step| -> Vec<(What, String)> {
        let what = |violation: bool| if violation { What::Violation } else { What::Entry };
        let text = |ascii: &[u8]| ascii.escape_ascii().to_string();
        step.entries.iter().map(|entry| (what(entry.is_violation()), text(&entry.ascii))).collect()
    };
    let records = |step: &Step| -> Vec<(What, String)> {
        step.records.iter().map(|record| (What::Record, record.clone())).collect()
    };
    for (theirs, ours) in [(entries(kernel), entries(imafs)), (records(kernel), records(imafs))] {
        for (side, (what, text)) in apart(&theirs, &ours) {
            let file = if what == What::Record { named(world, &text) } else { listed(world, &text) };
            items.push(Item { side, what, file: file.or(subject), text });
        }
    }
    if items.is_empty() {
        // The same entries in ASCII and not in binary, or in another order: nothing explains that.
        items.push(Item { side: Side::Both, what: What::Entry, text: String::new(), file: subject });
    }
    items
}

/// The item of a file at the end.
pub fn of_tree(world: &World, path: &str, kernel: &str, imafs: &str) -> Vec<Item> {
    let text = format!("{kernel}\n{imafs}");
    vec![Item { side: Side::Both, what: What::Line, text, file: world.file(path) }]
}

/// What only one of two sequences has, by a longest common subsequence.
fn apart(kernel: &[(What, String)], imafs: &[(What, String)]) -> Vec<(Side, (What, String))> {
    let mut found = Vec::new();
    let (mut theirs, mut ours) = (kernel, imafs);
    loop {
        match (theirs.split_first(), ours.split_first()) {
            (Some((a, rest)), Some((b, others))) if a == b => (theirs, ours) = (rest, others),
            (Some((a, rest)), None) => {
                found.push((Side::Kernel, a.clone()));
                theirs = rest;
            }
            (None, Some((b, others))) => {
                found.push((Side::Imafs, b.clone()));
                ours = others;
            }
            (Some((a, rest)), Some((b, others))) => {
                if common(rest, ours) >= common(theirs, others) {
                    found.push((Side::Kernel, a.clone()));
                    theirs = rest;
                } else {
                    found.push((Side::Imafs, b.clone()));
                    ours = others;
                }
            }
            (None, None) => return found,
        }
    }
}

/// Length of the longest common subsequence; the sequences are those of one operation, and short.
fn common(left: &[(What, String)], right: &[(What, String)]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for l in left {
        let mut diagonal = 0;
        let mut before = 0;
        for (cell, r) in row.iter_mut().skip(1).zip(right) {
            let up = *cell;
            *cell = if l == r { diagonal + 1 } else { up.max(before) };
            (diagonal, before) = (up, *cell);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The file that an audit record names.
pub fn named(world: &World, record: &str) -> Option<FileId> {
    let path = ["name=", "file="].iter().find_map(|key| value(record, key))?;
    let path = match path.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?.to_owned(),
        None => String::from_utf8(unhex(path)?).ok()?,
    };
    world.file(&path)
}

/// The file that a list entry names. Spaces in names are underscores there, and cannot be told from those.
fn listed(world: &World, entry: &str) -> Option<FileId> {
    entry.split(' ').find_map(|word| world.file(word.starts_with("/t/").then_some(word)?))
}

/// The cause of a record about appraisal.
pub fn cause(record: &str) -> Option<&str> {
    value(record, "cause=")
}

/// Whether a record of an audit rule has a digest of zeros, as O_DIRECT leaves it.
pub fn audits_zeros(record: &str) -> bool {
    let digest = value(record, "hash=").and_then(|hash| hash.trim_matches('"').split_once(':'));
    record.starts_with("type=1805")
        && digest.is_some_and(|(_, digest)| digest.bytes().all(|byte| byte == b'0'))
}

fn value<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record.split(' ').find_map(|word| word.strip_prefix(key))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Whether an operation opens something for reading.
pub fn reads(op: &Op) -> bool {
    match op.verb() {
        "cat" => true,
        "open" => op.arg(2).split('+').any(|flag| matches!(flag, "r" | "rw")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(text: &str) -> Vec<(What, String)> {
        text.chars().map(|letter| (What::Record, letter.to_string())).collect()
    }

    #[test]
    fn what_both_have_is_no_item() {
        let found = apart(&sequence("abcd"), &sequence("axcd"));
        let found: String = found.iter().map(|(side, (_, text))| format!("{side:?}{text} ")).collect();
        assert_eq!(found, "Kernelb Imafsx ");
        assert!(apart(&sequence("ab"), &sequence("ab")).is_empty());
        assert_eq!(apart(&sequence("ab"), &sequence("ba")).len(), 2);
    }

    #[test]
    fn a_record_names_its_file_in_quotes_or_in_hexadecimal() {
        let mut world = World::default();
        world.follow(&Op::new("0", &["mknod", "a b"]), "ok");
        world.follow(&Op::new("0", &["mknod", "c"]), "ok");
        assert_eq!(named(&world, "type=1800 name=2F742F612062 dev=*"), world.file("a b"));
        assert_eq!(named(&world, "type=1805 file=\"/t/c\" hash=\"x\""), world.file("c"));
        assert_eq!(cause("op=x cause=invalid-hash comm=\"op\""), Some("invalid-hash"));
    }
}
