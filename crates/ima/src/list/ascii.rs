//! The ASCII list: `PCR digest template field...`, one space between, one line each.
//!
//! A kernel writes names raw, and a name may hold newlines: then an entry is more than one line. (Those that are made
//! here hold none.) The template digest decides:
//! an entry ends at the first newline that makes the digest right. Where none does (violations have no digest; a list
//! may be damaged), it ends at the first newline behind which the list ends or something begins that looks like an
//! entry. A name alone cannot look like one, for its spaces are stored as underscores.
//!
//! Source: `ima_ascii_measurements_show`, security/integrity/ima/ima_fs.c, Linux 6.1.

use crate::{
    Digest, Entry, HashAlgo, PcrIndex, Template,
    list::{Cursor, ListError, ListFault, ParsedEntry},
};

/// How far beyond its first newline an entry is searched for its end: `PATH_MAX`, which bounds a name.
const MAX_CONTINUATION: usize = 4096;
/// How many newlines are tried in that; what an honest name needs is one or two. Bounds the time hostile lists take.
const MAX_NEWLINES: usize = 256;

/// Reads `list`, whose template digests are of `algo` (the unsuffixed list: SHA-1).
pub const fn parse_ascii(list: &[u8], algo: HashAlgo) -> AsciiList<'_> {
    AsciiList { cursor: Cursor::new(list), algo }
}

/// Iterator over the entries of an ASCII list.
#[derive(Debug, Clone)]
pub struct AsciiList<'a> {
    cursor: Cursor<'a>,
    algo: HashAlgo,
}

impl AsciiList<'_> {
    /// How many bytes the entries returned so far take up.
    ///
    /// After [`ListFault::Truncated`] reading may be begun anew from here when more of the list has come in.
    pub const fn offset(&self) -> usize {
        self.cursor.offset()
    }
}

impl Iterator for AsciiList<'_> {
    type Item = Result<ParsedEntry, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        let algo = self.algo;
        self.cursor.step(|text| entry(text, algo))
    }
}

impl std::iter::FusedIterator for AsciiList<'_> {}

/// The first entry of a list, and what follows it.
fn entry(text: &[u8], algo: HashAlgo) -> Result<(ParsedEntry, &[u8]), ListFault> {
    let head = Head::parse(text, algo)?;
    let newlines = || newlines(text).take(MAX_NEWLINES);
    let mut fault = ListFault::Truncated;
    let mut fallback = None;
    for end in newlines() {
        let line = text.get(..end).unwrap_or_default();
        let after = text.get(end + 1..).unwrap_or_default();
        match head.complete(line) {
            Ok(parsed) if !parsed.recorded.is_zero() && parsed.is_consistent() => {
                return Ok((parsed, after));
            }
            Ok(parsed) => {
                if fallback.is_none() && (after.is_empty() || Head::parse(after, algo).is_ok()) {
                    fallback = Some((parsed, after));
                }
            }
            Err(reason) => fault = reason,
        }
        // A violation has no digest to wait for.
        if head.recorded.is_zero() && fallback.is_some() {
            break;
        }
    }
    fallback.ok_or(fault)
}

/// The positions of newlines at which an entry may end.
fn newlines(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let first = text.iter().position(|byte| *byte == b'\n');
    let limit = first.map_or(0, |first| first.saturating_add(MAX_CONTINUATION + 1));
    let start = first.unwrap_or_default();
    text.iter().enumerate().take(limit).skip(start).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at)
}

/// The first three columns, which hold no newline.
struct Head {
    pcr: PcrIndex,
    recorded: Digest,
    template: Template,
    /// Where the fields begin, at the space before the first.
    length: usize,
}

impl Head {
    fn parse(text: &[u8], algo: HashAlgo) -> Result<Self, ListFault> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // Without a newline the columns may be cut off anywhere.
        let cut = |fault| if line.len() == text.len() { ListFault::Truncated } else { fault };
        let (pcr, rest) = pcr_column(line).ok_or_else(|| cut(ListFault::Pcr))?;
        let mut columns = rest.splitn(3, |byte| *byte == b' ');
        let recorded = columns.next().unwrap_or_default();
        let recorded = parse_digest(recorded, algo).ok_or_else(|| cut(ListFault::TemplateDigest))?;
        let name = columns.next().unwrap_or_default();
        let fields = columns.next().ok_or_else(|| cut(ListFault::Template))?;
        let name = std::str::from_utf8(name).map_err(|_| ListFault::Template)?;
        let template = Template::listed(name).ok_or(ListFault::Template)?;
        Ok(Self { pcr, recorded, template, length: line.len() - fields.len() - 1 })
    }

    /// The whole entry, of a line that may hold newlines.
    fn complete(&self, line: &[u8]) -> Result<ParsedEntry, ListFault> {
        let columns = line.get(self.length + 1..).ok_or(ListFault::Data)?;
        let mut texts = columns.split(|byte| *byte == b' ');
        let mut fields = Vec::with_capacity(self.template.fields().len());
        for field in self.template.fields() {
            let text = texts.next().ok_or(ListFault::Data)?;
            fields.push(field.parse_ascii(text).ok_or(ListFault::Data)?);
        }
        if texts.next().is_some() {
            return Err(ListFault::Data);
        }
        let entry = Entry::from_fields(self.pcr, self.template.clone(), &fields, self.recorded.is_zero())
            .ok_or(ListFault::Data)?;
        Ok(ParsedEntry { entry, recorded: self.recorded })
    }
}

/// The PCR, right-aligned in two columns, and what follows the space behind it.
fn pcr_column(line: &[u8]) -> Option<(PcrIndex, &[u8])> {
    let (tens, ones, rest) = match line {
        [b' ', ones @ b'0'..=b'9', b' ', rest @ ..] => (b'0', ones, rest),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b' ', rest @ ..] => (*tens, ones, rest),
        _ => return None,
    };
    let number = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
    Some((PcrIndex::new(number)?, rest))
}

fn parse_digest(text: &[u8], algo: HashAlgo) -> Option<Digest> {
    if text.len() != 2 * algo.digest_len() {
        return None;
    }
    Digest::new(algo, &hex::decode(text).ok()?).ok()
}
