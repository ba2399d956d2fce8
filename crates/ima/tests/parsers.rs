//! The list readers on bytes nobody should trust: round trips of anything we can write, refusals, and noise.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use ima::{
    Digest, Entry, Event, FileAttrs, HashAlgo, ListError, PcrIndex, Template, hash, list::ListFault,
    parse_ascii, parse_binary, template::Field,
};
use proptest::{collection::vec, prelude::*, sample::select};

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };
const TEMPLATES: &[&str] = &[
    "ima",
    "ima-ng",
    "ima-sig",
    "ima-ngv2",
    "ima-sigv2",
    "ima-buf",
    "evm-sig",
    "d|n",
    "n-ng|iuid|imode|d-ng",
    "d-modsig",
];

fn any_entry() -> impl Strategy<Value = Entry> {
    // Names as paths are: no NUL, at least one byte.
    let name = vec(prop_oneof![4 => 1u8..=255, 1 => Just(b'\n'), 1 => Just(b' ')], 1..300);
    let label = proptest::option::of(vec(any::<u8>(), 0..30));
    (select(TEMPLATES), 0u32..64, name, label, any::<(bool, bool)>(), vec(any::<u8>(), 0..40)).prop_map(
        |(template, pcr, name, label, (violation, file), buf)| {
            let event = Event {
                legacy_digest: hash(HashAlgo::Sha1, &buf).ok(),
                label: label.as_deref(),
                buf: Some(&buf),
                violation,
                file: file.then_some(FILE),
                xattrs: &[(b"security.ima", &[1, 2, 3])],
                ..Event::file(hash(HashAlgo::Sha256, &buf).unwrap(), &name, FILE)
            };
            let template = Template::listed(template).unwrap();
            as_a_kernel(&template.entry(PcrIndex::new(pcr).unwrap(), &event).unwrap(), &name)
        },
    )
}

/// The entry with the name as a kernel stores it, newlines and all; a name that was shortened stays as it is.
fn as_a_kernel(entry: &Entry, name: &[u8]) -> Entry {
    let raw: Vec<u8> = name.iter().map(|byte| if *byte == b' ' { b'_' } else { *byte }).chain([0]).collect();
    let legacy = entry.template().is_legacy_ima();
    let mut data = Vec::new();
    for (field, stored) in entry.template().fields().iter().zip(entry.fields()) {
        let is_name = matches!(field, Field::N | Field::NNg) && stored.len() == raw.len();
        let stored = if is_name { raw.as_slice() } else { stored };
        match (legacy, field) {
            (true, Field::D) => data.extend_from_slice(stored),
            (true, _) => push(&mut data, stored.split_last().map_or(&[][..], |(_, rest)| rest)),
            (false, _) => push(&mut data, stored),
        }
    }
    let mut record = entry.pcr().value().to_le_bytes().to_vec();
    record.extend_from_slice(&[u8::from(!entry.is_violation()); 20]);
    push(&mut record, entry.template().listed_name().as_bytes());
    if legacy {
        record.extend_from_slice(&data);
    } else {
        push(&mut record, &data);
    }
    parse_binary(&record, HashAlgo::Sha1).next().unwrap().unwrap().entry
}

fn push(record: &mut Vec<u8>, data: &[u8]) {
    record.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    record.extend_from_slice(data);
}

fn written(entries: &[Entry], algo: HashAlgo, write: fn(&Entry, &mut Vec<u8>, HashAlgo)) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| write(entry, &mut out, algo));
    out
}

fn binary(entries: &[Entry], algo: HashAlgo) -> Vec<u8> {
    written(entries, algo, |entry, out, algo| entry.write_binary(out, algo).unwrap())
}

fn ascii(entries: &[Entry], algo: HashAlgo) -> Vec<u8> {
    written(entries, algo, |entry, out, algo| entry.write_ascii(out, algo).unwrap())
}

