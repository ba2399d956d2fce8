//! A list with a journal: restarts, torn ends, damage, full disks, and what memory keeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ALGOS;
use crate::common::{self, Bank, FILE, Memory, entries, entry, fresh, in_step, list_on};
use ima::{Entry, HashAlgo, PcrIndex};
use measure::journal::{JournalFault, Medium, ScanError};
use measure::proof::ProofError;
use measure::{Added, Form, Journal, List, ListOptions, MeasureError, PcrBank};

fn resume(bytes: &[u8], mark: Option<&[u8]>) -> Result<(Memory, Journal), ScanError> {
    let memory = Memory::of(bytes);
    let mark = mark.map(|mark| Box::new(Memory::of(mark)) as Box<dyn Medium>);
    let journal = Journal::resume(Arc::new(memory.clone()), mark)?;
    Ok((memory, journal))
}

/// A journal's bytes after each of `count` batches of one entry, the list's entries, and the mark.
fn grown(count: usize) -> (Vec<Vec<u8>>, Vec<Entry>, Vec<u8>) {
    let (memory, mark, bank) = (Memory::default(), Memory::default(), Bank::own(&ALGOS));
    let header = common::header(&*bank);
    let journal = Journal::begin(Arc::new(memory.clone()), Some(Box::new(mark.clone())), &header).unwrap();
    let mut states = vec![memory.bytes()];
    let list = list_on(journal, &bank).unwrap();
    states.push(memory.bytes());
    for number in 1..count {
        if number % 3 == 0 {
            list.add_violation(b"/violated", FILE, None, &[]).unwrap();
        } else {
            list.add(entry(number)).unwrap();
        }
        states.push(memory.bytes());
    }
    (states, entries(&list), mark.bytes())
}

#[test]
fn a_list_goes_on_where_a_crash_left_it() {
    let (states, before, _) = grown(10);
    let (memory, journal) = resume(states.last().unwrap(), None).unwrap();
    let bank = Bank::own(&ALGOS);
    let list = list_on(journal, &bank).unwrap();
    assert_eq!((list.count(), list.violations(), list.due()), (10, 3, 0));
    assert_eq!(entries(&list), before);
    assert!(in_step(&*bank, &list));
    assert_eq!(list.add(entry(1)).unwrap(), Added::Duplicate, "what was measured is not measured again");
    assert_eq!(list.add(entry(77)).unwrap(), Added::New);
    assert!(in_step(&*bank, &list));
    // And once more.
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    let bank = Bank::own(&ALGOS);
    let again = list_on(journal, &bank).unwrap();
    assert_eq!(entries(&again), entries(&list));
    assert!(in_step(&*bank, &again));
}

#[test]
fn a_file_cut_off_anywhere_keeps_every_whole_batch() {
    let (states, all, _) = grown(7);
    let whole = states.last().unwrap();
    for length in states[0].len()..=whole.len() {
        let kept = states.iter().rposition(|state| state.len() <= length).unwrap();
        let (memory, journal) = resume(&whole[..length], None).unwrap();
        assert_eq!(journal.repaired(), (length - states[kept].len()) as u64, "{length}");
        assert_eq!(memory.kept(), states[kept], "{length}");
        let bank = Bank::own(&ALGOS);
        let list = list_on(journal, &bank).unwrap();
        // A list without an entry begins anew.
        assert_eq!(entries(&list), all[..kept.max(1)], "{length}");
        assert!(in_step(&*bank, &list));
        list.add(entry(500)).unwrap();
        let (_, journal) = resume(&memory.kept(), None).unwrap();
        assert_eq!(journal.repaired(), 0);
    }
}

