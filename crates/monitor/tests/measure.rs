//! Measuring and violations.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

use common::{Bench, READ, READ_WRITE, Setting, WRITE, granted, rewrite};
use ima::{Digest, HashAlgo, PcrIndex};
use measure::{BankError, PcrBank, SoftBank};
use monitor::{Begun, ViolationRule};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MEASURE_ALL: &str = "measure func=FILE_CHECK\n";

#[test]
fn a_file_is_measured_once_and_the_second_open_is_answered_from_memory() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    assert!(matches!(bench.begin(&file, READ), Begun::Work(_)));
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 2, "boot_aggregate and the file");
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
    assert_eq!(bench.list.count(), 2);
}

#[test]
fn changed_content_is_measured_again_and_unchanged_content_is_not() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    bench.hold(&file, WRITE);
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 2, "opened for writing, nothing written");
    bench.hold(&file, WRITE);
    rewrite(&file, b"other\n");
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 3);
}

#[test]
fn a_host_edit_with_restored_size_and_mtime_is_measured() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    let before = std::fs::metadata(&file.disk).unwrap();
    rewrite(&file, b"jello\n");
    let times = std::fs::FileTimes::new().set_modified(before.modified().unwrap());
    std::fs::File::options().write(true).open(&file.disk).unwrap().set_times(times).unwrap();
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 3);
}

#[test]
fn a_rule_that_does_not_match_measures_nothing() {
    let bench = Bench::new("measure func=FILE_CHECK mask=MAY_WRITE\n");
    let file = bench.file("a", b"hello\n");
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
    assert_eq!(bench.list.count(), 1);
}

#[test]
fn reading_while_a_writer_has_it_open_is_one_violation_for_each_epoch() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    for epoch in 1..=2 {
        bench.hold(&file, WRITE);
        for _ in 0..3 {
            bench.pass(&file, READ);
        }
        assert_eq!(bench.list.violations(), epoch);
        bench.close(&file, WRITE);
        bench.pass(&file, READ);
        assert_eq!(bench.list.violations(), epoch, "the writer is gone");
    }
    assert!(bench.records().iter().all(|record| record.contains("open_writers")));
}

#[test]
fn the_older_rule_tells_of_each_such_open() {
    let setting = Setting { violations: ViolationRule::Each, ..Setting::default() };
    let bench = Bench::with(MEASURE_ALL, setting);
    let file = bench.file("a", b"hello\n");
    bench.hold(&file, WRITE);
    for _ in 0..3 {
        bench.pass(&file, READ);
    }
    assert_eq!(bench.list.violations(), 3);
}

#[test]
fn writing_while_a_measured_reader_has_it_open_is_a_violation() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.hold(&file, READ);
    bench.pass(&file, WRITE);
    assert_eq!(bench.list.violations(), 1);
    bench.pass(&file, READ_WRITE);
    assert_eq!(bench.list.violations(), 1, "once for each measured open");
    bench.close(&file, READ);
    bench.pass(&file, WRITE);
    assert_eq!(bench.list.violations(), 1, "no reader");
    assert!(bench.records().iter().all(|record| record.contains("ToMToU")));
}

#[test]
fn a_reader_that_no_rule_measures_arms_nothing() {
    let bench = Bench::new("measure func=FILE_CHECK uid=4242\n");
    let file = bench.file("a", b"hello\n");
    bench.hold(&file, READ);
    bench.pass(&file, WRITE);
    assert_eq!(bench.list.violations(), 0);
}

#[test]
fn violations_are_judged_by_the_counts_at_arrival_not_at_work() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.hold(&file, WRITE);
    let late = bench.begin(&file, READ);
    bench.close(&file, WRITE);
    granted(late);
    assert_eq!(bench.list.violations(), 1, "the writer was there when the reader came");
    let other = bench.file("b", b"hello\n");
    let early = bench.begin(&other, READ);
    let writer = bench.begin(&other, WRITE);
    granted(early);
    granted(writer);
    assert_eq!(bench.list.violations(), 2, "the reader's work came first, so the writer is a ToMToU");
}

#[test]
fn work_that_is_dropped_takes_its_open_off_the_counts() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    drop(bench.begin(&file, WRITE));
    bench.pass(&file, READ);
    assert_eq!(bench.list.violations(), 0);
}

#[test]
fn a_writable_mapping_that_outlives_its_open_is_a_violation() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, WRITE);
    file.written_elsewhere.store(true, Ordering::Relaxed);
    bench.pass(&file, READ);
    assert_eq!(bench.list.violations(), 1);
    rewrite(&file, b"other\n");
    let entries = bench.list.count();
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), entries + 1, "nothing is remembered while the mapping is left");
}

