//! The list while it grows: many writers, readers at any offset, failures in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bank, FILE, Memory, entry, in_step, replayed};
use ima::{Entry, HashAlgo, PcrIndex, Pcrs, parse_ascii, parse_binary};
use measure::{Added, Form, List, ListOptions, MeasureError, NoBank, PcrBank, SoftBank};

const ALGOS: [HashAlgo; 4] = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];

fn options(bank: Arc<dyn PcrBank>) -> ListOptions {
    ListOptions::new(common::template(), bank)
}

#[test]
fn eight_writers_leave_a_list_that_replays_to_every_bank() {
    let list = List::new(options(Arc::new(SoftBank::new(&ALGOS).unwrap()))).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for number in 0..2000 {
                        list.add(entry(number)).unwrap();
                        if number % 100 == 0 {
                            list.add_violation(b"/v", FILE, None, &[]).unwrap();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let checkpoint = list.checkpoint().unwrap();
                assert_eq!(checkpoint.extended, checkpoint.snapshot.len());
                for (pcr, value) in checkpoint.pcrs {
                    let mut pcrs = Pcrs::new(value.algo()).unwrap();
                    let entries: Vec<Entry> =
                        checkpoint.snapshot.entries_from(0).collect::<Result<_, _>>().unwrap();
                    pcrs.replay(&entries);
                    assert_eq!(pcrs.value(pcr), value);
                }
            }
        });
        let finished = writers.into_iter().map(std::thread::ScopedJoinHandle::join).all(|end| end.is_ok());
        stop.store(true, Ordering::Relaxed);
        assert!(finished);
    });
    // Eight times the same 2000, each added once; eight times 20 violations; boot_aggregate.
    assert_eq!((list.count(), list.violations()), (1 + 2000 + 160, 160));
    for algo in ALGOS {
        let value = list.bank().read(PcrIndex::DEFAULT, algo).unwrap().unwrap();
        assert_eq!(replayed(&list, usize::MAX, algo), value, "{}", algo.name());
    }
}

#[test]
fn any_piece_of_either_form_is_that_piece_of_the_whole() {
    let list = List::new(options(Arc::new(NoBank))).unwrap();
    for number in 0..600 {
        list.add(entry(number)).unwrap();
        if number % 50 == 0 {
            list.add_violation(b"/with space\nand newline", FILE, None, &[]).unwrap();
        }
    }
    let snapshot = list.snapshot();
    list.add(entry(9999)).unwrap();
    for algo in [HashAlgo::Sha1, HashAlgo::Sha512] {
        for form in [Form::Ascii, Form::Binary] {
            let whole = snapshot.read_at(form, algo, 0, usize::MAX).unwrap();
            assert_eq!(whole.len() as u64, snapshot.size(form, algo));
            let entries: Vec<Entry> = match form {
                Form::Ascii => parse_ascii(&whole, algo).map(|entry| entry.unwrap().entry).collect(),
                Form::Binary => parse_binary(&whole, algo).map(|entry| entry.unwrap().entry).collect(),
            };
            assert!(entries.into_iter().eq(snapshot.entries_from(0).map(Result::unwrap)));
            for max in [1, 37, 4096, 100_000] {
                // A step that is no multiple of anything, so that pieces begin everywhere.
                for offset in (0..whole.len() + 3000).step_by(1009 + max / 10) {
                    let expected = whole.get(offset..).unwrap_or_default();
                    let expected = &expected[..expected.len().min(max)];
                    assert!(snapshot.read_at(form, algo, offset as u64, max).unwrap() == expected);
                }
            }
        }
    }
}

#[test]
fn an_entry_that_is_not_in_the_register_is_no_duplicate_until_it_is() {
    let (memory, bank) = (Memory::default(), Bank::own(&[HashAlgo::Sha256]));
    let list = common::list_on(common::fresh(&memory, &*bank), &bank).unwrap();
    bank.broken.store(true, Ordering::Relaxed);
    for number in [1, 2, 1] {
        let failed = list.add(entry(number));
        assert!(matches!(failed, Err(MeasureError::Extend { index: 1, .. })), "{failed:?}");
    }
    assert!(list.add_violation(b"/v", FILE, None, &[]).is_err());
    assert_eq!((list.count(), list.due(), list.violations()), (4, 3, 1));
    assert_eq!(list.journal().unwrap().facts().entries, 4, "the journal has them all");
    let checkpoint = list.checkpoint().unwrap();
    let value = replayed(&list, checkpoint.extended, HashAlgo::Sha256);
    assert_eq!((checkpoint.extended, checkpoint.pcrs), (1, vec![(PcrIndex::DEFAULT, value)]));

    bank.broken.store(false, Ordering::Relaxed);
    assert_eq!(list.add(entry(2)).unwrap(), Added::Duplicate);
    assert_eq!((list.count(), list.due()), (4, 0));
    assert!(in_step(&*bank, &list));
}

#[test]
fn what_is_not_in_the_journal_is_not_in_the_register() {
    let (memory, bank) = (Memory::default(), Bank::own(&[HashAlgo::Sha256]));
    let list = common::list_on(common::fresh(&memory, &*bank), &bank).unwrap();
    memory.set_broken(true);
    let failed = list.add(entry(1));
    assert!(matches!(failed, Err(MeasureError::Journal { index: 1, .. })), "{failed:?}");
    let value = bank.read(PcrIndex::DEFAULT, HashAlgo::Sha256).unwrap().unwrap();
    assert_eq!(value, replayed(&list, 1, HashAlgo::Sha256));
    memory.set_broken(false);
    list.catch_up().unwrap();
    assert!(in_step(&*bank, &list));
    assert_eq!(list.add(entry(1)).unwrap(), Added::Duplicate);
}

#[test]
fn what_waits_for_a_broken_device_is_bounded() {
    let bank = Bank::own(&[HashAlgo::Sha256]);
    let list = List::new(options(Arc::<Bank>::clone(&bank))).unwrap();
    bank.broken.store(true, Ordering::Relaxed);
    for number in 0..(1 << 16) {
        assert!(matches!(list.add(entry(number)), Err(MeasureError::Extend { .. })), "{number}");
    }
    assert!(matches!(list.add(entry(1 << 16)), Err(MeasureError::Behind(65_536))));
    assert_eq!(list.due(), 1 << 16);
    bank.broken.store(false, Ordering::Relaxed);
    list.catch_up().unwrap();
    assert_eq!(list.add(entry(1 << 16)).unwrap(), Added::New);
    assert!(in_step(&*bank, &list));
}
