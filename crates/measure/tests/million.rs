//! A list of a million entries: what it costs to hold and to read. Alone in its program, for it looks at the
//! program's memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::sync::Arc;

use ima::template::FileAttrs;
use ima::{Entry, Event, HashAlgo, Template};
use measure::{Added, Form, List, ListOptions, NoBank};

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };

fn entry(list: &List, number: usize) -> Entry {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    let name = format!("/usr/lib/x86_64-linux-gnu/lib{number}.so.{}", "9".repeat(number % 40));
    list.template().entry(list.pcr(), &Event::file(digest, name.as_bytes(), FILE)).unwrap()
}

#[test]
fn a_million_entries_are_read_at_their_end_without_walking_there() {
    let list = List::new(ListOptions::new(Template::named("ima-sig").unwrap(), Arc::new(NoBank))).unwrap();
    let before = resident();
    for number in 0..1_000_000 {
        list.add(entry(&list, number)).unwrap();
    }
    let per_entry = resident().saturating_sub(before) / 1_000_000;
    println!("{per_entry} bytes of memory per entry");
    assert!(per_entry < 400, "{per_entry}");
    assert_eq!(list.add(entry(&list, 5)).unwrap(), Added::Duplicate);
    let snapshot = list.snapshot();
    let size = snapshot.size(Form::Ascii, HashAlgo::Sha1);
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(snapshot.read_at(Form::Ascii, HashAlgo::Sha1, size - 1000, 4096).unwrap().len(), 1000);
    }
    // A walk over a million entries takes tens of milliseconds.
    assert!(begun.elapsed().as_millis() < 300, "{:?}", begun.elapsed());
}

/// This process's resident memory in bytes, from /proc/self/statm.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