proptest! {
    #[test]
    fn binary_lists_round_trip(entries in vec(any_entry(), 0..8), algo in select(&[HashAlgo::Sha1, HashAlgo::Sha384][..])) {
        let list = binary(&entries, algo);
        let mut reader = parse_binary(&list, algo);
        let parsed = reader.by_ref().map(|parsed| parsed.unwrap()).collect::<Vec<_>>();
        prop_assert_eq!(reader.offset(), list.len());
        prop_assert!(parsed.iter().all(|parsed| parsed.is_consistent()));
        prop_assert!(parsed.iter().map(|parsed| &parsed.entry).eq(&entries));
    }

    #[test]
    fn ascii_lists_round_trip_whatever_the_names(entries in vec(any_entry(), 0..8)) {
        let list = ascii(&entries, HashAlgo::Sha1);
        let mut reader = parse_ascii(&list, HashAlgo::Sha1);
        let parsed = reader.by_ref().map(|parsed| parsed.unwrap()).collect::<Vec<_>>();
        prop_assert_eq!(reader.offset(), list.len());
        prop_assert!(parsed.iter().map(|parsed| &parsed.entry).eq(&entries));
    }

    #[test]
    fn truncated_lists_give_their_whole_entries_and_can_be_resumed(entries in vec(any_entry(), 1..4), cut in any::<prop::sample::Index>()) {
        let list = binary(&entries, HashAlgo::Sha1);
        let mut reader = parse_binary(&list[..cut.index(list.len())], HashAlgo::Sha1);
        let mut found = Vec::new();
        for result in reader.by_ref() {
            match result {
                Ok(parsed) => found.push(parsed.entry),
                Err(error) => prop_assert_eq!(error.reason, ListFault::Truncated),
            }
        }
        let rest = parse_binary(&list[reader.offset()..], HashAlgo::Sha1);
        found.extend(rest.map(|parsed| parsed.unwrap().entry));
        prop_assert_eq!(found, entries);
    }

    #[test]
    fn damaged_lists_are_read_without_harm(
        entries in vec(any_entry(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut list = binary(&entries, HashAlgo::Sha1);
        let mut text = ascii(&entries, HashAlgo::Sha1);
        for (at, byte) in damage {
            let (in_list, in_text) = (at.index(list.len()), at.index(text.len()));
            list[in_list] = byte;
            text[in_text] = byte;
        }
        // Whatever of a damaged list can be read is written again as it was.
        let mut reader = parse_binary(&list, HashAlgo::Sha1);
        let mut again = Vec::new();
        for parsed in reader.by_ref().filter_map(Result::ok) {
            parsed.entry.write_binary_with(&mut again, &parsed.recorded);
        }
        prop_assert_eq!(&again[..], &list[..reader.offset()]);
        parse_ascii(&text, HashAlgo::Sha1).for_each(|result| { result.ok(); });
    }

    #[test]
    fn noise_is_read_without_harm(noise in vec(any::<u8>(), 0..400)) {
        parse_binary(&noise, HashAlgo::Sha256).for_each(|result| { result.ok(); });
        parse_ascii(&noise, HashAlgo::Sha256).for_each(|result| { result.ok(); });
    }
}

fn binary_fault(list: &[u8]) -> Option<ListError> {
    parse_binary(list, HashAlgo::Sha1).find_map(Result::err)
}

/// A record with 20 bytes of template digest, the parts given in hex.
fn record(pcr: &str, name: &str, data: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap().to_le_bytes();
    hex::decode(format!("{pcr}{}{}{}{data}", "aa".repeat(20), hex::encode(length), hex::encode(name)))
        .unwrap()
}

#[test]
fn malformed_records_are_refused_with_their_place() {
    let table: &[(&str, Vec<u8>, ListFault)] = &[
        ("PCR 64", record("40000000", "ima-ng", "00000000"), ListFault::Pcr),
        ("unknown template", record("0a000000", "ima-xx", "00000000"), ListFault::Template),
        ("empty name", record("0a000000", "", "00000000"), ListFault::Template),
        ("name of 256 bytes", record("0a000000", &"d-ng|".repeat(52)[..256], ""), ListFault::Template),
        ("name beyond the list", record("0a000000", "ima-ng", "")[..32].to_vec(), ListFault::Truncated),
        ("data of 4 GiB", record("0a000000", "ima-ng", "ffffffff"), ListFault::Truncated),
        ("no fields", record("0a000000", "ima-ng", "00000000"), ListFault::Data),
        ("one field of two", record("0a000000", "ima-ng", "0500000001000000ff"), ListFault::Data),
        ("field beyond the data", record("0a000000", "ima-ng", "080000000000000001000000"), ListFault::Data),
        ("a byte left over", record("0a000000", "ima-ng", "090000000000000000000000ff"), ListFault::Data),
        (
            "legacy name of 256",
            record("0a000000", "ima", &format!("{}00010000", "00".repeat(20))),
            ListFault::Data,
        ),
        (
            "legacy name with NUL",
            record("0a000000", "ima", &format!("{}010000000a", "00".repeat(20)).replace("0a", "00")),
            ListFault::Data,
        ),
    ];
    for (what, list, reason) in table {
        let error = binary_fault(list).unwrap();
        assert_eq!((error.index, error.offset, error.reason), (0, 0, *reason), "{what}");
    }
}

#[test]
fn after_an_error_nothing_more_is_read() {
    let good = record("0a000000", "ima-ng", "080000000000000000000000");
    let list = [good.clone(), record("40000000", "ima-ng", "00000000"), good.clone()].concat();
    let mut reader = parse_binary(&list, HashAlgo::Sha1);
    assert!(reader.next().unwrap().is_ok());
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!((error.index, error.offset), (1, good.len()));
    assert_eq!(error.to_string(), format!("measurement list entry 1 at byte {}: no such PCR", good.len()));
    assert!(reader.next().is_none());
}

#[test]
fn malformed_lines_are_refused() {
    let digest = "a".repeat(40);
    let table: &[(&str, ListFault)] = &[
        ("\n", ListFault::Pcr),
        ("10\n", ListFault::Pcr),
        ("64 D ima-ng sha256: n\n", ListFault::Pcr),
        ("010 D ima-ng sha256: n\n", ListFault::Pcr),
        ("9 D ima-ng sha256: n\n", ListFault::Pcr),
        ("10 Da ima-ng sha256: n\n", ListFault::TemplateDigest),
        ("10 zz ima-ng sha256: n\n", ListFault::TemplateDigest),
        ("10 D\n", ListFault::Template),
        ("10 D ima-ng\n", ListFault::Template),
        ("10 D ima-xx sha256: n\n", ListFault::Template),
        ("10 D ima-ng sha256:\n", ListFault::Data),
        ("10 D ima-ng sha256:0 n\n", ListFault::Data),
        ("10 D ima-ng 00 n\n", ListFault::Data),
        ("10 D ima-ng sha256: n \n", ListFault::Data),
        ("10 D ima-sig sha256: n xy\n", ListFault::Data),
        ("10 D iuid 4294967296\n", ListFault::Data),
        ("10 D iuid +1\n", ListFault::Data),
        ("10 D iuid 01\n", ListFault::Data),
        ("10 D imode 65536\n", ListFault::Data),
        ("10 D ima-ng sha256: n", ListFault::Truncated),
        ("10 aaa", ListFault::Truncated),
        ("1", ListFault::Truncated),
    ];
    for (line, reason) in table {
        let line = line.replace('D', &digest);
        let error = parse_ascii(line.as_bytes(), HashAlgo::Sha1).find_map(Result::err);
        assert_eq!(error.map(|error| error.reason), Some(*reason), "{line:?}");
    }
}

#[test]
fn a_name_that_looks_like_another_entry_does_not_make_one() {
    let ng = Template::named("ima-ng").unwrap();
    let forged =
        format!("\n10 {} ima-ng sha256:{} /forged", "0".repeat(40), "0".repeat(64)).replace(' ', "\u{1}");
    let digest = Digest::zero(HashAlgo::Sha256);
    let names = ["/a\n10", &format!("/a{forged}"), "/\n\n\n", "/plain"];
    let entries: Vec<_> = names
        .iter()
        .map(|name| {
            let event = Event::file(digest, name.as_bytes(), FILE);
            as_a_kernel(&ng.entry(PcrIndex::DEFAULT, &event).unwrap(), name.as_bytes())
        })
        .collect();
    let list = ascii(&entries, HashAlgo::Sha1);
    let parsed: Vec<_> = parse_ascii(&list, HashAlgo::Sha1).map(|parsed| parsed.unwrap().entry).collect();
    assert_eq!(parsed, entries);
}

#[test]
fn what_is_written_here_is_one_line_an_entry_whatever_the_name() {
    let zeros = "0".repeat(40);
    let forged = format!("/a\n10 {zeros} ima-ng sha256:{} /forged\r10 {zeros} ima /b", "0".repeat(64));
    for template in ["ima", "ima-ng", "ima-sig", "ima-ngv2", "n|n-ng|xattrnames"] {
        let event = Event {
            legacy_digest: Some(Digest::zero(HashAlgo::Sha1)),
            xattrs: &[(b"user.a\nb", b"")],
            ..Event::file(Digest::zero(HashAlgo::Sha256), forged.as_bytes(), FILE)
        };
        let entry = Template::listed(template).unwrap().entry(PcrIndex::DEFAULT, &event).unwrap();
        let list = ascii(&[entry], HashAlgo::Sha1);
        assert_eq!(list.iter().filter(|byte| b"\n\r".contains(byte)).count(), 1, "{template}");
    }
}

#[test]
fn hostile_lines_do_not_take_long() {
    // One wrong digest with newlines behind it, again and again: each is searched for its end, none without bound.
    let line = format!("10 {} ima-ng sha256: {}x\n", "a".repeat(40), "\n".repeat(4000));
    let list = line.repeat(50);
    assert_eq!(parse_ascii(list.as_bytes(), HashAlgo::Sha1).filter(Result::is_ok).count(), 0);
    let line = format!("10 {} ima-ng sha256: x\n", "a".repeat(40));
    let list = line.repeat(2000);
    assert_eq!(parse_ascii(list.as_bytes(), HashAlgo::Sha1).filter(Result::is_ok).count(), 2000);
}
