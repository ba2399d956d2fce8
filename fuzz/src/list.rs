//! Measurement lists: `ima::list`.

use ima::list::{ListError, ParsedEntry};
use ima::{HashAlgo, parse_ascii, parse_binary};

use crate::{Bound, within};

/// Of which algorithm the template digests may be.
const ALGOS: [HashAlgo; 2] = [HashAlgo::Sha1, HashAlgo::Sha256];
/// What an entry may hold while the ones before it are dropped: never more than the list is long, a few times over.
const ENTRY: Bound = Bound { fixed: 4096, per_byte: 6 };

/// Any bytes as a binary list.
///
/// - The entries that are read, written again, are the bytes that were read.
/// - After a refusal nothing more is read, and its place is where the entry begins.
/// - A list can be read on from the end of any entry.
pub fn list_binary(data: &[u8]) {
    for algo in ALGOS {
        let (read, offset, refusal) = read(data, parse_binary(data, algo), |list| list.offset());
        let mut written = Vec::new();
        for parsed in &read {
            parsed.entry.write_binary_with(&mut written, &parsed.recorded);
        }
        assert_eq!(Some(&written[..]), data.get(..offset));
        ended(&read, offset, data.len(), refusal);
        if let Some(first) = read.first() {
            let length = written_length(first);
            let again: Vec<_> =
                parse_binary(data.get(length..).unwrap_or_default(), algo).flatten().collect();
            assert_eq!(read.get(1..), Some(&again[..]));
        }
    }
}

fn written_length(parsed: &ParsedEntry) -> usize {
    let mut written = Vec::new();
    parsed.entry.write_binary_with(&mut written, &parsed.recorded);
    written.len()
}

/// Any bytes as an ASCII list.
///
/// - Each entry that is read, written and read again, is the same entry.
/// - After a refusal nothing more is read, and its place is where the entry begins.
pub fn list_ascii(data: &[u8]) {
    for algo in ALGOS {
        let (read, offset, refusal) = read(data, parse_ascii(data, algo), |list| list.offset());
        for parsed in &read {
            let mut line = Vec::new();
            parsed.entry.write_ascii_with(&mut line, &parsed.recorded);
            let again: Vec<_> = parse_ascii(&line, algo).collect();
            assert_eq!(again, [Ok(parsed.clone())], "{}", line.escape_ascii());
        }
        ended(&read, offset, data.len(), refusal);
    }
}

/// All entries, how far they go, and what ended them.
fn read<L>(
    data: &[u8],
    mut list: L,
    offset: impl Fn(&L) -> usize,
) -> (Vec<ParsedEntry>, usize, Option<ListError>)
where
    L: Iterator<Item = Result<ParsedEntry, ListError>>,
{
    let mut entries = Vec::new();
    let mut refusal = None;
    let mut before = 0;
    while let Some(result) = within(ENTRY, data, || list.next()) {
        assert!(refusal.is_none(), "an entry behind a refusal");
        match result {
            Ok(parsed) => {
                assert!(offset(&list) > before, "an entry of no bytes");
                before = offset(&list);
                entries.push(parsed);
            }
            Err(error) => refusal = Some(error),
        }
    }
    (entries, before, refusal)
}

fn ended(read: &[ParsedEntry], offset: usize, length: usize, refusal: Option<ListError>) {
    assert!(read.iter().all(|parsed| parsed.entry.is_violation() == parsed.recorded.is_zero()));
    match refusal {
        Some(refusal) => {
            assert_eq!((refusal.index, refusal.offset), (read.len(), offset));
            assert!(offset < length);
        }
        None => assert_eq!(offset, length),
    }
}
