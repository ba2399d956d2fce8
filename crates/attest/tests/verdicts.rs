//! Each thing that can be wrong with evidence is refused for its own reason, beside what is trusted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use attest::evidence::Evidence;
use attest::reference::{Digests, References, RuntimePolicy};
use attest::trust::Trust;
use attest::verdict::{EntryCause, EntryVerdict, ReasonKind};
use attest::verify::{Question, Unproven, Violations, verify};
use common::{NONCE, Paper, Said, ask, binary, digests, entries, question, refused, registers, violation};
use ima::{Digest, HashAlgo, PcrIndex};

/// Good evidence of four files.
struct Case {
    paper: Paper,
    trust: Trust,
    references: References,
    file: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let paper = Paper::new();
        let list = binary(&entries(4));
        let file = paper.evidence(&Said::default(), &registers(&list), &list);
        Self { trust: paper.trust(), references: digests(4), paper, file }
    }

    fn question(&self) -> Question<'_> {
        question(&self.trust, &self.references)
    }

    /// Evidence in which the quote is as it was and the list is another.
    fn with_list(&self, list: &[u8]) -> Vec<u8> {
        let evidence = Evidence { list, ..Evidence::parse(&self.file).unwrap() };
        evidence.to_bytes().unwrap()
    }

    fn said(&self, change: impl FnOnce(&mut Said)) -> Vec<u8> {
        let mut said = Said::default();
        change(&mut said);
        let list = binary(&entries(4));
        self.paper.evidence(&said, &registers(&list), &list)
    }
}

#[test]
fn a_list_that_is_quoted_and_known_is_trusted() {
    let case = Case::new();
    let verdict = ask(&case.file, &case.question());
    assert!(verdict.is_trusted(), "{:#?}", verdict.reasons);
    assert_eq!((verdict.counts.entries, verdict.counts.proven, verdict.counts.accepted), (5, 5, 5));
    assert_eq!(verdict.registers.len(), 4);
    assert!(verdict.registers.iter().all(|register| register.quoted == register.replayed));
    assert_eq!(verdict.key.hierarchy.as_deref(), Some("endorsement"));
    assert_eq!(verdict.entries[0].cause, EntryCause::BootAggregate);
    assert_eq!(verdict.entries[4].path, "/file-3");
}

#[test]
fn what_is_signed_must_be_a_quote_for_this_nonce() {
    let case = Case::new();
    let ask = |file: &[u8]| verify(file, &case.question());
    refused(
        ask(&case.said(|said| said.nonce = b"another nonce, of last week".to_vec())),
        &[ReasonKind::Nonce],
    );
    refused(ask(&case.said(|said| said.magic = 0xff54_4348)), &[ReasonKind::NotAQuote]);
    refused(ask(&case.said(|said| said.kind = 0x8017)), &[ReasonKind::NotAQuote, ReasonKind::PcrValues]);
    refused(ask(&case.said(|said| said.parent = 0x4000_0002)), &[ReasonKind::UnsuitableKey]);
    let empty = Question { nonce: b"", ..case.question() };
    refused(verify(&case.said(|said| said.nonce.clear()), &empty), &[ReasonKind::Nonce]);
}

#[test]
fn a_key_that_signs_anything_is_no_attestation_key() {
    let case = Case::new();
    let list = binary(&entries(4));
    // Without restricted; without sign; with decrypt; not fixed in its TPM.
    for attributes in [0x0004_0472, 0x0001_0472, 0x0007_0472, 0x0005_0462, 0x0005_0452, 0x0005_0470] {
        let paper = Paper::with_attributes(attributes);
        let trust = paper.trust();
        let file = paper.evidence(&Said::default(), &registers(&list), &list);
        let question = question(&trust, &case.references);
        refused(verify(&file, &question), &[ReasonKind::UnsuitableKey]);
    }
}

#[test]
fn another_key_is_not_trusted_and_cannot_sign_for_this_one() {
    let (case, other) = (Case::new(), Case::new());
    refused(verify(&other.file, &case.question()), &[ReasonKind::UntrustedKey]);
    let (ours, theirs) = (Evidence::parse(&case.file).unwrap(), Evidence::parse(&other.file).unwrap());
    let mixed = Evidence { public: ours.public, ..theirs.clone() }.to_bytes().unwrap();
    // The name that is signed is the other's, too.
    refused(verify(&mixed, &case.question()), &[ReasonKind::UnsuitableKey, ReasonKind::Signature]);
    let mixed = Evidence { signature: theirs.signature, ..ours }.to_bytes().unwrap();
    let verdict = refused(verify(&mixed, &case.question()), &[ReasonKind::Signature]);
    assert_eq!((verdict.counts.proven, verdict.counts.accepted), (0, 0));
}

