//! Templates and their fields: `ima::template`.

use ima::{
    Digest, Entry, Event, FileAttrs, HashAlgo, ListError, ParsedEntry, PcrIndex, Template, hash, parse_ascii,
    parse_binary,
};

use crate::{Bound, must, within};

/// What a template of so many bytes of format may hold: the text itself, and a byte for each field.
const FORMAT: Bound = Bound { fixed: 512, per_byte: 2 };

/// The first line is a template's name or format; what follows becomes an event and a record of that template.
///
/// - A template that is found gives the same template by the name it is listed by, and has 1 to 15 fields.
/// - The entry of an event has the template's fields, and comes back from both kinds of list as it was; from an ASCII
///   list unless it has more newlines than the reader says it tries.
/// - A record that is read holds its data byte for byte.
pub fn template(data: &[u8]) {
    let (text, rest) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (data.get(..at).unwrap_or_default(), data.get(at + 1..).unwrap_or_default()),
        None => (data, &[][..]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Some(template) = within(FORMAT, text.as_bytes(), || Template::lookup(text)) {
        assert!(text == template.name() || text == template.format());
        assert_eq!(Template::named(template.name()), Some(template.clone()));
        sound(&template);
    }
    if let Some(template) = within(FORMAT, text.as_bytes(), || Template::from_format(text)) {
        assert_eq!((template.name(), template.format()), ("", text));
        sound(&template);
    }
    if let Some(template) = Template::listed(text) {
        sound(&template);
        assert_eq!(Template::listed(template.listed_name()), Some(template.clone()));
        events(&template, rest);
        record(&template, rest);
    }
}

fn sound(template: &Template) {
    assert!((1..=15).contains(&template.fields().len()));
    let ids: Vec<_> = template.fields().iter().map(|field| field.id()).collect();
    assert_eq!(ids.join("|"), template.format());
}

/// Cuts a piece off: one byte says how long it is.
fn piece<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, behind)) = rest.split_first() else { return &[] };
    let (piece, behind) = behind.split_at_checked(usize::from(*length)).unwrap_or((behind, &[]));
    *rest = behind;
    piece
}

fn events(template: &Template, mut rest: &[u8]) {
    let rest = &mut rest;
    let (name, label, evm, buf) = (piece(rest), piece(rest), piece(rest), piece(rest));
    // A name is a path or a word: no NUL, and not empty.
    let name: Vec<u8> = name.iter().copied().filter(|byte| *byte != 0).chain(*b"x").collect();
    let xattrs = [(&b"security.ima"[..], label), (&b"security.capability"[..], buf)];
    let sha1 = must(hash(HashAlgo::Sha1, buf).ok(), "SHA-1 is available");
    let sha256 = must(hash(HashAlgo::Sha256, buf).ok(), "SHA-256 is available");
    let file = FileAttrs { uid: 0, gid: u32::MAX, mode: 0o100_644 };
    for violation in [false, true] {
        let event = Event {
            legacy_digest: Some(sha1),
            label: Some(label),
            evm: Some(evm),
            buf: Some(buf),
            xattrs: if evm.is_empty() { &[] } else { &xattrs },
            violation,
            ..Event::file(sha256, &name, file)
        };
        let entry = must(template.entry(PcrIndex::DEFAULT, &event).ok(), "every event can be recorded");
        assert_eq!(entry.fields().count(), template.fields().len());
        returns(&entry, HashAlgo::Sha1);
        returns(&entry, HashAlgo::Sha256);
    }
}

fn returns(entry: &Entry, algo: HashAlgo) {
    let (mut binary, mut ascii) = (Vec::new(), Vec::new());
    must(entry.write_binary(&mut binary, algo).ok(), "the algorithm is available");
    must(entry.write_ascii(&mut ascii, algo).ok(), "the algorithm is available");
    let from_binary: Vec<_> = parse_binary(&binary, algo).collect();
    same(from_binary, entry);
    if within_reach(&ascii) {
        same(parse_ascii(&ascii, algo).collect(), entry);
    }
}

/// Whether the ASCII reader tries the newline that ends an entry: the bounds it states, which no honest name comes near.
fn within_reach(ascii: &[u8]) -> bool {
    let newlines = || ascii.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    newlines().count() <= 256
        && newlines().next_back().zip(newlines().next()).is_some_and(|(last, first)| last - first <= 4096)
}

fn same(list: Vec<Result<ParsedEntry, ListError>>, entry: &Entry) {
    assert_eq!(list.len(), 1);
    let parsed = must(list.into_iter().next().and_then(Result::ok), "what is written is read");
    assert!(parsed.is_consistent());
    assert_eq!(&parsed.entry, entry);
}

fn record(template: &Template, data: &[u8]) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let name = template.listed_name().as_bytes();
    let mut list = 10u32.to_le_bytes().to_vec();
    list.extend_from_slice(Digest::zero(HashAlgo::Sha1).bytes());
    list.extend_from_slice(&length(name));
    list.extend_from_slice(name);
    list.extend_from_slice(&length(data));
    list.extend_from_slice(data);
    let Some(Ok(parsed)) = parse_binary(&list, HashAlgo::Sha1).next() else { return };
    assert_eq!(parsed.entry.template(), template);
    let fields: Vec<&[u8]> = parsed.entry.fields().collect();
    if !template.is_legacy_ima() {
        let joined: Vec<u8> = fields.iter().flat_map(|field| [&length(field)[..], field].concat()).collect();
        assert_eq!(joined, data);
    }
}