#[test]
fn a_file_that_lost_what_was_confirmed_is_refused() {
    let (states, _, mark) = grown(5);
    let whole = states.last().unwrap();
    for length in states[0].len()..whole.len() {
        let refused = resume(&whole[..length], Some(&mark)).unwrap_err();
        let fault = JournalFault::Shortened { size: length as u64, confirmed: whole.len() as u64 };
        assert!(matches!(refused, ScanError::Fault(found) if found == fault), "{length}");
    }
    assert!(resume(whole, Some(&mark)).is_ok());
    // A mark that is damaged, or of another journal, says nothing.
    let mut other = mark.clone();
    other[10] ^= 1;
    assert!(resume(&whole[..whole.len() - 1], Some(&other)).is_ok());
}

#[test]
fn a_flipped_bit_before_the_last_batch_is_damage() {
    let (states, _, mark) = grown(6);
    let whole = states.last().unwrap();
    let last = states[states.len() - 2].len();
    for byte in 0..last {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        let refused = resume(&flipped, None).unwrap_err();
        let ScanError::Fault(fault) = refused else { panic!("{byte}: {refused}") };
        let header = byte < states[0].len();
        let expected = match fault {
            JournalFault::NoJournal | JournalFault::Version(_) | JournalFault::Header => header,
            JournalFault::Damaged { offset } => !header && offset <= byte as u64,
            _ => false,
        };
        assert!(expected, "{byte}: {fault}");
    }
    // In the last batch the mark alone tells damage from a torn end; what it says was on disk is not cut.
    for byte in last..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x10;
        assert!(resume(&flipped, None).unwrap().1.repaired() > 0);
        let refused = resume(&flipped, Some(&mark)).unwrap_err();
        assert!(matches!(refused, ScanError::Fault(JournalFault::Damaged { .. })), "{byte}: {refused}");
    }
}

#[test]
fn a_journal_that_is_refused_keeps_its_bytes() {
    let (states, _, _) = grown(6);
    let mut damaged = states.last().unwrap().clone();
    let middle = states[3].len() - 5;
    damaged[middle] ^= 1;
    let memory = Memory::of(&damaged);
    assert!(Journal::resume(Arc::new(memory.clone()), None).is_err());
    assert_eq!(memory.bytes(), damaged);
}

#[test]
fn batches_that_are_missing_or_change_places_are_damage() {
    let (states, _, _) = grown(6);
    let piece =
        |from: usize, to: usize| states.last().unwrap()[states[from].len()..states[to].len()].to_vec();
    let begin = states[0].clone();
    let without = [begin.clone(), piece(0, 2), piece(3, 6)].concat();
    let swapped = [begin.clone(), piece(0, 2), piece(3, 4), piece(2, 3), piece(4, 6)].concat();
    let twice = [begin, piece(0, 3), piece(2, 3), piece(3, 6)].concat();
    for bytes in [without, swapped, twice] {
        let refused = resume(&bytes, None).unwrap_err();
        assert!(matches!(refused, ScanError::Fault(JournalFault::Damaged { .. })), "{refused}");
    }
}

#[test]
fn garbage_behind_the_last_batch_is_cut() {
    let (states, all, mark) = grown(4);
    let whole = states.last().unwrap();
    // Zeros of a block never written, an old record, a record cut short and then other data.
    let old = whole[states[1].len()..states[2].len()].to_vec();
    for garbage in [vec![0; 5000], old, b"IJRE\xff\xff\xff\xff".to_vec(), b"IJIJRIJRS".repeat(300)] {
        let (memory, journal) = resume(&[whole.clone(), garbage].concat(), Some(&mark)).unwrap();
        assert_eq!(&memory.kept(), whole);
        assert_eq!(entries(&list_on(journal, &Bank::own(&ALGOS)).unwrap()), all);
    }
}

