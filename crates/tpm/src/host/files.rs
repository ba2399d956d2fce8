//! The files of the host list.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HostError;
use super::lock::{Holder, Lock, Queue, Unlocked};
use super::note::Note;
use super::state::{SLOT, State};

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    queue: Queue,
    limit: Duration,
}

impl Files {
    /// In this directory; a list that has not moved for `limit` counts as stuck.
    pub(super) fn open(directory: &Path, limit: Duration) -> Result<Self, HostError> {
        let files = Self { directory: directory.to_owned(), queue: Queue::new(limit), limit };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| HostError::File { path: directory.to_owned(), source })?;
        Ok(files)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until nobody else writes, as long as the list moves on.
    pub(super) fn lock(&self) -> Result<Lock, HostError> {
        let path = self.directory.join("lock");
        // A state that cannot be read does not move.
        let mark = || self.load().ok().flatten().map_or(0, |state| state.generation);
        self.queue.take(|| open(&path), mark).map_err(|unlocked| match unlocked {
            Unlocked::System(source) => HostError::File { path: path.clone(), source },
            Unlocked::Stuck(pid) => {
                HostError::Stuck { path: self.directory.clone(), holder: Holder(pid), limit: self.limit }
            }
        })
    }

    /// The note that counts, if one was ever written.
    pub(super) fn load(&self) -> Result<Option<State>, HostError> {
        self.with("state", |file| {
            let mut slots = [[0; SLOT]; 2];
            for (slot, offset) in slots.iter_mut().zip([0, SLOT as u64]) {
                read_up_to(&file, slot, offset)?;
            }
            Ok(slots.iter().filter_map(|slot| State::decode(slot)).max_by_key(|state| state.generation))
        })
    }

    /// Writes the note, beside the last one.
    pub(super) fn store(&self, state: &mut State) -> Result<(), HostError> {
        state.generation += 1;
        let too_many = || io::Error::other("more banks than any TPM has");
        self.with("state", |file| file.write_all_at(&state.encode().ok_or_else(too_many)?, state.offset()))
    }

    /// The list, to be read for as long as it takes.
    pub(super) fn list(&self) -> Result<File, HostError> {
        self.with("list", Ok)
    }

    pub(super) fn size(&self) -> Result<u64, HostError> {
        self.with("list", |file| Ok(file.metadata()?.len()))
    }

    /// Some bytes of the list, fewer where it ends.
    pub(super) fn read_some(&self, offset: u64, length: usize) -> Result<Vec<u8>, HostError> {
        self.with("list", |file| {
            let mut bytes = vec![0; length];
            let read = read_up_to(&file, &mut bytes, offset)?;
            bytes.truncate(read);
            Ok(bytes)
        })
    }

    pub(super) fn read_from(&self, offset: u64) -> Result<Vec<u8>, HostError> {
        self.with("list", |file| {
            let size = file.metadata()?.len().saturating_sub(offset);
            let mut bytes = vec![0; usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        })
    }

    /// Puts bytes at the end. When they do not all fit, none is left there.
    pub(super) fn append(&self, end: u64, bytes: &[u8]) -> Result<(), HostError> {
        self.with("list", |file| {
            let written = file.write_all_at(bytes, end);
            if written.is_err() {
                // The error that is told is the first one; who comes next cuts it off as well.
                drop(file.set_len(end));
            }
            written
        })
    }

    /// Cuts off what follows.
    pub(super) fn cut(&self, end: u64) -> Result<(), HostError> {
        self.with("list", |file| if file.metadata()?.len() > end { file.set_len(end) } else { Ok(()) })
    }

    /// Puts the list of an earlier boot aside. What was noted about its lines goes with that boot.
    pub(super) fn put_aside(&self, state: &State) -> Result<(), HostError> {
        let (list, notes) = (self.directory.join("list"), self.directory.join("lists"));
        match std::fs::remove_dir_all(&notes) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(HostError::File { path: notes, source });
            }
            Ok(()) | Err(_) => {}
        }
        let hex: String = state.boot.iter().map(|byte| format!("{byte:02x}")).collect();
        let aside = self.directory.join(format!("list.{hex}"));
        match rename(&list, aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HostError::File { path: list, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Where the lines of this mount's list begin, if that was ever noted.
    pub(super) fn note(&self, ns: &str) -> Result<Option<Note>, HostError> {
        let path = self.note_path(ns);
        match std::fs::read(&path) {
            Ok(bytes) => match Note::decode(&bytes) {
                Some(note) => Ok(Some(note)),
                None => Err(HostError::Note { path }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HostError::File { path, source }),
        }
    }

    /// Notes that, or that no journal keeps this mount's list. The note appears whole or not at all.
    pub(super) fn set_note(&self, ns: &str, note: Option<&Note>) -> Result<(), HostError> {
        let path = self.note_path(ns);
        let Some(note) = note else {
            return match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(HostError::File { path, source })
                }
                Ok(()) | Err(_) => Ok(()),
            };
        };
        let write = || {
            let draft = self.directory.join("lists").join(format!(".{ns}"));
            DirBuilder::new().recursive(true).mode(0o700).create(self.directory.join("lists"))?;
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?
                .write_all_at(&note.encode().ok_or(io::ErrorKind::InvalidData)?, 0)?;
            rename(draft, &path)
        };
        write().map_err(|source| HostError::File { path: path.clone(), source })
    }

    fn note_path(&self, ns: &str) -> PathBuf {
        self.directory.join("lists").join(ns)
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(File) -> io::Result<T>) -> Result<T, HostError> {
        let path = self.directory.join(name);
        open(&path).and_then(what).map_err(|source| HostError::File { path, source })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Fills what it can; the rest stays zero. Gives how much that was.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// This boot's id.
pub(super) fn boot_id() -> Result<[u8; 16], HostError> {
    let failed = |source| HostError::File { path: BOOT_ID.into(), source };
    let text = std::fs::read_to_string(BOOT_ID).map_err(failed)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|error| failed(io::Error::other(error)))?;
    Ok(number.to_be_bytes())
}
