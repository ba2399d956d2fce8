//! What an entry costs in memory that was let go to the journal. Alone in its program, for it looks at the program's
//! memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::fs::File;
use std::io;
use std::sync::Arc;

use common::{Bank, entry, header, template};
use ima::HashAlgo;
use measure::journal::Medium;
use measure::{Added, Form, Journal, List, ListOptions};

/// A file whose disk is always done.
#[derive(Debug)]
struct Careless(File);

impl Medium for Careless {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Medium::read_at(&self.0, buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Medium::write_all_at(&self.0, bytes, offset)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

/// This process's resident memory in bytes, from /proc/self/statm.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn an_entry_let_go_costs_its_place_in_the_index() {
    const COUNT: usize = 400_000;
    let bank = Bank::own(&[HashAlgo::Sha256]);
    let journal = Journal::begin(Arc::new(Careless(tempfile::tempfile().unwrap())), None, &header(&*bank));
    let options = ListOptions {
        journal: Some(journal.unwrap()),
        memory: Some(1 << 20),
        ..ListOptions::new(template(), bank)
    };
    let list = List::new(options).unwrap();
    let before = resident();
    for number in 0..COUNT {
        list.add(entry(number)).unwrap();
    }
    let per_entry = (resident().saturating_sub(before) - (1 << 20)) / COUNT;
    println!("{per_entry} bytes of memory per entry that was let go");
    // The index's table doubles, so an entry has 19 to 39 bytes of it; the rest is slack of the allocator.
    assert!(per_entry < 60, "{per_entry}");
    assert_eq!(list.add(entry(7)).unwrap(), Added::Duplicate);
    let snapshot = list.snapshot();
    let size = snapshot.size(Form::Ascii, HashAlgo::Sha1);
    for offset in [0, size / 2, size - 1000] {
        assert_eq!(snapshot.read_at(Form::Ascii, HashAlgo::Sha1, offset, 1000).unwrap().len(), 1000);
    }
}