#[test]
fn entries_dropped_swapped_changed_or_added_are_no_replay() {
    let case = Case::new();
    let all = entries(4);
    let ask = |entries: &[ima::Entry]| verify(&case.with_list(&binary(entries)), &case.question());
    for dropped in 1..all.len() {
        let mut list = all.clone();
        list.remove(dropped);
        refused(ask(&list), &[ReasonKind::Replay]);
    }
    for swapped in 1..all.len() - 1 {
        let mut list = all.clone();
        list.swap(swapped, swapped + 1);
        refused(ask(&list), &[ReasonKind::Replay]);
    }
    let mut list = all.clone();
    list.insert(2, all[1].clone());
    refused(ask(&list), &[ReasonKind::Replay]);
    refused(ask(&all[1..]), &[ReasonKind::Replay, ReasonKind::BootAggregate]);
    refused(ask(&[]), &[ReasonKind::Replay, ReasonKind::BootAggregate]);
    // One that the reference knows, in the place of another.
    let mut list = all.clone();
    list[3] = entries(5)[5].clone();
    refused(ask(&list), &[ReasonKind::Replay, ReasonKind::NotInReference]);
}

#[test]
fn entries_beyond_the_quote_are_unproven_whatever_they_say() {
    let case = Case::new();
    let longer = case.with_list(&binary(&entries(6)));
    let verdict = refused(verify(&longer, &case.question()), &[ReasonKind::UnprovenEntries]);
    assert_eq!((verdict.counts.proven, verdict.counts.unproven), (5, 2));
    let ignoring = Question { unproven: Unproven::Ignore, ..case.question() };
    let verdict = ask(&longer, &ignoring);
    assert!(verdict.is_trusted(), "{:#?}", verdict.reasons);
    assert_eq!(verdict.entries[5].verdict, EntryVerdict::Unproven);
    // Garbage behind is a malformed list in any case.
    let garbage = [binary(&entries(4)), vec![0; 7]].concat();
    refused(verify(&case.with_list(&garbage), &ignoring), &[ReasonKind::MalformedList]);
}

#[test]
fn registers_must_be_those_that_were_quoted() {
    let case = Case::new();
    let list = binary(&entries(4));
    let evidence = Evidence::parse(&case.file).unwrap();
    let with =
        |registers: Vec<(PcrIndex, Digest)>| Evidence { registers, ..evidence.clone() }.to_bytes().unwrap();
    let good = registers(&list);
    let mut changed = good.clone();
    changed[10].1 = Digest::ones(HashAlgo::Sha1);
    let wanted = [ReasonKind::PcrValues];
    refused(verify(&with(changed), &case.question()), &wanted);
    refused(verify(&with(good[1..].to_vec()), &case.question()), &wanted);
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    // The same bytes, under another register's number.
    refused(verify(&with(swapped), &case.question()), &wanted);
}

#[test]
fn the_lists_register_must_be_quoted_in_a_strong_bank() {
    let case = Case::new();
    let list = binary(&entries(4));
    let quoted = |keep: fn(&(PcrIndex, Digest)) -> bool| {
        let some: Vec<_> = registers(&list).into_iter().filter(keep).collect();
        case.paper.evidence(&Said::default(), &some, &list)
    };
    let file = quoted(|(_, value)| value.algo() == HashAlgo::Sha1);
    let weak = verify(&file, &case.question()).unwrap();
    assert_eq!(weak.reasons[0].kind, ReasonKind::PcrNotQuoted);
    let file = quoted(|(pcr, _)| pcr.value() != 10);
    let missing = verify(&file, &case.question()).unwrap();
    assert_eq!(missing.reasons[0].kind, ReasonKind::PcrNotQuoted);
    let file = quoted(|(_, value)| value.algo() == HashAlgo::Sha256);
    assert!(ask(&file, &case.question()).is_trusted());
    // A list in a register that nobody asked about.
    let eleven = [PcrIndex::new(11).unwrap()];
    let question = Question { pcrs: &eleven, ..case.question() };
    let other = verify(&case.file, &question).unwrap();
    assert_eq!(other.reasons[0].kind, ReasonKind::PcrNotQuoted);
    assert!(other.reasons.iter().any(|reason| reason.kind == ReasonKind::OtherPcr));
}