#[test]
fn a_disk_full_after_any_byte_denies_and_loses_nothing() {
    let batch = {
        let (states, _, _) = grown(3);
        states[3].len() - states[2].len()
    };
    for space in 0..batch + 40 {
        let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
        let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
        list.add(entry(1)).unwrap();
        let confirmed = memory.kept();
        memory.set_space(Some(space));
        let first = list.add(entry(2));
        if let Err(error) = &first {
            assert!(matches!(error, MeasureError::Journal { index: 2, .. }), "{space}: {error}");
            assert_eq!(memory.bytes(), confirmed, "nothing half-written stays");
            assert!(list.add(entry(2)).is_err() || space >= batch, "{space}: no duplicate of it either");
        }
        memory.set_space(None);
        list.add(entry(3)).unwrap();
        assert_eq!((list.count(), list.due()), (4, 0));
        assert!(in_step(&*bank, &list));
        let (_, journal) = resume(&memory.kept(), None).unwrap();
        assert_eq!(journal.repaired(), 0);
        let bank = Bank::own(&ALGOS);
        assert_eq!(entries(&list_on(journal, &bank).unwrap()), entries(&list));
    }
}

#[test]
fn what_a_failed_sync_dropped_is_written_again() {
    for failures in 1..4 {
        let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
        let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
        for number in 0..5 {
            list.add(entry(number)).unwrap();
        }
        memory.fail_syncs(failures);
        for _ in 0..failures {
            assert!(matches!(list.add(entry(9)), Err(MeasureError::Journal { index: 6, .. })));
        }
        list.add(entry(9)).unwrap();
        // After a power failure the disk has every byte, those included that the failed write shared a page with.
        assert_eq!(memory.kept(), memory.bytes());
        let (_, journal) = resume(&memory.kept(), None).unwrap();
        assert_eq!(journal.repaired(), 0);
        assert_eq!(entries(&list_on(journal, &Bank::own(&ALGOS)).unwrap()), entries(&list));
    }
}

#[test]
fn a_device_gets_what_was_written_and_not_extended() {
    let bank = Bank::device(&ALGOS);
    let memory = Memory::default();
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    list.add(entry(1)).unwrap();
    bank.broken.store(true, Ordering::Relaxed);
    for number in 2..5 {
        assert!(matches!(list.add(entry(number)), Err(MeasureError::Extend { index: 2, .. })));
    }
    let bank = bank.again();
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    let again = list_on(journal, &bank).unwrap();
    assert_eq!((again.count(), again.due()), (5, 0));
    assert!(in_step(&*bank, &again));
}

#[test]
fn a_device_that_holds_something_else_is_refused() {
    let bank = Bank::device(&ALGOS);
    let memory = Memory::default();
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    for number in 1..5 {
        list.add(entry(number)).unwrap();
    }
    let before = memory.bytes();
    let refused = |bank: Arc<Bank>, bytes: &[u8]| {
        let (_, journal) = resume(bytes, None).unwrap();
        let error = list_on(journal, &bank).unwrap_err();
        assert!(matches!(error, MeasureError::Proof(ProofError::Device { .. })), "{error:?}");
    };
    // Somebody else extended it; and the journal is older than the registers.
    let other = bank.again();
    let value = vec![ima::Digest::ones(ALGOS[0]), ima::Digest::ones(ALGOS[1])];
    other.extend(PcrIndex::DEFAULT, &value).unwrap();
    refused(other, &before);
    list.add(entry(9)).unwrap();
    refused(bank.again(), &before);
}

#[test]
fn a_device_that_was_reset_gets_the_whole_list() {
    let bank = Bank::device(&ALGOS);
    let memory = Memory::default();
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    for number in 1..700 {
        list.add(entry(number)).unwrap();
    }
    let bank = Bank::device(&ALGOS);
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    let options = ListOptions {
        journal: Some(journal),
        memory: Some(0),
        ..ListOptions::new(common::template(), Arc::<Bank>::clone(&bank))
    };
    let again = List::new(options).unwrap();
    assert_eq!((again.count(), again.due()), (700, 0));
    assert!(in_step(&*bank, &again));
}

