//! A whole measurement list on a TPM that is killed and comes back under load.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::{Server, installed};
use ima::template::FileAttrs;
use ima::{Digest, Event, HashAlgo, Pcrs, Template};
use measure::{Form, List, ListOptions, MeasureError};
use tpm::TpmBank;

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };

fn add(list: &List, number: u32) -> Result<(), MeasureError> {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    let name = format!("/file {number}");
    let event = Event::file(digest, name.as_bytes(), FILE);
    list.add(list.template().entry(list.pcr(), &event).unwrap()).map(drop)
}

/// The binary list, replayed by crates/ima, in the order of the TPM's banks.
fn replay(list: &List) -> Vec<Digest> {
    let bytes = list.snapshot().read_at(Form::Binary, HashAlgo::Sha1, 0, usize::MAX).unwrap();
    let parsed: Vec<_> = ima::parse_binary(&bytes, HashAlgo::Sha1).map(Result::unwrap).collect();
    let value = |algo: HashAlgo| {
        let mut pcrs = Pcrs::new(algo).unwrap();
        pcrs.replay(parsed.iter().map(|parsed| &parsed.entry));
        pcrs.value(list.pcr())
    };
    list.bank().algos().into_iter().map(value).collect()
}

#[test]
fn the_replay_is_never_wrong_while_the_tpm_is_killed_and_comes_back() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let mut server = Server::start();
    let bank = Arc::new(TpmBank::new(server.open()));
    let list = List::new(ListOptions::new(Template::named("ima-ng").unwrap(), bank)).unwrap();
    let (done, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match add(&list, number) {
                        Ok(()) => {}
                        Err(MeasureError::Extend { source, .. }) => {
                            assert!(source.code() < 0, "{source:?}");
                            refused.fetch_add(1, Ordering::Relaxed);
                            // A denied caller does not come back at once.
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(150));
            server.kill();
            std::thread::sleep(Duration::from_millis(50));
            server.restart();
            while list.catch_up().is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    list.catch_up().unwrap();
    assert_eq!(list.due(), 0);
    assert!(refused.load(Ordering::Relaxed) > 0, "nothing was refused while the TPM was away");
    assert!(list.count() > 50, "{}", list.count());
    assert_eq!(server.pcrread(10), replay(&list));
}

#[test]
fn the_first_entry_is_the_digest_of_the_boot_registers() {
    if !installed(&["swtpm", "tpm2_pcrextend"]) {
        return;
    }
    let server = Server::start();
    for pcr in 0..10 {
        let digest = format!("{pcr:02x}").repeat(32);
        server.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest},sha1={}", &digest[..40])]);
    }
    for (algo, last) in [(HashAlgo::Sha256, 9), (HashAlgo::Sha1, 7)] {
        let values: Vec<u8> = (0..=last)
            .flat_map(|pcr| {
                let text = server.tool("tpm2_pcrread", &[&format!("{}:{pcr}", algo.name())]);
                hex::decode(text.split_once("0x").unwrap().1.trim()).unwrap()
            })
            .collect();
        let expected = ima::hash(algo, &values).unwrap();
        let bank = Arc::new(TpmBank::new(server.open()));
        let pcr = ima::PcrIndex::new(if algo == HashAlgo::Sha1 { 11 } else { 12 }).unwrap();
        let options = ListOptions {
            default_algo: algo,
            pcr,
            ..ListOptions::new(Template::named("ima-ng").unwrap(), bank)
        };
        let list = List::new(options).unwrap();
        let ascii = list.snapshot().read_at(Form::Ascii, HashAlgo::Sha1, 0, usize::MAX).unwrap();
        let line = String::from_utf8(ascii).unwrap();
        assert!(line.ends_with(&format!(" ima-ng {expected} boot_aggregate\n")), "{line}");
    }
}

#[test]
fn an_entry_for_a_register_that_cannot_be_extended_gets_no_place() {
    if !installed(&["swtpm", "tpm2_pcrextend"]) {
        return;
    }
    let server = Server::start();
    server.tool("tpm2_pcrextend", &[&format!("12:sha256={}", "5a".repeat(32))]);
    let bank = Arc::new(TpmBank::new(server.open()));
    let list = List::new(ListOptions::new(Template::named("ima-ng").unwrap(), bank)).unwrap();
    let add_to = |pcr: u32, number: u32| {
        let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
        let pcr = ima::PcrIndex::new(pcr).unwrap();
        list.add(list.template().entry(pcr, &Event::file(digest, b"/file", FILE)).unwrap()).map(drop)
    };
    for pcr in [12, 17, 30] {
        let refused = add_to(pcr, 1).unwrap_err();
        assert!(
            matches!(refused, MeasureError::Register { pcr: found, .. } if found.value() == pcr),
            "{refused:?}"
        );
    }
    assert_eq!((list.count(), list.due()), (1, 0));
    for pcr in [11, 16, 23, 10] {
        add_to(pcr, 2).unwrap();
    }
    assert_eq!((list.count(), list.due()), (5, 0));
    assert_eq!(server.pcrread(10), replay(&list));
}
