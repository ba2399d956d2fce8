//! A journal in its directory: who may be there, what becomes of the old one, real files and a real disk.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use crate::ALGOS;
use crate::common::{Bank, entries, entry, identity, in_step, list_on};
use ima::{HashAlgo, PcrIndex};
use measure::journal::{InspectError, OpenError, Outcome, Record, inspect};
use measure::{Journal, List};
use tempfile::TempDir;

fn open(directory: &Path, bank: &Bank) -> Result<Journal, OpenError> {
    Journal::open(directory, &identity(bank), bank)
}

fn outcome(journal: &Journal) -> Outcome {
    journal.held().unwrap().outcome.clone()
}

/// A list of `count` entries after `boot_aggregate`, in a directory.
fn list(directory: &Path, bank: &Arc<Bank>, count: usize) -> (Outcome, List) {
    let journal = open(directory, bank).unwrap();
    let outcome = outcome(&journal);
    let list = list_on(journal, bank).unwrap();
    for number in 0..count {
        list.add(entry(number)).unwrap();
    }
    (outcome, list)
}

fn place() -> (TempDir, std::path::PathBuf) {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("web-1");
    (base, directory)
}

#[test]
fn a_crash_continues_and_a_clean_end_archives() {
    let (_base, directory) = place();
    let bank = Bank::own(&ALGOS);
    let (first, crashed) = list(&directory, &bank, 5);
    assert_eq!(first, Outcome::New);
    // Dropped without an end, as a killed process leaves it.
    drop(crashed);
    let bank = Bank::own(&ALGOS);
    let (second, again) = list(&directory, &bank, 8);
    assert_eq!((second, again.count()), (Outcome::Continued, 9));
    assert!(in_step(&*bank, &again));
    again.end().unwrap();
    let whole = entries(&again);
    drop(again);
    let bank = Bank::own(&ALGOS);
    let (third, new) = list(&directory, &bank, 2);
    let archive = directory.canonicalize().unwrap().join("journal.000001");
    assert_eq!((third, new.count()), (Outcome::Archived(archive.clone()), 3));
    assert!(in_step(&*bank, &new));
    let mut archived = Vec::new();
    let inspection = inspect(&archive, &mut |record| {
        if let Record::Entry(entry) = record {
            archived.push(entry.clone());
        }
    });
    let inspection = inspection.unwrap();
    assert_eq!((inspection.entries, archived), (9, whole));
    assert_eq!(inspection.end.unwrap().entries, 9);
    new.end().unwrap();
    drop(new);
    let (fourth, _) = list(&directory, &Bank::own(&ALGOS), 1);
    assert_eq!(fourth, Outcome::Archived(directory.canonicalize().unwrap().join("journal.000002")));
}

#[test]
fn a_device_keeps_its_list_until_its_registers_are_reset() {
    let (_base, directory) = place();
    let bank = Bank::device(&ALGOS);
    let (_, first) = list(&directory, &bank, 3);
    first.end().unwrap();
    drop(first);
    let bank = bank.again();
    let (outcome, second) = list(&directory, &bank, 6);
    assert_eq!((outcome, second.count()), (Outcome::Continued, 7));
    assert!(in_step(&*bank, &second));
    drop(second);
    // Crashed, and the device was reset: the list goes on in it from the beginning.
    let bank = Bank::device(&ALGOS);
    let (outcome, third) = list(&directory, &bank, 7);
    assert_eq!((outcome, third.count()), (Outcome::Continued, 8));
    assert!(in_step(&*bank, &third));
    third.end().unwrap();
    drop(third);
    // Ended, and the device was reset: nothing of the list is in it.
    let bank = Bank::device(&ALGOS);
    let (outcome, fourth) = list(&directory, &bank, 1);
    let Outcome::Archived(archive) = outcome else { panic!("{outcome:?}") };
    assert_eq!(fourth.count(), 2);
    assert!(in_step(&*bank, &fourth));
    let inspection = inspect(&archive, &mut |_| {}).unwrap();
    assert_eq!((inspection.entries, inspection.end.unwrap().entries), (8, 8));
}

#[test]
fn the_directory_and_its_files_are_closed_to_others() {
    let (base, directory) = place();
    let journal = open(&directory, &Bank::own(&ALGOS)).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    for file in fs::read_dir(&directory).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
    drop(journal);
    for mode in [0o701, 0o710, 0o770, 0o755] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let refused = open(&directory, &Bank::own(&ALGOS)).unwrap_err();
        assert!(matches!(refused, OpenError::Open { mode: found, .. } if found == mode), "{refused}");
    }
    fs::write(base.path().join("file"), "").unwrap();
    for wrong in ["file", "no/such/parent"] {
        let refused = open(&base.path().join(wrong), &Bank::own(&ALGOS)).unwrap_err();
        assert!(matches!(refused, OpenError::System { .. }), "{refused}");
    }
}

