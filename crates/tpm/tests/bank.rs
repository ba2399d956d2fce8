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
use measure::journal::Register;
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
    assert!(matches!(bank.admit(PCR), Err(BankError::Foreign(PCR))));
    // What it holds is not believed because it was read.
    let strange = server.pcrread(10);
    assert!(matches!(bank.extend(PCR, &digests(&bank.algos(), 1)), Err(BankError::Foreign(PCR))));
    assert_eq!(server.pcrread(10), strange);
    let server = Server::start();
    let bank = TpmBank::new(server.open());
    bank.admit(PCR).unwrap();
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

/// What a journal of a list with these extends says of the register.
fn proved(bank: &TpmBank, base: &[Digest], values: &[Digest]) {
    let pairs = base.iter().zip(values);
    let registers: Vec<_> =
        pairs.map(|(base, value)| Register { pcr: PCR, base: *base, value: *value }).collect();
    bank.expect(&registers);
}

#[test]
fn a_restart_between_the_proof_and_the_first_extend_is_told() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let mut server = Server::start();
    let zeros: Vec<Digest> = TpmBank::new(server.open()).algos().into_iter().map(Digest::zero).collect();
    let extend = |bank: &TpmBank, number| bank.extend(PCR, &digests(&bank.algos(), number));
    let first = TpmBank::new(server.open());
    first.check().unwrap();
    (0..3).for_each(|number| extend(&first, number).unwrap());
    let held = server.pcrread(10);
    // The process that goes on, with the TPM as it was left and with one that was restarted.
    let next = TpmBank::new(server.open());
    proved(&next, &zeros, &held);
    next.check().unwrap();
    let next = TpmBank::new(server.open());
    proved(&next, &zeros, &held);
    server.kill();
    server.restart();
    assert!(matches!(extend(&next, 3), Err(BankError::Reset)));
    (0..4).for_each(|number| extend(&next, number).unwrap());
    assert_eq!(server.pcrread(10), replayed(&next.algos(), 0..4));
    // A list that did not begin at zero cannot be extended again.
    let other = TpmBank::new(server.open());
    proved(&other, &held, &server.pcrread(10));
    server.kill();
    server.restart();
    for _ in 0..2 {
        let refused = extend(&other, 4).unwrap_err();
        assert!(matches!(refused, BankError::Unrepeatable(PCR)), "{refused:?}");
    }
    assert_eq!(server.pcrread(10), zeros);
}

#[test]
fn a_restart_is_seen_without_an_extend_and_what_is_strange_stays_so() {
    if !installed(&["swtpm", "tpm2_pcrextend"]) {
        return;
    }
    let mut server = Server::start();
    let bank = TpmBank::new(server.open());
    let extend = |number| bank.extend(PCR, &digests(&bank.algos(), number));
    extend(0).unwrap();
    bank.check().unwrap();
    server.kill();
    server.restart();
    assert!(matches!(bank.check(), Err(BankError::Reset)));
    // It is told once; then the list extends all of it again.
    bank.check().unwrap();
    // Somebody is faster.
    server.tool("tpm2_pcrextend", &[&format!("10:sha256={}", "5a".repeat(32))]);
    let strange = server.pcrread(10);
    assert!(matches!(extend(0), Err(BankError::Foreign(PCR))));
    assert!(matches!(bank.check(), Err(BankError::Foreign(PCR))));
    assert!(matches!(bank.tpm().state(), TpmState::Failing { code: -74, .. }));
    assert_eq!(server.pcrread(10), strange);
}

#[test]
fn a_second_register_is_believed_as_little_as_the_first() {
    if !installed(&["swtpm", "tpm2_pcrextend"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(server.open());
    let [taken, free, dynamic, missing] = [11, 12, 17, 30].map(|pcr| PcrIndex::new(pcr).unwrap());
    bank.extend(PCR, &digests(&bank.algos(), 0)).unwrap();
    server.tool("tpm2_pcrextend", &[&format!("11:sha256={}", "5a".repeat(32))]);
    assert!(matches!(bank.admit(taken), Err(BankError::Foreign(pcr)) if pcr == taken));
    assert!(bank.admit(PCR).is_ok() && bank.admit(free).is_ok());
    bank.extend(free, &digests(&bank.algos(), 1)).unwrap();
    for pcr in [dynamic, missing] {
        assert!(!bank.has(pcr));
        assert!(matches!(bank.admit(pcr), Err(BankError::NoSuchPcr(found)) if found == pcr));
    }
    assert!(bank.has(taken) && bank.has(free));
    let strange = server.pcrread(11);
    assert!(
        matches!(bank.extend(taken, &digests(&bank.algos(), 1)), Err(BankError::Foreign(pcr)) if pcr == taken)
    );
    assert_eq!(server.pcrread(11), strange);
}

#[test]
fn a_tpm_that_comes_back_with_another_bank_is_not_extended_in_the_old_ones() {
    if !installed(&["swtpm", "tpm2_pcrallocate"]) {
        return;
    }
    let mut server = Server::start();
    let all = TpmBank::new(server.open());
    let restarted_with = |server: &mut Server, banks: &str| {
        server.tool("tpm2_pcrallocate", &[banks]);
        server.kill();
        server.restart();
    };
    restarted_with(&mut server, "sha1:none+sha256:all+sha384:all+sha512:all");
    let bank = TpmBank::new(server.open());
    let extend = |number| bank.extend(PCR, &digests(&bank.algos(), number));
    assert_eq!(bank.algos().len(), 3);
    extend(0).unwrap();
    // The same banks again: it is gone on with.
    server.kill();
    server.restart();
    assert!(matches!(extend(1), Err(BankError::Reset)));
    (0..2).for_each(|number| extend(number).unwrap());
    // One more, which would stay as it is and take whatever somebody likes.
    restarted_with(&mut server, "sha1:all+sha256:all+sha384:all+sha512:all");
    assert!(matches!(extend(2), Err(BankError::Reset)));
    for number in 0..2 {
        let refused = extend(number).unwrap_err();
        assert_eq!(refused.code(), -22, "{refused:?}");
    }
    assert_eq!(server.pcrread(10), all.algos().into_iter().map(Digest::zero).collect::<Vec<_>>());
}

#[test]
fn an_extend_that_came_through_to_a_tpm_that_hung_is_not_repeated() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    // Longer than an answer takes on a busy machine.
    let bank = TpmBank::new(Tpm::open_within(server.place(), Duration::from_secs(3)).unwrap());
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
