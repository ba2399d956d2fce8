//! A bank that is restarted is extended with the whole list again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ima::template::FileAttrs;
use ima::{Digest, Event, HashAlgo, PcrIndex, Pcrs, Template};
use measure::{Added, BankError, List, ListOptions, MeasureError, PcrBank, SoftBank};
use parking_lot::Mutex;

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };

/// Restarts before certain extends, counted from 1, and tells so once.
struct Restarting {
    banks: Mutex<SoftBank>,
    at: Mutex<(usize, Vec<usize>)>,
    /// It restarts when it is next looked at.
    looked_at: Arc<AtomicBool>,
}

impl PcrBank for Restarting {
    fn algos(&self) -> Vec<HashAlgo> {
        vec![HashAlgo::Sha256]
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        let mut at = self.at.lock();
        at.0 += 1;
        let now = at.0;
        if at.1.contains(&now) {
            *self.banks.lock() = SoftBank::new(&self.algos()).unwrap();
            return Err(BankError::Reset);
        }
        self.banks.lock().extend(pcr, digests)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.banks.lock().read(pcr, algo)
    }

    fn admit(&self, pcr: PcrIndex) -> Result<(), BankError> {
        if pcr.value() < 24 { Ok(()) } else { Err(BankError::NoSuchPcr(pcr)) }
    }

    fn check(&self) -> Result<(), BankError> {
        if self.looked_at.swap(false, Ordering::Relaxed) {
            *self.banks.lock() = SoftBank::new(&self.algos()).unwrap();
            return Err(BankError::Reset);
        }
        Ok(())
    }
}

fn list(restarts: &[usize]) -> List {
    watched(restarts, &Arc::default())
}

fn watched(restarts: &[usize], looked_at: &Arc<AtomicBool>) -> List {
    let looked_at = Arc::clone(looked_at);
    let banks = Mutex::new(SoftBank::new(&[HashAlgo::Sha256]).unwrap());
    let bank = Restarting { banks, at: Mutex::new((0, restarts.to_vec())), looked_at };
    List::new(ListOptions::new(Template::named("ima-ng").unwrap(), Arc::new(bank))).unwrap()
}

fn add(list: &List, number: u32) -> Result<Added, MeasureError> {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    list.add(list.template().entry(list.pcr(), &Event::file(digest, b"/file", FILE)).unwrap())
}

fn agrees(list: &List) -> bool {
    let mut pcrs = Pcrs::new(HashAlgo::Sha256).unwrap();
    let entries: Vec<_> = list.snapshot().entries_from(0).collect::<Result<_, _>>().unwrap();
    pcrs.replay(&entries);
    list.bank().read(list.pcr(), HashAlgo::Sha256).unwrap() == Some(pcrs.value(list.pcr()))
}

#[test]
fn an_add_across_a_restart_succeeds_and_the_list_replays() {
    // Twice in a row at the fourth entry, once while it catches up.
    let list = list(&[4, 5, 8]);
    for number in 0..20 {
        assert_eq!(add(&list, number).unwrap(), Added::New);
        assert!(agrees(&list), "after {number}");
    }
    assert_eq!((list.count(), list.due()), (21, 0));
}

#[test]
fn a_bank_that_does_nothing_but_restart_denies_and_is_caught_up_with_later() {
    // The last time when it has taken one entry again.
    let list = list(&[4, 5, 6, 8]);
    (0..2).for_each(|number| assert_eq!(add(&list, number).unwrap(), Added::New));
    assert!(matches!(add(&list, 2), Err(MeasureError::Extend { source: BankError::Reset, .. })));
    assert_eq!(list.count(), 4);
    // Also what was complete before is so no longer.
    assert!(list.due() > 0);
    assert_eq!(add(&list, 0).unwrap(), Added::Duplicate);
    assert_eq!(list.due(), 0);
    assert!(agrees(&list));
}

#[test]
fn a_restart_that_is_found_by_looking_is_made_good_without_an_entry() {
    let restarts = Arc::new(AtomicBool::new(false));
    // And once more while it catches up.
    let list = watched(&[8], &restarts);
    (0..5).for_each(|number| assert_eq!(add(&list, number).unwrap(), Added::New));
    list.check().unwrap();
    assert!(agrees(&list));
    restarts.store(true, Ordering::Relaxed);
    list.check().unwrap();
    assert!(agrees(&list));
    assert_eq!((list.count(), list.due()), (6, 0));
}

#[test]
fn an_entry_for_a_register_that_is_not_to_be_had_stands_in_nobodys_way() {
    let list = list(&[]);
    let entry = |pcr: u32| {
        let digest = ima::hash(HashAlgo::Sha256, b"other").unwrap();
        list.template().entry(PcrIndex::new(pcr).unwrap(), &Event::file(digest, b"/file", FILE)).unwrap()
    };
    for _ in 0..2 {
        let refused = list.add(entry(30)).unwrap_err();
        assert!(
            matches!(refused, MeasureError::Register { source: BankError::NoSuchPcr(_), .. }),
            "{refused:?}"
        );
    }
    assert_eq!(list.count(), 1);
    assert_eq!(list.add(entry(11)).unwrap(), Added::New);
    assert_eq!(add(&list, 1).unwrap(), Added::New);
    assert!(agrees(&list));
}
