//! Open control files: reading what was there at the open, and the few writes that are taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use monitor::Monitor;

use crate::fs::Errno;

use super::content::Content;
use super::tree::File;

/// Open files at once. One process could otherwise fill our memory with snapshots.
const LIMIT: usize = 4096;

/// The table of open files, by handle.
#[derive(Debug, Default)]
pub(super) struct Opens {
    next: AtomicU64,
    table: Mutex<HashMap<u64, Arc<Open>>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    content: Content,
    /// What is added to an offset to find the byte in the audit trail: not 0 where the oldest bytes have gone.
    shift: AtomicU64,
}

impl Opens {
    pub(super) fn add(&self, content: Content, file: File) -> Result<u64, Errno> {
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        if table.len() >= LIMIT {
            return Err(Errno::NFILE);
        }
        table.insert(fh, Arc::new(Open { file, content, shift: AtomicU64::new(0) }));
        Ok(fh)
    }

    pub(super) fn close(&self, fh: u64) {
        self.table.lock().remove(&fh);
    }

    fn find(&self, fh: u64) -> Result<Arc<Open>, Errno> {
        self.table.lock().get(&fh).cloned().ok_or(Errno::BADF)
    }

    /// At most `size` bytes from `offset` on; empty at the end.
    pub(super) fn read(
        &self,
        monitor: &Monitor,
        fh: u64,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, Errno> {
        let open = self.find(fh)?;
        match (&open.content, open.file) {
            (Content::Bytes(bytes), _) => Ok(part(bytes, offset, size)),
            (Content::List(list), File::List(form, algo)) => {
                list.read_at(form, algo, offset, size).map_err(|_| Errno::OPNOTSUPP)
            }
            (Content::Audit, _) => Ok(open.follow(monitor.options().audit.ring(), offset, size)),
            (Content::List(_), _) => Err(Errno::IO),
        }
    }

    /// Takes `1` for a switch that is on; nothing can be switched off.
    pub(super) fn write(&self, fh: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let open = self.find(fh)?;
        if !open.file.is_writable() {
            return Err(Errno::BADF);
        }
        match (offset, data.trim_ascii()) {
            (0, b"1") => u32::try_from(data.len()).map_err(|_| Errno::INVAL),
            (0, b"0") => Err(Errno::PERM),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Open {
    /// Reads the trail. A reader whose bytes have fallen away goes on at the oldest kept, after an empty line if it
    /// had read some before.
    fn follow(&self, ring: &audit::ring::Ring, offset: u64, size: usize) -> Vec<u8> {
        let at = offset.saturating_add(self.shift.load(Ordering::Relaxed));
        let (oldest, end) = ring.span();
        if at >= oldest.min(end) {
            return ring.read_at(at, size);
        }
        if offset == 0 {
            self.shift.store(oldest, Ordering::Relaxed);
            return ring.read_at(oldest, size);
        }
        // The empty line takes one byte of the reader's offsets.
        self.shift.store(oldest.saturating_sub(offset.saturating_add(1)), Ordering::Relaxed);
        let mut text = vec![b'\n'];
        text.extend(ring.read_at(oldest, size.saturating_sub(1)));
        text
    }
}

fn part(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let to = from.saturating_add(size).min(bytes.len());
    bytes.get(from..to).unwrap_or_default().to_vec()
}
