//! The list and the registers, held against each other by `evmctl ima_measurement` (ima-evm-utils).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use ima::template::FileAttrs;
use ima::{Event, HashAlgo, Template};
use measure::{Form, List, ListOptions, PcrBank, SoftBank, pcrs};

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };
const ALGOS: [HashAlgo; 2] = [HashAlgo::Sha1, HashAlgo::Sha256];

fn installed() -> bool {
    let there = Command::new("evmctl").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: evmctl is not installed");
    }
    there
}

/// Writes list and registers into `dir` and asks evmctl.
fn judge(dir: &Path, list: &List) -> Output {
    let mut command = Command::new("evmctl");
    command.arg("ima_measurement").arg("--ignore-violations");
    for algo in ALGOS {
        let file = dir.join(algo.name());
        fs::write(&file, pcrs::evmctl(&**list.bank(), algo).unwrap()).unwrap();
        command.arg("--pcrs").arg(format!("{},{}", algo.name(), file.display()));
    }
    let binary = dir.join("binary");
    let snapshot = list.snapshot();
    fs::write(&binary, snapshot.read_at(Form::Binary, HashAlgo::Sha1, 0, usize::MAX).unwrap()).unwrap();
    command.arg(binary).output().unwrap()
}

fn filled(template: &str, bank: Arc<dyn PcrBank>) -> List {
    let list = List::new(ListOptions::new(Template::listed(template).unwrap(), bank)).unwrap();
    for number in 0..300_u32 {
        let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
        let name = format!("/usr/bin/a file {number}");
        let label = [&[3, 2, 4][..], &number.to_le_bytes(), &[0, 2, 9, 9]].concat();
        let event = Event {
            label: Some(&label),
            legacy_digest: Some(ima::hash(HashAlgo::Sha1, &label).unwrap()),
            ..Event::file(digest, name.as_bytes(), FILE)
        };
        list.add(list.template().entry(list.pcr(), &event).unwrap()).unwrap();
    }
    list
}

#[test]
fn evmctl_accepts_our_list_with_our_registers() {
    if !installed() {
        return;
    }
    // It does not know all of them ("unprocessed data"), but hashes what it has read.
    for template in [
        "ima",
        "ima-ng",
        "ima-sig",
        "ima-ngv2",
        "ima-sigv2",
        "ima-buf",
        "ima-modsig",
        "evm-sig",
        "d-ng|n-ng|iuid|imode",
    ] {
        let list = filled(template, Arc::new(SoftBank::new(&ALGOS).unwrap()));
        list.add_violation(b"/usr/bin/x", FILE, None, &[]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let output = judge(dir.path(), &list);
        assert!(output.status.success(), "{template}: {output:?}");
    }
}

#[test]
fn evmctl_refuses_registers_that_an_entry_is_missing_from() {
    if !installed() {
        return;
    }
    let list = filled("ima-ng", Arc::new(SoftBank::new(&ALGOS).unwrap()));
    let ones = ALGOS.map(ima::Digest::ones);
    list.bank().extend(list.pcr(), &ones).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = judge(dir.path(), &list);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
