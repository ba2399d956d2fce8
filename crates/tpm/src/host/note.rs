//! Which lines of the host list are those of a list that a journal keeps: the note `lists/NS`.
//!
//! A mount that starts again under its id begins at line 0, so its lines alone do not say which of them belong to the
//! journal that goes on now.

use ima::HashAlgo;
use measure::journal::JournalId;

const MAGIC: &[u8; 8] = b"imafsHN1";

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// The boot whose list it is.
    pub(super) boot: [u8; 16],
    /// The journal.
    pub(super) journal: JournalId,
    /// Its lines are behind this byte.
    pub(super) from: u64,
}

impl Note {
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = [&MAGIC[..], &self.boot, &self.journal, &self.from.to_le_bytes()].concat();
        let checksum = ima::hash(HashAlgo::Sha256, &bytes).ok()?;
        bytes.extend(checksum.bytes());
        Some(bytes)
    }

    /// `None` for what is no note: then the journal has no line here.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (journal, rest) = rest.split_first_chunk()?;
        let (from, _) = rest.split_first_chunk()?;
        let note = Self { boot: *boot, journal: *journal, from: u64::from_le_bytes(*from) };
        (magic == MAGIC && note.encode()? == bytes).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_and_any_other_byte_is_none() {
        let note = Note { boot: *b"a boot's id, yes", journal: *b"a journal's also", from: 77 };
        let bytes = note.encode().unwrap();
        assert_eq!(Note::decode(&bytes), Some(note));
        for at in 0..bytes.len() {
            assert_eq!(Note::decode(&bytes[..at]), None);
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Note::decode(&changed), None, "byte {at}");
        }
        assert_eq!(Note::decode(&[&bytes[..], &[0]].concat()), None);
    }
}