#[test]
fn the_first_entry_is_the_aggregate_of_the_boots_registers() {
    let case = Case::new();
    let list = binary(&entries(4));
    let mut others = registers(&list);
    // Register 3 of SHA-256: the machine has booted something else.
    others[14].1 = Digest::ones(HashAlgo::Sha256);
    let file = case.paper.evidence(&Said::default(), &others, &list);
    let verdict = refused(verify(&file, &case.question()), &[ReasonKind::BootAggregate]);
    assert_eq!(verdict.entries[0].cause, EntryCause::WrongBootAggregate);
    // Where they were not quoted the reference says it.
    let some: Vec<_> = registers(&list).into_iter().filter(|(pcr, _)| pcr.value() == 10).collect();
    let file = case.paper.evidence(&Said::default(), &some, &list);
    refused(verify(&file, &case.question()), &[ReasonKind::BootAggregate]);
    let mut known = Digests::default();
    known.add(b"boot_aggregate", ima::hash(HashAlgo::Sha256, &[0; 320]).unwrap());
    let mut references = digests(4);
    references.digests.push(known);
    assert!(ask(&file, &question(&case.trust, &references)).is_trusted());
}

#[test]
fn violations_are_refused_unless_they_are_let_through() {
    let case = Case::new();
    let mut with = entries(4);
    with.insert(2, violation("/log"));
    let list = binary(&with);
    let file = case.paper.evidence(&Said::default(), &registers(&list), &list);
    let verdict = refused(verify(&file, &case.question()), &[ReasonKind::Violation]);
    assert_eq!(verdict.counts.violations, 1);
    let allowing = Question { violations: Violations::Allow, ..case.question() };
    let verdict = ask(&file, &allowing);
    assert!(verdict.is_trusted(), "{:#?}", verdict.reasons);
    assert_eq!(verdict.entries[2].cause, EntryCause::ViolationAllowed);
}

#[test]
fn a_file_must_be_the_one_that_the_reference_knows() {
    let case = Case::new();
    let ask = |references: &References| verify(&case.file, &question(&case.trust, references));
    let missing = refused(ask(&digests(3)), &[ReasonKind::NotInReference]);
    assert_eq!(missing.reasons[0].entry, Some(4));
    let mut other = Digests::default();
    other.add(b"/file-3", Digest::ones(HashAlgo::Sha256));
    let mut references = digests(3);
    references.digests.push(other);
    refused(ask(&references), &[ReasonKind::WrongDigest]);
    let ring = keyring::Keyring::new("empty");
    let verdict =
        refused(ask(&References { ring: Some(ring), ..References::default() }), &[ReasonKind::Unsigned]);
    assert!(verdict.reasons[0].text.contains("and 3 more"), "{:?}", verdict.reasons);
    refused(ask(&References::default()), &[ReasonKind::NotInReference]);
}

#[test]
fn a_runtime_policy_of_keylime_judges_as_keylime_does() {
    let case = Case::new();
    let policy = |excludes: &[&str], files: usize| {
        let row = |number: usize| {
            let digest = ima::hash(HashAlgo::Sha256, format!("content {number}").as_bytes()).unwrap();
            (format!("/file-{number}"), serde_json::json!([digest.to_hex()]))
        };
        let digests: serde_json::Map<_, _> = (0..files).map(row).collect();
        let json = serde_json::json!({
            "meta": { "version": 1, "generator": 0 }, "release": 0, "digests": digests, "excludes": excludes,
            "keyrings": {}, "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
            "ima-buf": {}, "verification-keys": "",
        });
        RuntimePolicy::parse(json.to_string().as_bytes()).unwrap()
    };
    let ask = |policy| {
        let references = References { policies: vec![policy], ..References::default() };
        verify(&case.file, &question(&case.trust, &references))
    };
    assert!(ask(policy(&[], 4)).unwrap().is_trusted());
    refused(ask(policy(&[], 3)), &[ReasonKind::NotInReference]);
    let excluded = ask(policy(&["/file-[3-9]$"], 3)).unwrap();
    assert!(excluded.is_trusted());
    assert_eq!(excluded.entries[4].cause, EntryCause::Excluded);
    refused(ask(policy(&["file-3"], 3)), &[ReasonKind::NotInReference]);
}