#[test]
fn a_register_that_was_not_zero_when_the_list_began_is_no_obstacle() {
    let bank = Bank::device(&ALGOS);
    let value = vec![ima::Digest::ones(ALGOS[0]), ima::Digest::ones(ALGOS[1])];
    bank.extend(PcrIndex::DEFAULT, &value).unwrap();
    let memory = Memory::default();
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    list.add(entry(1)).unwrap();
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    assert_eq!(list_on(journal, &bank.again()).unwrap().count(), 2);
}

#[test]
fn a_journal_that_begins_with_what_the_registers_never_held_is_refused() {
    // Made by a list whose bank lies: it records what no replay gives.
    #[derive(Debug)]
    struct Lying(Arc<Bank>);
    impl PcrBank for Lying {
        fn algos(&self) -> Vec<HashAlgo> {
            self.0.algos()
        }
        fn extend(&self, pcr: PcrIndex, digests: &[ima::Digest]) -> Result<(), measure::BankError> {
            self.0.extend(pcr, digests)
        }
        fn read(&self, _: PcrIndex, algo: HashAlgo) -> Result<Option<ima::Digest>, measure::BankError> {
            Ok(Some(ima::Digest::ones(algo)))
        }
    }
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let journal = fresh(&memory, &*bank);
    let lying = Arc::new(Lying(bank));
    let options = ListOptions { journal: Some(journal), ..ListOptions::new(common::template(), lying) };
    List::new(options).unwrap().add(entry(1)).unwrap();
    // Its own base is consistent, so a replay agrees; the device's register has never been there.
    let bank = Bank::device(&ALGOS);
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    let error = list_on(journal, &bank).unwrap_err();
    assert!(matches!(error, MeasureError::Proof(ProofError::Device { .. })), "{error:?}");
}

#[test]
fn an_end_record_holds_what_sha256sum_and_the_registers_say() {
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    for number in 0..3 {
        list.add(entry(number)).unwrap();
    }
    list.end().unwrap();
    assert!(
        matches!(list.add(entry(7)), Err(MeasureError::Journal { index: 4, .. })),
        "nothing after the end"
    );
    assert_eq!(list.add(entry(1)).unwrap(), Added::Duplicate);
    list.end().unwrap();
    let bytes = memory.bytes();
    let whole = list.snapshot().read_at(Form::Binary, HashAlgo::Sha1, 0, usize::MAX).unwrap();
    let digest = ima::hash(HashAlgo::Sha256, &whole).unwrap();
    // By the byte table of docs/journal.md: when, entries, digest, registers.
    let at = bytes.windows(4).rposition(|window| window == b"IJRZ").unwrap();
    let payload = &bytes[at + 32..];
    assert_eq!(payload[8..16], 4_u64.to_le_bytes());
    assert_eq!(&payload[16..48], digest.bytes());
    let value = bank.read(PcrIndex::DEFAULT, HashAlgo::Sha256).unwrap().unwrap();
    assert!(payload.ends_with(value.bytes()));
}

#[test]
fn entries_let_go_are_read_back_and_none_is_listed_twice() {
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let options = |journal, memory| ListOptions {
        journal: Some(journal),
        memory,
        ..ListOptions::new(common::template(), Arc::<Bank>::clone(&bank))
    };
    let list = List::new(options(fresh(&memory, &*bank), Some(200_000))).unwrap();
    let plain = List::new(ListOptions::new(common::template(), Bank::own(&ALGOS))).unwrap();
    let early = list.snapshot();
    for number in 0..5000 {
        assert_eq!(list.add(entry(number)).unwrap(), Added::New);
        plain.add(entry(number)).unwrap();
    }
    assert!(list.resident() < 300_000, "{} bytes in memory", list.resident());
    assert!(plain.resident() > 800_000, "{} bytes without a limit", plain.resident());
    for number in [0, 1, 255, 256, 2500, 4999] {
        assert_eq!(list.add(entry(number)).unwrap(), Added::Duplicate, "{number}");
    }
    let (limited, whole) = (list.snapshot(), plain.snapshot());
    assert_eq!(early.len(), 1);
    assert_eq!(early.entry(0).unwrap(), limited.entry(0).unwrap());
    for (form, algo) in [(Form::Ascii, HashAlgo::Sha1), (Form::Binary, HashAlgo::Sha256)] {
        let expected = whole.read_at(form, algo, 0, usize::MAX).unwrap();
        assert_eq!(limited.size(form, algo), expected.len() as u64);
        let mut read = Vec::new();
        while read.len() < expected.len() {
            read.extend(limited.read_at(form, algo, read.len() as u64, 4099).unwrap());
        }
        assert!(read == expected);
    }
    // A restart keeps the limit, and the list.
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    let again = List::new(options(journal, Some(200_000))).unwrap();
    assert!(again.resident() < 300_000, "{} bytes in memory", again.resident());
    assert_eq!(entries(&again), entries(&plain));
    assert_eq!(again.add(entry(4)).unwrap(), Added::Duplicate);
}

