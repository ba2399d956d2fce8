//! The files of the host list.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::HostError;
use super::state::{SLOT, State};

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// That nobody else writes. It ends with its last clone: a command on its way to the TPM holds one.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    _file: Arc<File>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn open(directory: &Path) -> Result<Self, HostError> {
        let files = Self { directory: directory.to_owned() };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| HostError::File { path: directory.to_owned(), source })?;
        Ok(files)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until nobody else writes.
    pub(super) fn lock(&self) -> Result<Lock, HostError> {
        self.with("lock", |file| {
            while let Err(errno) = flock(&file, FlockOperation::LockExclusive) {
                if errno != rustix::io::Errno::INTR {
                    return Err(errno.into());
                }
            }
            Ok(Lock { _file: Arc::new(file) })
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

    pub(super) fn size(&self) -> Result<u64, HostError> {
        self.with("list", |file| Ok(file.metadata()?.len()))
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

    /// Puts the list of an earlier boot aside.
    pub(super) fn put_aside(&self, state: &State) -> Result<(), HostError> {
        let list = self.directory.join("list");
        let hex: String = state.boot.iter().map(|byte| format!("{byte:02x}")).collect();
        let aside = self.directory.join(format!("list.{hex}"));
        match rename(&list, aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HostError::File { path: list, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(File) -> io::Result<T>) -> Result<T, HostError> {
        let path = self.directory.join(name);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).and_then(what).map_err(|source| HostError::File { path, source })
    }
}

/// Fills what it can; the rest stays zero.
fn read_up_to(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let length = file.read_at(buffer, offset)?;
        if length == 0 {
            return Ok(());
        }
        offset += length as u64;
        buffer = buffer.get_mut(length..).unwrap_or_default();
    }
    Ok(())
}

/// This boot's id.
pub(super) fn boot_id() -> Result<[u8; 16], HostError> {
    let failed = |source| HostError::File { path: BOOT_ID.into(), source };
    let text = std::fs::read_to_string(BOOT_ID).map_err(failed)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|error| failed(io::Error::other(error)))?;
    Ok(number.to_be_bytes())
}
