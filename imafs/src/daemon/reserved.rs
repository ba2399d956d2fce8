//! A register of a TPM belongs to one mount, or to those that share it by a host list.
//!
//! `<run dir>/pcr/` has a file for each that is in use, locked for as long as the process lives: exclusively, or shared by
//! mounts with a host list. That the register is unused is found out by reading it; the lock is for two mounts that do
//! so at once.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ima::{HashAlgo, PcrIndex};
use tpm::Tcti;

use crate::failure::Failure;

use super::run_dir::RunDir;
use super::system::plain;

/// How long a process that is ending may hold it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A register that is held. The lock ends with the descriptor.
#[derive(Debug)]
pub(super) struct Reserved {
    _lock: File,
}

/// Holds a register, alone or together with others of its host list.
///
/// # Errors
/// When somebody else holds it.
pub(super) fn reserve(tcti: &Tcti, pcr: PcrIndex, shared: bool) -> Result<Reserved, Failure> {
    let path = path(&RunDir::from_environment().registers(), tcti, pcr);
    let taken = || {
        Failure::cannot(format!("use the TPM {tcti}"), format!("another mount has its list in PCR {pcr}"))
            .advise("name another with --pcr, or share it by a host list (--host-list NAME); see 'imafs ps'")
    };
    match hold(&path, shared, PATIENCE) {
        Ok(Some(lock)) => Ok(Reserved { _lock: lock }),
        Ok(None) => Err(taken()),
        Err(error) => Err(Failure::cannot(format!("lock {}", path.display()), plain(&error))
            .advise("name a writable directory in IMAFS_RUN_DIR")),
    }
}

/// The file that stands for a register. One TPM under two names that are not told apart here is still told by the
/// register's value.
fn path(directory: &Path, tcti: &Tcti, pcr: PcrIndex) -> PathBuf {
    let name = match tcti {
        Tcti::Device(path) => {
            // The kernel's resource manager is in front of the same device.
            let path = resolved(path);
            path.to_string_lossy().replace("/dev/tpmrm", "/dev/tpm")
        }
        Tcti::SwtpmPath(path) => resolved(path).to_string_lossy().into_owned(),
        other => other.to_string(),
    };
    let digest = ima::hash(HashAlgo::Sha256, name.as_bytes()).map(|digest| digest.to_hex());
    // It is always computed; a name for all TPMs would only refuse more.
    let digest = digest.unwrap_or_default();
    directory.join(format!("{}-{pcr}", digest.get(..32).unwrap_or_default()))
}

/// The path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    let by_parent = parent.zip(path.file_name()).map(|(parent, name)| parent.join(name));
    fs::canonicalize(path).ok().or(by_parent).unwrap_or_else(|| path.to_owned())
}

/// Locks the file; `None` when somebody else has it for so long.
fn hold(path: &Path, shared: bool, patience: Duration) -> io::Result<Option<File>> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    let until = Instant::now() + patience;
    loop {
        match if shared { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_held_by_one_or_shared_by_many_and_another_is_free() {
        let base = tempfile::tempdir().unwrap();
        let at = |tcti: &str, pcr| path(base.path(), &tcti.parse().unwrap(), PcrIndex::new(pcr).unwrap());
        let hold = |path: PathBuf, shared| hold(&path, shared, Duration::ZERO);
        let one = hold(at("device:/dev/tpm9", 10), false).unwrap();
        assert!(one.is_some());
        for shared in [false, true] {
            assert!(hold(at("device:/dev/tpmrm9", 10), shared).unwrap().is_none());
        }
        assert!(hold(at("device:/dev/tpm9", 11), false).unwrap().is_some());
        assert!(hold(at("device:/dev/tpm8", 10), false).unwrap().is_some());
        drop(one);
        let many = [(); 2].map(|()| hold(at("device:/dev/tpm9", 10), true).unwrap().unwrap());
        assert!(hold(at("device:/dev/tpm9", 10), false).unwrap().is_none());
        drop(many);
        assert!(hold(at("device:/dev/tpm9", 10), false).unwrap().is_some());
    }

    #[test]
    fn a_link_to_a_socket_is_the_socket() {
        let base = tempfile::tempdir().unwrap();
        let (real, link) = (base.path().join("sock"), base.path().join("link"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let at = |socket: PathBuf| path(base.path(), &Tcti::SwtpmPath(socket), PcrIndex::DEFAULT);
        assert_eq!(at(real), at(link));
    }
}