#[test]
fn an_entry_that_cannot_be_read_back_denies() {
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let options = ListOptions {
        journal: Some(fresh(&memory, &*bank)),
        memory: Some(0),
        ..ListOptions::new(common::template(), bank)
    };
    let list = List::new(options).unwrap();
    for number in 0..600 {
        list.add(entry(number)).unwrap();
    }
    let snapshot = list.snapshot();
    memory.write_all_at(b"damage", 5000).unwrap();
    assert!(matches!(list.add(entry(3)), Err(MeasureError::ReadBack(_))));
    assert!(snapshot.read_at(Form::Ascii, HashAlgo::Sha1, 0, 100_000).is_err());
    assert_eq!(list.add(entry(599)).unwrap(), Added::Duplicate);
    assert_eq!(list.add(entry(601)).unwrap(), Added::New);
}

#[test]
fn an_entry_that_a_journal_cannot_hold_stands_in_nobodys_way() {
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    let named = |template: &str, algo: HashAlgo, content: usize| {
        let digest = ima::hash(algo, &content.to_le_bytes()).unwrap();
        let signature = [&[3][..], &vec![7; content]].concat();
        let event = ima::Event { label: Some(&signature), ..ima::Event::file(digest, b"/f", FILE) };
        ima::Template::named(template).unwrap().entry(PcrIndex::DEFAULT, &event).unwrap()
    };
    // The template without lengths writes 16 bytes where a reader takes 20; and a signature of 16 MiB.
    let unfit = [named("ima", HashAlgo::Md5, 1), named("ima-sig", HashAlgo::Sha256, 16 << 20)];
    for entry in unfit {
        assert!(matches!(list.add(entry), Err(MeasureError::Unfit)));
    }
    list.add(named("ima", HashAlgo::Sha1, 1)).unwrap();
    list.add(named("ima-sig", HashAlgo::Sha256, 60_000)).unwrap();
    assert_eq!((list.count(), list.due()), (3, 0));
    let (_, journal) = resume(&memory.bytes(), None).unwrap();
    assert_eq!(entries(&list_on(journal, &Bank::own(&ALGOS)).unwrap()), entries(&list));
}

#[test]
fn many_writers_share_waits_for_the_disk_and_agree_with_it() {
    let (memory, bank) = (Memory::default(), Bank::own(&ALGOS));
    let list = list_on(fresh(&memory, &*bank), &bank).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let list = &list;
            scope.spawn(move || {
                for number in 0..300 {
                    // Half of them everybody's, half one's own.
                    list.add(entry(number)).unwrap();
                    list.add(entry(10_000 + writer * 1000 + number)).unwrap();
                }
            });
        }
    });
    assert_eq!(list.count(), 1 + 300 + 8 * 300);
    assert!(in_step(&*bank, &list));
    assert_eq!(list.journal().unwrap().facts().entries as usize, list.count());
    let (_, journal) = resume(&memory.kept(), None).unwrap();
    let bank = Bank::own(&ALGOS);
    assert_eq!(entries(&list_on(journal, &bank).unwrap()), entries(&list));
}
