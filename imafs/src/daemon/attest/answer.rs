//! Evidence on its way out.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use attest::evidence::Evidence;
use ima::HashAlgo;
use measure::{Form, Snapshot};
use tpm::Quote;

use crate::failure::chain;

/// Bytes of the list written at once.
const PIECE: u64 = 1 << 20;

/// Evidence, its list not yet written.
#[derive(Debug)]
pub(super) struct Answer {
    head: Vec<u8>,
    list: Covered,
    bytes: u64,
}

/// The list that a quote covers, from its beginning.
#[derive(Debug)]
pub(super) enum Covered {
    /// The mount's own.
    Mount(Snapshot),
    /// The host's.
    Host(File),
}

impl Covered {
    /// At most `max` bytes from `offset` on.
    fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Mount(snapshot) => {
                snapshot.read_at(Form::Binary, HashAlgo::Sha1, offset, max).map_err(io::Error::other)
            }
            Self::Host(file) => {
                let mut piece = vec![0; max];
                let length = file.read_at(&mut piece, offset)?;
                piece.truncate(length);
                Ok(piece)
            }
        }
    }
}

impl Answer {
    /// A quote over the first `bytes` of a list.
    ///
    /// # Errors
    /// Why it cannot be written as evidence, in words.
    pub(super) fn new(
        quote: &Quote,
        certificates: &[Vec<u8>],
        list: Covered,
        bytes: u64,
    ) -> Result<Self, String> {
        let evidence = Evidence {
            attest: &quote.attest,
            signature: &quote.signature,
            public: &quote.key.public,
            registers: quote.values.clone(),
            certificates: certificates.iter().map(Vec::as_slice).collect(),
            list: &[],
        };
        let head = evidence.head(bytes).map_err(|error| chain(&error))?;
        Ok(Self { head, list, bytes })
    }

    /// Writes it, unless `until` comes first.
    ///
    /// # Errors
    /// When the other side does not take it, or the list cannot be read.
    pub(super) fn write_to(&self, out: &mut impl Write, until: Instant) -> io::Result<()> {
        out.write_all(&self.head)?;
        let mut offset = 0;
        while offset < self.bytes {
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let max = usize::try_from(PIECE.min(self.bytes - offset)).unwrap_or(usize::MAX);
            let piece = self.list.read_at(offset, max)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(&piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}
