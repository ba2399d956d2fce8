//! The bank on a real TPM emulator, judged by tpm2-tools.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Server, digests, installed, replayed};
use ima::{Digest, HashAlgo, PcrIndex};
use measure::{BankError, PcrBank};
use rustix::process::Signal;
use tpm::{Tpm, TpmBank, TpmError, TpmState};

const PCR: PcrIndex = PcrIndex::DEFAULT;

#[test]
fn an_extend_reaches_every_bank_and_is_read_back() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(server.open());
    assert_eq!(bank.algos(), [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512]);
    bank.begin(PCR).unwrap();
    for number in 0..20 {
        bank.extend(PCR, &digests(&bank.algos(), number)).unwrap();
    }
    let expected = replayed(&bank.algos(), 0..20);
    assert_eq!(server.pcrread(10), expected);
    for value in expected {
        assert_eq!(bank.read(PCR, value.algo()).unwrap(), Some(value));
    }
    let other = PcrIndex::new(11).unwrap();
    assert_eq!(bank.read(other, HashAlgo::Sha256).unwrap(), Some(Digest::zero(HashAlgo::Sha256)));
    assert_eq!(bank.tpm().state(), TpmState::Ready);
}

#[test]
fn what_is_no_bank_or_no_register_is_read_as_nothing_and_not_extended() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(server.open());
    assert_eq!(bank.read(PCR, HashAlgo::Sm3).unwrap(), None);
    for pcr in [24, 31, 32, 63].map(|pcr| PcrIndex::new(pcr).unwrap()) {
        assert_eq!(bank.read(pcr, HashAlgo::Sha256).unwrap(), None);
        assert!(matches!(bank.extend(pcr, &digests(&bank.algos(), 1)), Err(BankError::NoSuchPcr(_))));
    }
    let all = digests(&bank.algos(), 1);
    for wrong in [&[][..], &all[1..], &all[..1], &[all[1], all[0], all[2], all[3]]] {
        assert!(matches!(bank.extend(PCR, wrong), Err(BankError::WrongDigests)));
    }
    assert_eq!(server.pcrread(10), replayed(&bank.algos(), []));
}

#[test]
fn a_refusal_carries_the_tpms_code_and_extends_nothing() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(server.open());
    // PCR 17 is not for locality 0.
    let refused = bank.extend(PcrIndex::new(17).unwrap(), &digests(&bank.algos(), 1)).unwrap_err();
    assert_eq!(refused.code(), 0x907);
    assert_eq!(server.pcrread(17), bank.algos().into_iter().map(Digest::ones).collect::<Vec<_>>());
    assert_eq!(
        bank.tpm().state(),
        TpmState::Failing {
            code: 0x907,
            reason: "the TPM failed with code 0x907: the TPM refuses with code 0x907".to_owned()
        }
    );
    bank.extend(PCR, &digests(&bank.algos(), 1)).unwrap();
}

#[test]
fn what_a_register_was_extended_with_by_others_is_noticed() {
    if !installed(&["swtpm", "tpm2_pcrextend"]) {
        return;
    }
    let server = Server::start();
    let foreign = format!("10:sha256={}", "5a".repeat(32));
    server.tool("tpm2_pcrextend", &[&foreign]);
    let bank = TpmBank::new(server.open());
    assert!(matches!(bank.begin(PCR), Err(TpmError::InUse(PCR))));
    // A register that was not zero is extended all the same, when somebody wants it to be.
    bank.extend(PCR, &digests(&bank.algos(), 1)).unwrap();
    let before = server.pcrread(10);
    server.tool("tpm2_pcrextend", &[&foreign]);
    let refused = bank.extend(PCR, &digests(&bank.algos(), 2)).unwrap_err();
    assert!(matches!(refused, BankError::Foreign(PCR)), "{refused:?}");
    assert_eq!(refused.code(), -74);
    // Only the stranger's bank has changed.
    let after = server.pcrread(10);
    assert_eq!((after[0], after[2], after[3]), (before[0], before[2], before[3]));
    assert_ne!(after[1], before[1]);
}

#[test]
fn a_restart_is_told_and_not_taken_for_anything_else() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let mut server = Server::start();
    let bank = TpmBank::new(server.open());
    let extend = |number| bank.extend(PCR, &digests(&bank.algos(), number));
    (0..3).for_each(|number| extend(number).unwrap());
    server.kill();
    let gone = extend(3).unwrap_err();
    assert!(matches!(gone, BankError::Device { code: -111, .. }), "{gone:?}");
    server.restart();
    assert!(matches!(extend(3), Err(BankError::Reset)));
    (0..4).for_each(|number| extend(number).unwrap());
    assert_eq!(server.pcrread(10), replayed(&bank.algos(), 0..4));
}

#[test]
fn an_extend_that_came_through_to_a_tpm_that_hung_is_not_repeated() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(Tpm::open_within(server.place(), Duration::from_millis(500)).unwrap());
    let extend = |number| bank.extend(PCR, &digests(&bank.algos(), number));
    extend(0).unwrap();
    server.signal(Signal::STOP);
    let silent = extend(1).unwrap_err();
    assert_eq!(silent.code(), -110);
    // It is asked again while nothing is known, as the list does.
    assert_eq!(extend(1).unwrap_err().code(), -110);
    server.signal(Signal::CONT);
    let mut tries = 0;
    while let Err(error) = extend(1) {
        assert!(error.code() == -110 && tries < 200, "{error:?}");
        tries += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    extend(2).unwrap();
    assert_eq!(server.pcrread(10), replayed(&bank.algos(), 0..3));
}

#[test]
fn reads_go_on_beside_extends() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let bank = Arc::new(TpmBank::new(server.open()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(bank.read(PCR, HashAlgo::Sha256).unwrap().is_some());
                }
            });
        }
        (0..200).for_each(|number| bank.extend(PCR, &digests(&bank.algos(), number)).unwrap());
    });
    assert_eq!(server.pcrread(10), replayed(&bank.algos(), 0..200));
}
