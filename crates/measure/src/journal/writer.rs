//! Appending batches, each confirmed by the disk before the next.
//!
//! What is confirmed ends at `end`. A failed attempt leaves anything behind it, so the next one cuts the file there
//! first. After an `fsync` that failed, pages may have been dropped and counted as clean; the bytes of the page that
//! `end` lies in are therefore kept, and written again together with the batch.

use std::io;

use super::medium::Medium;

/// No page or block that is written as one is smaller than a sector; none in use is larger than this.
const PAGE: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Writer {
    /// Where the confirmed bytes end.
    end: u64,
    /// The confirmed bytes from the beginning of their last page on.
    last_page: Vec<u8>,
    /// Something may stand behind `end`.
    dirty: bool,
    /// The confirmed bytes of the last page may not be on disk any more.
    dropped: bool,
    pub(super) sequence: u64,
    pub(super) batch: u64,
}

/// Where a writer begins.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) end: u64,
    /// The number of the next record, and of the next batch.
    pub(super) sequence: u64,
    pub(super) batch: u64,
}

impl Writer {
    /// A writer behind what is confirmed.
    pub(super) fn new(medium: &dyn Medium, start: &Start) -> io::Result<Self> {
        let from = start.end - start.end % PAGE;
        let mut last_page = vec![0; usize::try_from(start.end - from).unwrap_or_default()];
        if super::medium::read_full(medium, &mut last_page, from)? != last_page.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self {
            end: start.end,
            last_page,
            dirty: true,
            dropped: false,
            sequence: start.sequence,
            batch: start.batch,
        })
    }

    /// Where the confirmed bytes end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends a batch of `records` records and waits until it is on disk.
    pub(super) fn append(&mut self, medium: &dyn Medium, batch: &[u8], records: u64) -> io::Result<()> {
        self.clean(medium)?;
        self.dirty = true;
        let written = self.write(medium, batch);
        if let Err(error) = written {
            // What fails here is tried again before the next batch.
            let _stays_dirty = self.clean(medium);
            return Err(error);
        }
        self.dirty = false;
        self.dropped = false;
        self.end += batch.len() as u64;
        self.sequence += records;
        self.batch += 1;
        self.keep(batch);
        Ok(())
    }

    fn write(&mut self, medium: &dyn Medium, batch: &[u8]) -> io::Result<()> {
        if self.dropped {
            let whole = [&self.last_page, batch].concat();
            medium.write_all_at(&whole, self.end - self.last_page.len() as u64)?;
        } else {
            medium.write_all_at(batch, self.end)?;
        }
        medium.sync().inspect_err(|_| self.dropped = true)
    }

    /// Cuts off what a failed attempt left.
    fn clean(&mut self, medium: &dyn Medium) -> io::Result<()> {
        if self.dirty {
            medium.set_len(self.end)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Remembers the last page, which `batch` has grown.
    fn keep(&mut self, batch: &[u8]) {
        self.last_page.extend_from_slice(batch);
        let length = usize::try_from(self.end % PAGE).unwrap_or_default();
        // `end` lies where the kept bytes end, so its distance from the page's beginning is how many are kept on.
        self.last_page.drain(..self.last_page.len().saturating_sub(length));
    }
}