#[test]
fn two_at_once_is_one_too_many() {
    let (_base, directory) = place();
    let first = open(&directory, &Bank::own(&ALGOS)).unwrap();
    let refused = open(&directory, &Bank::own(&ALGOS)).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(first);
    assert!(open(&directory, &Bank::own(&ALGOS)).is_ok());
}

#[test]
fn a_list_goes_on_for_the_same_mount_and_the_same_options_alone() {
    let (_base, directory) = place();
    let bank = Bank::own(&ALGOS);
    drop(list(&directory, &bank, 2));
    let mut other = identity(&*bank);
    other.ns_id = "db-1".to_owned();
    let refused = Journal::open(&directory, &other, &*bank).unwrap_err();
    assert!(matches!(refused, OpenError::OtherMount { .. }), "{refused}");
    let changes: [fn(&mut measure::journal::Identity); 4] = [
        |identity| identity.default_algo = HashAlgo::Sha512,
        |identity| identity.pcr = PcrIndex::new(11).unwrap(),
        |identity| identity.template = ima::Template::named("ima-ng").unwrap(),
        |identity| identity.banks = vec![HashAlgo::Sha256],
    ];
    for change in changes {
        let mut other = identity(&*bank);
        change(&mut other);
        let refused = Journal::open(&directory, &other, &*bank).unwrap_err();
        assert!(matches!(refused, OpenError::OtherOptions { .. }), "{refused}");
    }
    let device = Bank::device(&ALGOS);
    let refused = open(&directory, &device).unwrap_err();
    assert!(matches!(refused, OpenError::OtherOptions { .. }), "{refused}");
    // Nothing of that has changed it.
    assert_eq!(list(&directory, &Bank::own(&ALGOS), 0).1.count(), 3);
}

#[test]
fn a_damaged_journal_stays_as_it_is_and_says_where() {
    let (_base, directory) = place();
    drop(list(&directory, &Bank::own(&ALGOS), 5));
    let path = directory.join("journal");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let middle = good.len() / 2;
    bad[middle] ^= 1;
    fs::write(&path, &bad).unwrap();
    let refused = open(&directory, &Bank::own(&ALGOS)).unwrap_err();
    assert!(matches!(refused, OpenError::Scan { .. }), "{refused}");
    assert!(inspect(&path, &mut |_| {}).is_err_and(|error: InspectError| error.is_fault()));
    assert_eq!(fs::read(&path).unwrap(), bad);
    // The last byte, too: it was on disk.
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(open(&directory, &Bank::own(&ALGOS)), Err(OpenError::Scan { .. })));
    fs::write(&path, &good).unwrap();
    assert!(inspect(&directory, &mut |_| {}).is_ok());
    assert_eq!(list(&directory, &Bank::own(&ALGOS), 0).1.count(), 6);
}

#[test]
fn a_journal_half_made_is_no_journal() {
    let (_base, directory) = place();
    drop(open(&directory, &Bank::own(&ALGOS)).unwrap());
    fs::rename(directory.join("journal"), directory.join("journal.new")).unwrap();
    let journal = open(&directory, &Bank::own(&ALGOS)).unwrap();
    assert_eq!(outcome(&journal), Outcome::New);
    assert!(!directory.join("journal.new").exists());
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let (base, directory) = place();
    drop(open(&directory, &Bank::own(&ALGOS)).unwrap());
    let victim = base.path().join("victim");
    fs::write(&victim, "content").unwrap();
    fs::remove_file(directory.join("journal")).unwrap();
    std::os::unix::fs::symlink(&victim, directory.join("journal")).unwrap();
    assert!(matches!(open(&directory, &Bank::own(&ALGOS)), Err(OpenError::System { .. })));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "content");
}

#[test]
fn a_journal_without_a_batch_binds_nobody() {
    let (_base, directory) = place();
    let bank = Bank::own(&ALGOS);
    drop(open(&directory, &bank).unwrap());
    // Another PCR: the mount that was to have the other did not come about.
    let other = measure::journal::Identity { pcr: PcrIndex::new(11).unwrap(), ..identity(&*bank) };
    let journal = Journal::open(&directory, &other, &*bank).unwrap();
    assert_eq!(outcome(&journal), Outcome::New);
    drop(journal);
    let (outcome, begun) = list(&directory, &bank, 1);
    assert_eq!(outcome, Outcome::New);
    drop(begun);
    assert!(matches!(Journal::open(&directory, &other, &*bank), Err(OpenError::OtherOptions { .. })));
}
