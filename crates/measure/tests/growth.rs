//! The list while it grows: many writers, readers at any offset, failures in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ima::template::FileAttrs;
use ima::{Digest, Entry, Event, HashAlgo, PcrIndex, Pcrs, Template, parse_ascii, parse_binary};
use measure::{
    Added, BankError, Form, Journal, JournalError, List, ListOptions, MeasureError, NoBank, PcrBank, SoftBank,
};

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };
const ALGOS: [HashAlgo; 4] = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];

fn options(bank: Arc<dyn PcrBank>) -> ListOptions {
    ListOptions::new(Template::named("ima-sig").unwrap(), bank)
}

fn entry(list: &List, number: usize) -> Entry {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    let name = format!("/usr/lib/x86_64-linux-gnu/lib{number}.so.{}", "9".repeat(number % 40));
    list.template().entry(list.pcr(), &Event::file(digest, name.as_bytes(), FILE)).unwrap()
}

fn replayed(list: &List, entries: usize, algo: HashAlgo) -> Digest {
    let mut pcrs = Pcrs::new(algo).unwrap();
    pcrs.replay(list.snapshot().entries_from(0).take(entries));
    pcrs.value(PcrIndex::DEFAULT)
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
                        list.add(entry(&list, number)).unwrap();
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
                    pcrs.replay(checkpoint.snapshot.entries_from(0));
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
        list.add(entry(&list, number)).unwrap();
        if number % 50 == 0 {
            list.add_violation(b"/with space\nand newline", FILE, None, &[]).unwrap();
        }
    }
    let snapshot = list.snapshot();
    list.add(entry(&list, 9999)).unwrap();
    for algo in [HashAlgo::Sha1, HashAlgo::Sha512] {
        for form in [Form::Ascii, Form::Binary] {
            let whole = snapshot.read_at(form, algo, 0, usize::MAX).unwrap();
            assert_eq!(whole.len() as u64, snapshot.size(form, algo));
            let entries: Vec<Entry> = match form {
                Form::Ascii => parse_ascii(&whole, algo).map(|entry| entry.unwrap().entry).collect(),
                Form::Binary => parse_binary(&whole, algo).map(|entry| entry.unwrap().entry).collect(),
            };
            assert!(entries.iter().eq(snapshot.entries_from(0)));
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

/// A bank, and a journal, that can be broken.
struct Breakable {
    banks: SoftBank,
    bank_broken: AtomicBool,
    journal_broken: AtomicBool,
    journal: parking_lot::Mutex<Vec<Entry>>,
}

impl PcrBank for Breakable {
    fn algos(&self) -> Vec<HashAlgo> {
        self.banks.algos()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        if self.bank_broken.load(Ordering::Relaxed) {
            return Err(BankError::Device { code: 0x922, source: "retry later".into() });
        }
        self.banks.extend(pcr, digests)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.banks.read(pcr, algo)
    }
}

impl Journal for Breakable {
    fn append(&self, entry: &Entry) -> Result<(), JournalError> {
        if self.journal_broken.load(Ordering::Relaxed) {
            return Err(JournalError(std::io::ErrorKind::StorageFull.into()));
        }
        self.journal.lock().push(entry.clone());
        Ok(())
    }
}

fn breakable() -> (Arc<Breakable>, List) {
    let device = Arc::new(Breakable {
        banks: SoftBank::new(&[HashAlgo::Sha256]).unwrap(),
        bank_broken: AtomicBool::new(false),
        journal_broken: AtomicBool::new(false),
        journal: parking_lot::Mutex::default(),
    });
    let mut options = options(Arc::<Breakable>::clone(&device));
    options.journal = Some(Arc::<Breakable>::clone(&device));
    let list = List::new(options).unwrap();
    (device, list)
}

fn in_step(device: &Breakable, list: &List) -> bool {
    let value = device.banks.read(PcrIndex::DEFAULT, HashAlgo::Sha256).unwrap().unwrap();
    let journaled = device.journal.lock();
    journaled.iter().eq(list.snapshot().entries_from(0))
        && replayed(list, usize::MAX, HashAlgo::Sha256) == value
}

#[test]
fn an_entry_that_is_not_in_the_register_is_no_duplicate_until_it_is() {
    let (device, list) = breakable();
    device.bank_broken.store(true, Ordering::Relaxed);
    for number in [1, 2, 1] {
        let failed = list.add(entry(&list, number));
        assert!(matches!(failed, Err(MeasureError::Extend { index: 1, .. })), "{failed:?}");
    }
    assert!(list.add_violation(b"/v", FILE, None, &[]).is_err());
    assert_eq!((list.count(), list.due(), list.violations()), (4, 3, 1));
    assert_eq!(device.journal.lock().len(), 2, "each is journaled when its turn comes, once");
    let checkpoint = list.checkpoint().unwrap();
    let value = replayed(&list, checkpoint.extended, HashAlgo::Sha256);
    assert_eq!((checkpoint.extended, checkpoint.pcrs), (1, vec![(PcrIndex::DEFAULT, value)]));

    device.bank_broken.store(false, Ordering::Relaxed);
    assert_eq!(list.add(entry(&list, 2)).unwrap(), Added::Duplicate);
    assert_eq!((list.count(), list.due()), (4, 0));
    assert!(in_step(&device, &list));
}

#[test]
fn what_is_not_in_the_journal_is_not_in_the_register() {
    let (device, list) = breakable();
    device.journal_broken.store(true, Ordering::Relaxed);
    let failed = list.add(entry(&list, 1));
    assert!(matches!(failed, Err(MeasureError::Journal { index: 1, .. })), "{failed:?}");
    let value = device.banks.read(PcrIndex::DEFAULT, HashAlgo::Sha256).unwrap().unwrap();
    assert_eq!(value, replayed(&list, 1, HashAlgo::Sha256));
    device.journal_broken.store(false, Ordering::Relaxed);
    list.catch_up().unwrap();
    assert!(in_step(&device, &list));
    assert_eq!(list.add(entry(&list, 1)).unwrap(), Added::Duplicate);
}
