//! The host list: many mounts' lines in the order in which they went into one PCR (`docs/host-list.md`).
//!
//! A line has the shape of a binary list's entry under a template of our own, `ima-ns`: the mount's id, the line's
//! number within that mount, and the entry itself as the mount's list has it. No kernel writes it.

use crate::list::{Cursor, ListError, ListFault};
use crate::{Digest, Entry, HashAlgo, Hasher, PcrIndex, UnavailableAlgo, parse_binary};

/// The name under which lines stand in the list.
const TEMPLATE: &[u8] = b"ima-ns";

/// The algorithm of a line's own digest, as of all unsuffixed lists.
const CHECKSUM: HashAlgo = HashAlgo::Sha1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLine {
    ns: String,
    seq: u64,
    entry: Entry,
}

/// A line of a host list, with the PCR it is for and the bytes it takes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedHostLine {
    /// The line.
    pub line: HostLine,
    /// The PCR of the list.
    pub pcr: PcrIndex,
}

impl HostLine {
    /// The line for an entry that is number `seq` of its mount's list.
    #[must_use]
    pub fn new(ns: impl Into<String>, seq: u64, entry: Entry) -> Self {
        Self { ns: ns.into(), seq, entry }
    }

    /// The mount's id.
    #[must_use]
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// The entry's number within the mount's list, counted from 0.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The entry of the mount's list.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The template data, which is what is hashed.
    ///
    /// # Errors
    /// [`UnavailableAlgo`] cannot happen: SHA-1 is always there.
    fn data(&self) -> Result<Vec<u8>, UnavailableAlgo> {
        let mut line = Vec::new();
        self.entry.write_binary(&mut line, CHECKSUM)?;
        let mut data = Vec::with_capacity(line.len() + self.ns.len() + 32);
        push(&mut data, &[self.ns.as_bytes(), &[0]].concat());
        push(&mut data, &self.seq.to_le_bytes());
        push(&mut data, &line);
        Ok(data)
    }

    /// What the PCR of a bank is extended with: the template digest, for violations as for all others.
    ///
    /// # Errors
    /// [`UnavailableAlgo`].
    pub fn extend_value(&self, algo: HashAlgo) -> Result<Digest, UnavailableAlgo> {
        let mut hasher = Hasher::new(algo)?;
        hasher.update(&self.data()?);
        Ok(hasher.finish())
    }

    /// Appends the line as the list of this PCR has it.
    ///
    /// # Errors
    /// As [`HostLine::extend_value`]; nothing is appended then.
    pub fn write_binary(&self, out: &mut Vec<u8>, pcr: PcrIndex) -> Result<(), UnavailableAlgo> {
        let checksum = self.extend_value(CHECKSUM)?;
        let data = self.data()?;
        out.extend_from_slice(&pcr.value().to_le_bytes());
        out.extend_from_slice(checksum.bytes());
        push(out, TEMPLATE);
        push(out, &data);
        Ok(())
    }
}

/// Appends a length and bytes. No line has 4 GiB: an entry that large is in no list.
fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads a host list. A line whose digest is not that of its data ends it, as does one that is cut off.
#[must_use]
pub const fn parse_host(list: &[u8]) -> HostList<'_> {
    HostList { cursor: Cursor::new(list) }
}

/// Iterator over the lines of a host list.
#[derive(Debug, Clone)]
pub struct HostList<'a> {
    cursor: Cursor<'a>,
}

impl HostList<'_> {
    /// How many bytes the lines returned so far take up.
    ///
    /// After [`ListFault::Truncated`] reading may be begun anew from here when more of the list has come in.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.cursor.offset()
    }
}

impl Iterator for HostList<'_> {
    type Item = Result<ParsedHostLine, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.step(line)
    }
}

impl std::iter::FusedIterator for HostList<'_> {}

fn line(bytes: &[u8]) -> Result<(ParsedHostLine, &[u8]), ListFault> {
    let (pcr, rest) = bytes.split_first_chunk().ok_or(ListFault::Truncated)?;
    let (recorded, rest) = rest.split_at_checked(CHECKSUM.digest_len()).ok_or(ListFault::Truncated)?;
    let (name, rest) = field(rest)?;
    if name != TEMPLATE {
        return Err(ListFault::Template);
    }
    let (data, rest) = field(rest)?;
    if crate::hash(CHECKSUM, data).map_or(true, |digest| digest.bytes() != recorded) {
        return Err(ListFault::TemplateDigest);
    }
    let pcr = PcrIndex::new(u32::from_le_bytes(*pcr)).ok_or(ListFault::Pcr)?;
    let line = fields(data).ok_or(ListFault::Data)?;
    // One way to write each line: what does not come out as it went in is none of ours.
    let mut again = Vec::with_capacity(bytes.len() - rest.len());
    line.write_binary(&mut again, pcr).map_err(|_| ListFault::Data)?;
    if bytes.len() - rest.len() != again.len() || !bytes.starts_with(&again) {
        return Err(ListFault::Data);
    }
    Ok((ParsedHostLine { line, pcr }, rest))
}

