//! Reading the host list from its beginning, a piece at a time: it may be longer than memory should hold.

use ima::list::ListFault;
use ima::{Entry, HashAlgo, HostLine, PcrIndex, parse_host};

use super::HostError;
use super::files::Files;

/// Bytes read at once, where no line is longer.
const PIECE: usize = 1 << 20;

/// What a line says of its mount's list: the digest of number and entry, violations included, whose own digests are
/// all alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal(Vec<u8>);

impl Seal {
    /// Of the entry that has this number. `None` cannot happen: these algorithms are always there.
    pub(super) fn of(number: u64, entry: &Entry) -> Option<Self> {
        let mut bytes = number.to_le_bytes().to_vec();
        entry.write_binary(&mut bytes, HashAlgo::Sha1).ok()?;
        ima::hash(HashAlgo::Sha256, &bytes).ok().map(|digest| Self(digest.bytes().to_vec()))
    }
}

/// The lines up to a place where one ends.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    files: &'a Files,
    end: u64,
    /// Where the piece begins.
    begins: u64,
    piece: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(files: &'a Files, end: u64) -> Self {
        Self { files, end, begins: 0, piece: Vec::new(), taken: 0 }
    }

    /// Where the lines that were taken end.
    pub(super) fn offset(&self) -> u64 {
        self.begins + self.taken as u64
    }

    /// The next line, which has to be for this PCR.
    pub(super) fn next(&mut self, pcr: PcrIndex) -> Result<Option<HostLine>, HostError> {
        while self.offset() < self.end {
            let mut rest = parse_host(self.piece.get(self.taken..).unwrap_or_default());
            match rest.next() {
                Some(Ok(line)) if line.pcr == pcr => {
                    self.taken += rest.offset();
                    return Ok(Some(line.line));
                }
                Some(Err(error)) if error.reason == ListFault::Truncated => {}
                None => {}
                Some(Ok(_) | Err(_)) => return Err(self.damaged()),
            }
            // It does not end in this piece.
            let held = self.piece.len() - self.taken;
            let left = usize::try_from(self.end - self.offset()).unwrap_or(usize::MAX);
            (self.begins, self.taken) = (self.offset(), 0);
            self.piece = self.files.read_some(self.begins, PIECE.max(2 * held).min(left))?;
            if self.piece.len() <= held {
                return Err(self.damaged());
            }
        }
        Ok(None)
    }

    fn damaged(&self) -> HostError {
        HostError::Damaged { path: self.files.directory().to_owned(), offset: self.offset() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ima::{Event, Template};

    use super::*;

    fn line(number: u64, length: usize) -> Vec<u8> {
        let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
        let buffer = vec![0x5a; length];
        let event = Event::buffer(digest, b"buffer", &buffer);
        let entry = Template::buffer().entry(PcrIndex::DEFAULT, &event).unwrap();
        let mut bytes = Vec::new();
        HostLine::new("web", number, entry).write_binary(&mut bytes, PcrIndex::DEFAULT).unwrap();
        bytes
    }

    #[test]
    fn lines_longer_than_a_piece_and_across_its_end_are_read_whole_and_a_cut_one_is_told() {
        let here = tempfile::tempdir().unwrap();
        let files = Files::open(here.path(), Duration::from_secs(1)).unwrap();
        let lengths = [0, 10, PIECE - 300, 700, 3 * PIECE, 1, PIECE, 5];
        let lines: Vec<Vec<u8>> =
            lengths.into_iter().enumerate().map(|(number, length)| line(number as u64, length)).collect();
        let list = lines.concat();
        files.append(0, &list).unwrap();
        let mut read = Lines::new(&files, list.len() as u64);
        let mut end = 0;
        for (number, bytes) in lines.iter().enumerate() {
            assert_eq!(read.next(PcrIndex::DEFAULT).unwrap().unwrap().seq(), number as u64);
            end += bytes.len() as u64;
            assert_eq!(read.offset(), end);
        }
        assert_eq!(read.next(PcrIndex::DEFAULT).unwrap(), None);
        // A list that ends before the place where it should.
        for end in [list.len() as u64 - 1, list.len() as u64 + 1] {
            let mut read = Lines::new(&files, end);
            let told = std::iter::from_fn(|| read.next(PcrIndex::DEFAULT).transpose()).find_map(Result::err);
            assert!(matches!(told, Some(HostError::Damaged { .. })), "{told:?}");
        }
        let other = PcrIndex::new(11).unwrap();
        assert!(matches!(Lines::new(&files, list.len() as u64).next(other), Err(HostError::Damaged { .. })));
    }
}
