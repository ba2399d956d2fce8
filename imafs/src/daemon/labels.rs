//! The store of labels that a mount asks for; a manifest is read, checked and found fresh here, once.
//!
//! What is checked, in which order and why: `docs/manifest.md`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use appraise::Labels;
use keyring::{Keyring, VerifyError};
use manifest::{Envelope, Header, LARGEST, Manifest};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::config::{ImageName, LabelChoice, MountConfig};
use crate::failure::{Failure, chain};
use crate::fs::MANIFEST_NAME;

use super::serials::{Serials, Served};
use super::system::plain;

/// Finds the labels of a mount of the tree at `root`.
///
/// # Errors
/// With a manifest: when it cannot be read, or is not to be believed as a whole. Nothing else is tried then.
pub(super) fn open(
    config: &MountConfig,
    root: BorrowedFd<'_>,
    ring: &Arc<Keyring>,
) -> Result<Labels, Failure> {
    let (file, image, serial) = match &config.labels {
        LabelChoice::Xattr => return Ok(Labels::in_security_ima()),
        LabelChoice::User => return Ok(Labels::in_user_attribute()),
        LabelChoice::Manifest { file, image, serial } => (file.as_deref(), image.as_ref(), *serial),
    };
    let name = match file {
        Some(file) => file.display().to_string(),
        None => format!("{} in {}", String::from_utf8_lossy(MANIFEST_NAME), config.source),
    };
    let bytes = read(file, root).map_err(|error| {
        Failure::cannot(format!("read manifest {name}"), plain(&error))
            .advise("make one with 'imafs-sign manifest', or name one with --manifest")
    })?;
    let manifest = believe(bytes, ring, image, serial).map_err(|refusal| refusal.of(&name))?;
    let refused = |error: VerifyError| Refusal::Signature(error).of(&name);
    Labels::in_manifest(manifest, Arc::clone(ring)).map_err(refused)
}

/// Why a manifest is refused, as a whole.
#[derive(Debug)]
enum Refusal {
    Format(manifest::FormatError),
    Signature(VerifyError),
    Image { found: String, wanted: String },
    Stale { serial: u64, wanted: u64 },
    StaleHere { serial: u64, served: Served },
    Memory { path: String, error: io::Error },
}

impl Refusal {
    fn of(&self, name: &str) -> Failure {
        let refuse = |reason: String| Failure::cannot(format!("use manifest {name}"), reason);
        match self {
            Self::Format(error) => refuse(chain(error)).advise("make it anew with 'imafs-sign manifest'"),
            Self::Signature(error) => refuse(error.to_string()).advise(
                "trust the key that signed it with --key, or sign it anew: it or the manifest was changed",
            ),
            Self::Image { found, wanted } => refuse(format!("it is of image {found}, not of {wanted}"))
                .advise("name the image with --manifest-image as 'imafs-sign manifest show' does"),
            Self::Stale { serial, wanted } => {
                refuse(format!("it is stale: its serial is {serial}, and {wanted} is the lowest allowed"))
                    .advise("--manifest-serial says which is the lowest")
            }
            Self::StaleHere { serial, served } if *serial == served.serial => {
                refuse(format!("another manifest with serial {serial} has been served on this host"))
                    .advise("give each manifest of an image a serial of its own")
            }
            Self::StaleHere { serial, served } => refuse(format!(
                "it is stale: its serial is {serial}, and {} has been served on this host",
                served.serial
            ))
            .advise(format!("to go back on purpose: --manifest-serial {serial}")),
            Self::Memory { path, error } => {
                refuse(format!("cannot keep its serial in {path}: {}", plain(error)))
                    .advise("say which serial is the lowest: --manifest-serial N")
            }
        }
    }
}

/// Checks a manifest from the outside in: nothing in it is looked at before its signature holds.
fn believe(
    bytes: Vec<u8>,
    ring: &Keyring,
    image: Option<&ImageName>,
    serial: Option<u64>,
) -> Result<Manifest, Refusal> {
    let envelope = Envelope::parse(bytes).map_err(Refusal::Format)?;
    let verified = envelope.verify(ring).map_err(Refusal::Signature)?;
    let header = verified.header().clone();
    if let Some(wanted) = image.filter(|wanted| wanted.as_str() != header.image) {
        return Err(Refusal::Image { found: header.image, wanted: wanted.to_string() });
    }
    if let Some(wanted) = serial.filter(|wanted| header.serial < *wanted) {
        return Err(Refusal::Stale { serial: header.serial, wanted });
    }
    let manifest = verified.index().map_err(Refusal::Format)?;
    if serial.is_none() {
        fresh(&header, &manifest)?;
    }
    Ok(manifest)
}

/// Holds a manifest against what this host has served of its image, and has the host remember it.
fn fresh(header: &Header, manifest: &Manifest) -> Result<(), Refusal> {
    let serials = Serials::from_environment();
    let digest = manifest.file_digest().map_or_else(String::new, |digest| digest.to_hex());
    let now = Served { serial: header.serial, digest };
    let memory = |error| Refusal::Memory { path: serials.path(&header.image).display().to_string(), error };
    match serials.advance(&header.image, &now).map_err(memory)? {
        None => Ok(()),
        Some(served) => Err(Refusal::StaleHere { serial: header.serial, served }),
    }
}

/// Reads a manifest from a file of the host, or from the tree that is served.
fn read(file: Option<&Path>, root: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    // NONBLOCK: it may be a fifo, which nobody is to wait for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd: OwnedFd = match file {
        Some(file) => openat(CWD, file, flags, Mode::empty())?,
        None => {
            let name = std::ffi::OsStr::from_bytes(MANIFEST_NAME);
            let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            openat2(root, name, flags | OFlags::NOFOLLOW, Mode::empty(), within)?
        }
    };
    let stat = fstat(fd.as_fd())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    // By another name the container could write it.
    if file.is_none() && stat.st_nlink > 1 {
        return Err(io::Error::other("it has other names in the image"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    File::from(fd).take(most).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST { Err(Errno::FBIG.into()) } else { Ok(bytes) }
}