/// A soft bank that can be unplugged. A mock, because the soft bank never fails and real ones come with the TPM.
struct Unpluggable {
    soft: SoftBank,
    unplugged: AtomicBool,
}

impl PcrBank for Unpluggable {
    fn algos(&self) -> Vec<HashAlgo> {
        self.soft.algos()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        if self.unplugged.load(Ordering::Relaxed) {
            return Err(BankError::Device { code: -19, source: std::io::Error::other("unplugged").into() });
        }
        self.soft.extend(pcr, digests)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.soft.read(pcr, algo)
    }
}

#[test]
fn a_file_is_not_served_while_its_measurement_cannot_be_extended_and_is_afterwards() {
    let bank = Arc::new(Unpluggable {
        soft: SoftBank::new(&[HashAlgo::Sha256]).unwrap(),
        unplugged: AtomicBool::new(false),
    });
    let bench = Bench::over(Arc::clone(&bank) as Arc<dyn PcrBank>, MEASURE_ALL, Setting::default());
    let file = bench.file("a", b"hello\n");
    bank.unplugged.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        bench.refuse(&file, READ, "TPM_error(-19)");
    }
    bank.unplugged.store(false, Ordering::Relaxed);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 2, "the entry was made once");
}

/// A portable signature; the monitor records it and does not look into it.
const PORTABLE: &str = "050204d2d8a49d00463044022045d4305c0c1fa9fea77047e40d1e9e98c6b6dce9848a018cd7cadbc95a5a496f\
                        02207f2525ae12dc5478add45ba09c263e4a9da910b513bd1a26ff50c5feb8ce2a89";

fn set(file: &common::TestFile, name: &str, hex: &str) {
    let value = hex::decode(hex).unwrap();
    rustix::fs::setxattr(&file.disk, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
    common::settle();
}

/// The list's last line.
fn last_line(bench: &Bench) -> String {
    let list = bench.list.snapshot();
    let mut line = Vec::new();
    list.entry(list.len() - 1).unwrap().unwrap().write_ascii(&mut line, HashAlgo::Sha1).unwrap();
    String::from_utf8(line).unwrap()
}

#[test]
fn what_evm_protects_is_in_the_fields_that_show_it() {
    let bench = Bench::new("measure func=FILE_CHECK template=evm-sig\n");
    let file = bench.file("a", b"hello\n");
    // Root's, mode 0644; the order is EVM's and not the alphabet's.
    set(&file, "security.capability", "0100000202000000000000000000000000000000");
    bench.label(&file, &common::hello_hash());
    set(&file, "security.selinux", "6100");
    set(&file, "security.evm", PORTABLE);
    bench.pass(&file, READ);
    let hash = hex::encode(common::hello_hash());
    let names = "security.selinux|security.ima|security.capability 020000002200000014000000";
    let end = format!(
        " evm-sig sha256:{} /a {PORTABLE} {names} \
         6100{hash}0100000202000000000000000000000000000000 0 0 33188\n",
        &hash[4..]
    );
    let line = last_line(&bench);
    assert!(line.ends_with(&end), "{line}\n{end}");

    let bare = bench.file("b", b"hello\n");
    bench.pass(&bare, READ);
    let line = last_line(&bench);
    assert!(line.ends_with(" /b     0 0 33188\n"), "{line}");
}

#[test]
fn a_portable_signature_stands_in_for_a_label_that_is_none_also_in_violations() {
    let bench = Bench::new(MEASURE_ALL);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &common::hello_hash());
    set(&file, "security.evm", PORTABLE);
    bench.pass(&file, READ);
    assert!(last_line(&bench).ends_with(&format!(" /a {PORTABLE}\n")), "{}", last_line(&bench));
    bench.hold(&file, READ);
    bench.pass(&file, WRITE);
    let zeros = "0".repeat(64);
    let violation = format!(" ima-sig sha256:{zeros} /a {PORTABLE}\n");
    assert!(last_line(&bench).ends_with(&violation), "{}", last_line(&bench));

    // An HMAC in its place is no signature, and the file's own comes first.
    let other = bench.file("b", b"hello\n");
    set(&other, "security.evm", &format!("02{}", "11".repeat(20)));
    bench.pass(&other, READ);
    assert!(last_line(&bench).ends_with(" /b \n"), "{}", last_line(&bench));
    let signed = bench.file("c", b"hello\n");
    set(&signed, "security.evm", PORTABLE);
    bench.label(&signed, &common::hello_signature());
    bench.pass(&signed, READ);
    let own = hex::encode(common::hello_signature());
    assert!(last_line(&bench).ends_with(&format!(" /c {own}\n")), "{}", last_line(&bench));
}
