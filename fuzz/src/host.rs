//! Host lists: `ima::host`.

use ima::host::ParsedHostLine;
use ima::list::ListError;
use ima::{HashAlgo, parse_host};

use crate::{Bound, must, within};

/// What a line may hold while the ones before it are dropped.
const LINE: Bound = Bound { fixed: 4096, per_byte: 8 };

/// Any bytes as a host list.
///
/// - The lines that are read, written again, are the bytes that were read.
/// - After a refusal nothing more is read, and its place is where the line begins.
/// - A list can be read on from the end of any line.
/// - What a line extends a bank with is the digest of its template data.
pub fn host(data: &[u8]) {
    let (read, refusal) = read(data);
    let mut written = Vec::new();
    for (parsed, end) in &read {
        must(parsed.line.write_binary(&mut written, parsed.pcr).ok(), "a line that was read can be written");
        assert_eq!(Some(&written[..]), data.get(..*end));
        extends(parsed, &written);
    }
    match refusal {
        Some(refusal) => {
            assert_eq!((refusal.index, refusal.offset), (read.len(), written.len()));
            assert!(written.len() < data.len());
        }
        None => assert_eq!(written.len(), data.len()),
    }
    if let Some((_, end)) = read.first() {
        let rest: Vec<_> = parse_host(data.get(*end..).unwrap_or_default()).flatten().collect();
        let after: Vec<_> = read.iter().skip(1).map(|(parsed, _)| parsed.clone()).collect();
        assert_eq!(rest, after);
    }
}

/// All lines, each with where it ends, and what ended them.
fn read(data: &[u8]) -> (Vec<(ParsedHostLine, usize)>, Option<ListError>) {
    let (mut list, mut lines, mut refusal) = (parse_host(data), Vec::new(), None);
    while let Some(result) = within(LINE, data, || list.next()) {
        assert!(refusal.is_none(), "a line behind a refusal");
        match result {
            Ok(parsed) => lines.push((parsed, list.offset())),
            Err(error) => refusal = Some(error),
        }
    }
    (lines, refusal)
}

/// The SHA-1 digest stands in the line: behind the PCR, which is four bytes.
fn extends(parsed: &ParsedHostLine, written: &[u8]) {
    let length = {
        let mut line = Vec::new();
        must(parsed.line.write_binary(&mut line, parsed.pcr).ok(), "a line can be written twice");
        line.len()
    };
    let line = written.get(written.len() - length..).unwrap_or_default();
    let digest = must(parsed.line.extend_value(HashAlgo::Sha1).ok(), "SHA-1 is always there");
    assert_eq!(line.get(4..24), Some(digest.bytes()));
    assert!(parsed.line.extend_value(HashAlgo::Sha256).is_ok());
}
