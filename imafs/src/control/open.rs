//! Open control files: reading what was there at the open, and the writes that are taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use measure::ReadError;
use monitor::Monitor;

use crate::fs::{Caller, Errno, Written};

use super::content::Content;
use super::loading::Loading;
use super::tree::File;
use super::{new_key, switches};

/// Open files at once. One process could otherwise fill our memory with snapshots.
const LIMIT: usize = 4096;

/// Of these, what all users but the owner and the host's root can have together, so that those are never kept out; and
/// what one of them can have.
const OTHERS: usize = 2048;
const EACH: usize = 256;

/// The table of open files, by handle.
#[derive(Debug, Default)]
pub(super) struct Opens {
    owner: u32,
    next: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Open>>,
    /// How many each such user has open; nobody is listed who has none.
    by_user: HashMap<u32, usize>,
}

/// One open file.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    content: Content,
    /// The load it stands for, when it is the policy open for writing.
    loading: Option<Arc<Loading>>,
    writable: bool,
    user: u32,
    /// What is added to an offset to find the byte in the audit trail: not 0 where the oldest bytes have gone.
    shift: AtomicU64,
}

impl Open {
    /// An open for reading.
    pub(super) fn reading(file: File, content: Content, user: u32) -> Self {
        Self { file, content, loading: None, writable: false, user, shift: AtomicU64::new(0) }
    }

    /// The same, for writing as well.
    pub(super) fn writing(self, loading: Option<Arc<Loading>>) -> Self {
        Self { writable: true, loading, ..self }
    }

    /// The load it stands for.
    pub(super) fn loading(&self) -> Option<&Arc<Loading>> {
        self.loading.as_ref()
    }

    /// The bytes it shows, if those were taken at the open.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Option<&Arc<[u8]>> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes),
            Content::List(_) | Content::Audit => None,
        }
    }

    /// At most `size` bytes from `offset` on; empty at the end.
    pub(super) fn read(&self, monitor: &Monitor, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        match (&self.content, self.file) {
            (Content::Bytes(bytes), _) => Ok(part(bytes, offset, size)),
            (Content::List(list), File::List(form, algo)) => {
                list.read_at(form, algo, offset, size).map_err(|error| unreadable(&error))
            }
            (Content::Audit, _) => Ok(self.follow(monitor.options().audit.ring(), offset, size)),
            (Content::List(_), _) => Err(Errno::IO),
        }
    }

    /// One `write(2)`.
    pub(super) fn write(&self, monitor: &Arc<Monitor>, offset: u64, data: &[u8], caller: &Caller) -> Written {
        if let Some(loading) = &self.loading {
            return loading.write(offset, data, caller);
        }
        let taken = || u32::try_from(data.len()).map_err(|_| Errno::INVAL);
        Written::Done(match self.file {
            _ if !self.writable => Err(Errno::BADF),
            File::Keys(_) => new_key::add(monitor, data, caller),
            _ if offset != 0 => Err(Errno::INVAL),
            file => switches::set(monitor, file, data, caller).and_then(|()| taken()),
        })
    }
}

impl Opens {
    /// No open file yet, in a directory of this user's.
    pub(super) fn of(owner: u32) -> Self {
        Self { owner, ..Self::default() }
    }

    /// Enters an open file, and gives its handle.
    ///
    /// # Errors
    /// [`Errno::NFILE`] when there are too many, or too many of this user's.
    pub(super) fn add(&self, open: Open) -> Result<u64, Errno> {
        let mut table = self.table.lock();
        if table.open.len() >= LIMIT {
            return Err(Errno::NFILE);
        }
        if open.user != 0 && open.user != self.owner {
            let others: usize = table.by_user.values().sum();
            let own = table.by_user.entry(open.user).or_default();
            if *own >= EACH || others >= OTHERS {
                if *own == 0 {
                    table.by_user.remove(&open.user);
                }
                return Err(Errno::NFILE);
            }
            *own += 1;
        }
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        table.open.insert(fh, Arc::new(open));
        Ok(fh)
    }

    /// Takes an open file out.
    pub(super) fn close(&self, fh: u64) -> Option<Arc<Open>> {
        let mut table = self.table.lock();
        let open = table.open.remove(&fh)?;
        if let Some(own) = table.by_user.get_mut(&open.user) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                table.by_user.remove(&open.user);
            }
        }
        Some(open)
    }

    /// The open file of a handle.
    ///
    /// # Errors
    /// [`Errno::BADF`] when there is none.
    pub(super) fn find(&self, fh: u64) -> Result<Arc<Open>, Errno> {
        self.table.lock().open.get(&fh).cloned().ok_or(Errno::BADF)
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

/// What a reader of the list is told when a part of it cannot be read.
fn unreadable(error: &ReadError) -> Errno {
    match error {
        ReadError::Algo(_) => Errno::OPNOTSUPP,
        _ => {
            tracing::error!("cannot show the measurement list: {}", crate::failure::chain(error));
            Errno::IO
        }
    }
}

fn part(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let to = from.saturating_add(size).min(bytes.len());
    bytes.get(from..to).unwrap_or_default().to_vec()
}