#[test]
fn evidence_must_go_on_from_earlier_evidence() {
    let case = Case::new();
    let list = binary(&entries(4));
    let later = |change: fn(&mut Said), list: &[u8]| {
        let mut said = Said { clock: 2000, ..Said::default() };
        change(&mut said);
        case.paper.evidence(&said, &registers(list), list)
    };
    let references = digests(9);
    let after = |file: &[u8], earlier: &[u8]| {
        let question = Question { after: Some(earlier), ..question(&case.trust, &references) };
        verify(file, &question)
    };
    let longer = binary(&entries(6));
    for good in [later(|_| {}, &list), later(|_| {}, &longer), later(|said| said.resets = 4, &longer)] {
        assert!(after(&good, &case.file).unwrap().is_trusted());
    }
    // A clock that starts again says that it is not to be relied on.
    let restarted = later(
        |said| {
            said.resets = 4;
            said.clock = 5;
            said.safe = 0;
        },
        &longer,
    );
    assert!(after(&restarted, &case.file).unwrap().is_trusted());
    let rollback = [ReasonKind::Rollback];
    let said: [fn(&mut Said); 5] = [
        |said| said.clock = 1000,
        |said| said.clock = 999,
        |said| said.resets = 2,
        |said| said.restarts = 0,
        |said| {
            said.clock = 5;
            said.safe = 0;
        },
    ];
    for change in said {
        refused(after(&later(change, &longer), &case.file), &rollback);
    }
    // A list that began anew, or is shorter, and the earlier evidence of another key.
    let mut anew = entries(6);
    anew.remove(1);
    refused(after(&later(|_| {}, &binary(&anew)), &case.file), &rollback);
    refused(after(&later(|_| {}, &binary(&entries(3))), &case.file), &rollback);
    refused(after(&later(|_| {}, &longer), &Case::new().file), &rollback);
    let mut forged = case.file.clone();
    let signature = forged.windows(4).position(|window| window == [0, 0x18, 0, 0x0b]).unwrap() + 20;
    forged[signature] ^= 1;
    refused(after(&later(|_| {}, &longer), &forged), &rollback);
    assert!(after(&later(|_| {}, &longer), b"nothing").is_err());
}

#[test]
fn a_flipped_byte_anywhere_is_never_trusted() {
    let case = Case::new();
    assert!(ask(&case.file, &case.question()).is_trusted());
    let mut answered = 0;
    for offset in 0..case.file.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut file = case.file.clone();
            file[offset] ^= flip;
            if let Ok(verdict) = verify(&file, &case.question()) {
                assert!(!verdict.is_trusted(), "byte {offset} ^ {flip:#x}");
                assert!(!verdict.reasons.is_empty());
                answered += 1;
            }
        }
    }
    assert!(answered > case.file.len(), "only {answered} flips came to a verdict");
}

#[test]
fn of_a_violation_the_name_alone_is_not_protected() {
    let case = Case::new();
    let mut with = entries(2);
    with.push(violation("/a-name-that-nothing-hashes"));
    let list = binary(&with);
    let file = case.paper.evidence(&Said::default(), &registers(&list), &list);
    let question = Question { violations: Violations::Allow, ..case.question() };
    let good = ask(&file, &question);
    assert!(good.is_trusted(), "{:#?}", good.reasons);
    for offset in 0..file.len() {
        let mut changed = file.clone();
        changed[offset] ^= 1;
        let Ok(verdict) = verify(&changed, &question) else { continue };
        if !verdict.is_trusted() {
            continue;
        }
        // Documented: a PCR holds ones for a violation, whatever its entry says. It stays that violation.
        assert_eq!(verdict.counts, good.counts, "byte {offset}");
        assert_eq!(verdict.entries[..3], good.entries[..3], "byte {offset}");
        assert_eq!(verdict.entries[3].cause, EntryCause::ViolationAllowed, "byte {offset}");
    }
}

#[test]
fn every_truncation_comes_to_an_end() {
    let case = Case::new();
    for end in 0..case.file.len() {
        assert!(verify(&case.file[..end], &case.question()).is_err(), "{end}");
    }
    let evidence = Evidence::parse(&case.file).unwrap();
    let list = evidence.list.to_vec();
    for end in 0..list.len() {
        let file = case.with_list(&list[..end]);
        assert!(!ask(&file, &case.question()).is_trusted(), "{end}");
    }
}

#[test]
fn a_template_by_another_name_does_not_change_what_an_entry_is() {
    let case = Case::new();
    // An ima-sig entry shown as a buffer, whose content would not have to be known.
    let list = binary(&entries(4));
    let at = list.windows(7).rposition(|window| window == b"ima-sig").unwrap();
    let mut changed = list.clone();
    changed[at..at + 7].copy_from_slice(b"ima-buf");
    let verdict = refused(verify(&case.with_list(&changed), &case.question()), &[ReasonKind::UnknownEntry]);
    assert_eq!(verdict.entries[4].cause, EntryCause::UnknownEntry);
}

#[test]
fn the_answer_in_json_is_stable() {
    let case = Case::new();
    let verdict = ask(&case.file, &case.question());
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["verdict"], "trusted");
    assert_eq!(json["quote"]["nonce"], hex::encode(NONCE));
    assert_eq!(json["quote"]["reset-count"], 3);
    assert_eq!(json["counts"]["accepted"], 5);
    assert_eq!(json["checks"][0]["check"], "quote");
    assert_eq!(json["entries"][1]["verdict"], "accepted");
    assert_eq!(json["entries"][1]["cause"], "listed");
    assert_eq!(json["entries"][1]["template"], "ima-sig");
    assert_eq!(json["registers"][0]["bank"], "sha1");
}
