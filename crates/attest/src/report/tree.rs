//! The files of a list as a tree, coloured by what became of them.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::verdict::{EntryFacts, EntryVerdict};

use super::words::{cause_words, class, grouped, shown};

/// The most files that are named. Those that are refused or not proven go first.
const MAX_FILES: usize = 20_000;

/// The deepest directory that is folded by itself; a hostile path can have two thousand.
const MAX_DEPTH: usize = 48;

/// A directory.
#[derive(Debug, Default)]
struct Directory<'a> {
    directories: BTreeMap<&'a str, Directory<'a>>,
    files: BTreeMap<&'a str, &'a EntryFacts>,
    /// Files beneath it: accepted, refused, unproven.
    counts: [u64; 3],
    /// Accepted files in it that are not named.
    left_out: u64,
}

pub(super) fn section(entries: &[EntryFacts]) -> Markup {
    let root = plant(entries, MAX_FILES);
    let others: Vec<_> =
        entries.iter().filter(|entry| !entry.path.starts_with('/')).take(MAX_FILES).collect();
    html! {
        @if root.counts != [0; 3] {
            section {
                h2 { "Files" }
                p class="note" { "Of a file that was measured several times the worst verdict counts." }
                div id="tree" class="tree" { (inside(&root)) }
            }
        }
        @if !others.is_empty() {
            section {
                h2 { "Not files" }
                ul class="leaves" { @for entry in others { (leaf(&entry.path, entry)) } }
            }
        }
    }
}

const fn rank(verdict: EntryVerdict) -> usize {
    match verdict {
        EntryVerdict::Accepted => 0,
        EntryVerdict::Unproven => 1,
        EntryVerdict::Refused => 2,
    }
}

/// The worst entry of each path, in directories; at most `room` files are named.
fn plant(entries: &[EntryFacts], room: usize) -> Directory<'_> {
    let mut worst: BTreeMap<(Option<&str>, &str), &EntryFacts> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.path.starts_with('/')) {
        let known = worst.entry((entry.ns.as_deref(), &entry.path)).or_insert(entry);
        if rank(entry.verdict) > rank(known.verdict) {
            *known = entry;
        }
    }
    let bad = worst.values().filter(|entry| entry.verdict != EntryVerdict::Accepted).count();
    let mut room_for_good = room.saturating_sub(bad);
    let mut room_for_bad = room;
    let mut root = Directory::default();
    for ((ns, path), entry) in worst {
        let room =
            if entry.verdict == EntryVerdict::Accepted { &mut room_for_good } else { &mut room_for_bad };
        let is_named = *room > 0;
        *room = room.saturating_sub(1);
        root.take(ns, path, entry, is_named);
    }
    root
}

impl<'a> Directory<'a> {
    /// Of a host list each mount's files are in a directory of its name.
    fn take(&mut self, ns: Option<&'a str>, path: &'a str, entry: &'a EntryFacts, is_named: bool) {
        let mut directory = self;
        let mut rest = path.trim_start_matches('/');
        directory.count(entry);
        if let Some(ns) = ns {
            directory = directory.directories.entry(ns).or_default();
            directory.count(entry);
        }
        for _ in 0..MAX_DEPTH {
            let Some((name, beneath)) = rest.split_once('/') else { break };
            directory = directory.directories.entry(name).or_default();
            directory.count(entry);
            rest = beneath;
        }
        if is_named {
            directory.files.insert(rest, entry);
        } else {
            directory.left_out += 1;
        }
    }

    fn count(&mut self, entry: &EntryFacts) {
        let [accepted, refused, unproven] = &mut self.counts;
        *match entry.verdict {
            EntryVerdict::Accepted => accepted,
            EntryVerdict::Refused => refused,
            EntryVerdict::Unproven => unproven,
        } += 1;
    }

    const fn verdict(&self) -> EntryVerdict {
        match self.counts {
            [_, 0, 0] => EntryVerdict::Accepted,
            [_, 0, _] => EntryVerdict::Unproven,
            _ => EntryVerdict::Refused,
        }
    }
}

fn inside(directory: &Directory<'_>) -> Markup {
    html! {
        @for (name, below) in &directory.directories {
            details open[below.verdict() == EntryVerdict::Refused] {
                summary {
                    span class=(format!("dot {}", class(below.verdict()))) {}
                    span class="path" { (shown(name)) "/" } " " (numbers(below.counts))
                }
                (inside(below))
            }
        }
        @if !directory.files.is_empty() || directory.left_out > 0 {
            ul class="leaves" {
                @for (name, entry) in &directory.files { (leaf(name, entry)) }
                @if directory.left_out > 0 { li class="note" { (grouped(directory.left_out)) " more" } }
            }
        }
    }
}

fn numbers([accepted, refused, unproven]: [u64; 3]) -> Markup {
    html! {
        span class="small" {
            (grouped(accepted)) " accepted"
            @if refused > 0 { ", " strong { (grouped(refused)) " refused" } }
            @if unproven > 0 { ", " (grouped(unproven)) " not proven" }
        }
    }
}

fn leaf(name: &str, entry: &EntryFacts) -> Markup {
    html! {
        li {
            span class=(format!("dot {}", class(entry.verdict))) {}
            span class="path" { (shown(name)) }
            @if entry.verdict != EntryVerdict::Accepted {
                " " span class="small" { (class(entry.verdict)) ": " (cause_words(entry.cause)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::entry;
    use crate::verdict::EntryCause;

    #[test]
    fn the_worst_verdict_of_a_path_counts_and_bad_files_are_named_first() {
        let entries = [
            entry(0, "/bin/a", EntryCause::Listed),
            entry(1, "/bin/a", EntryCause::WrongDigest),
            entry(2, "/bin/a", EntryCause::Listed),
            entry(3, "/bin/b", EntryCause::Listed),
            entry(4, "/z", EntryCause::Unproven),
            entry(5, "boot_aggregate", EntryCause::BootAggregate),
        ];
        let root = plant(&entries, 100);
        assert_eq!(root.counts, [1, 1, 1]);
        assert_eq!(root.directories["bin"].counts, [1, 1, 0]);
        assert_eq!(root.directories["bin"].files["a"].index, 1);
        let root = plant(&entries, 2);
        assert_eq!(root.directories["bin"].files.keys().collect::<Vec<_>>(), [&"a"]);
        assert_eq!((root.directories["bin"].left_out, root.files.len()), (1, 1));
    }

    #[test]
    fn a_path_of_two_thousand_directories_is_no_deeper_than_the_page_can_be() {
        let path = "/d".repeat(2000);
        let entries = [entry(0, &path, EntryCause::Listed)];
        let mut directory = &plant(&entries, 10);
        let mut depth = 0;
        while let Some(below) = directory.directories.values().next() {
            directory = below;
            depth += 1;
        }
        assert_eq!(depth, MAX_DEPTH);
        assert_eq!(directory.files.len(), 1);
    }
}