/// Takes template data apart.
fn fields(data: &[u8]) -> Option<HostLine> {
    let (ns, rest) = field(data).ok()?;
    let (seq, rest) = field(rest).ok()?;
    let (line, rest) = field(rest).ok()?;
    let ns = ns.strip_suffix(&[0]).filter(|ns| !ns.contains(&0))?;
    let mut entries = parse_binary(line, CHECKSUM);
    let parsed = entries.next()?.ok()?;
    if !rest.is_empty() || entries.offset() != line.len() {
        return None;
    }
    let seq = u64::from_le_bytes(seq.try_into().ok()?);
    Some(HostLine { ns: std::str::from_utf8(ns).ok()?.to_owned(), seq, entry: parsed.entry })
}

fn field(bytes: &[u8]) -> Result<(&[u8], &[u8]), ListFault> {
    let (length, rest) = bytes.split_first_chunk().ok_or(ListFault::Truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| ListFault::Truncated)?;
    rest.split_at_checked(length).ok_or(ListFault::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, FileAttrs, Template};

    const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };

    fn lines() -> Vec<HostLine> {
        let digest = crate::hash(HashAlgo::Sha256, b"content").unwrap();
        let mut lines = Vec::new();
        for name in ["ima", "ima-ng", "ima-sig", "ima-buf", "d-ng|n-ng|iuid"] {
            let template = Template::listed(name).unwrap();
            let event = Event {
                legacy_digest: Some(Digest::zero(HashAlgo::Sha1)),
                ..Event::file(digest, b"/a b", FILE)
            };
            let entry = template.entry(PcrIndex::DEFAULT, &event).unwrap();
            lines.push(HostLine::new("web-1", lines.len() as u64, entry));
        }
        let template = Template::listed("ima-ng").unwrap();
        let violation = Event::violation(HashAlgo::Sha256, b"/v", FILE);
        let entry = template.entry(PcrIndex::DEFAULT, &violation).unwrap();
        lines.push(HostLine::new("mail", u64::MAX, entry));
        lines
    }

    fn written(lines: &[HostLine]) -> Vec<u8> {
        let mut list = Vec::new();
        lines.iter().for_each(|line| line.write_binary(&mut list, PcrIndex::DEFAULT).unwrap());
        list
    }

    #[test]
    fn lines_of_every_template_come_back_as_they_went_in() {
        let list = written(&lines());
        let back: Vec<_> = parse_host(&list).map(|line| line.unwrap().line).collect();
        assert_eq!(back, lines());
        assert!(back.last().unwrap().entry().is_violation());
    }

    #[test]
    fn a_violation_is_hashed_like_any_other_line() {
        let all = lines();
        let violation = all.last().unwrap();
        let value = violation.extend_value(HashAlgo::Sha256).unwrap();
        assert!(value != Digest::ones(HashAlgo::Sha256) && !value.is_zero());
        let other = HostLine::new("web-1", violation.seq(), violation.entry().clone());
        assert_ne!(other.extend_value(HashAlgo::Sha256).unwrap(), value);
    }

    #[test]
    fn every_truncation_gives_the_whole_lines_and_says_that_more_was_to_come() {
        let list = written(&lines());
        for length in 0..list.len() {
            let mut parsed = parse_host(&list[..length]);
            let whole = parsed.by_ref().take_while(Result::is_ok).count();
            assert!(whole < lines().len());
            let end = written(&lines()[..whole]).len();
            assert_eq!(parsed.offset(), end);
            let fault = parse_host(&list[..length]).find_map(Result::err).map(|error| error.reason);
            assert_eq!(fault, (length > end).then_some(ListFault::Truncated), "at {length}");
        }
    }

    #[test]
    fn no_byte_of_a_line_can_be_changed_but_its_pcr() {
        let list = written(&lines());
        for at in 0..list.len() {
            let mut changed = list.clone();
            changed[at] ^= 0x41;
            let back: Result<Vec<_>, _> = parse_host(&changed).collect();
            let same = back.is_ok_and(|back| back.iter().all(|line| line.pcr == PcrIndex::DEFAULT));
            assert!(!same, "byte {at}");
        }
    }
}
