//! Opening what is served, and what the monitor must know of the filesystem it is on.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use monitor::BackingFacts;
use rustix::fs::{AtFlags, CWD, StatxFlags, fstatfs, statx};

use crate::config::{MountConfig, Source};
use crate::failure::Failure;
use crate::fs::Backing;

use super::mounts::{self, Mount};

/// Opens the source of a mount.
///
/// # Errors
/// When it cannot be opened or its layers cannot be stacked.
pub(super) fn open(config: &MountConfig) -> Result<Backing, Failure> {
    let failed = |error| {
        let advice = match &config.source {
            Source::Directory(_) => "the source must be a directory on a mounted filesystem",
            Source::Overlay { .. } | Source::Stack(_) => "the kernel log says more: dmesg | tail",
        };
        Failure::caused(&error).advise(advice)
    };
    match &config.source {
        Source::Directory(source) => Backing::directory(source, config.read_only).map_err(failed),
        Source::Overlay { lower, upper, work } => {
            Backing::overlay(lower, upper, work, config.read_only).map_err(failed)
        }
        Source::Stack(layers) => Backing::stack(layers).map_err(failed),
    }
}

/// Finds out what policy conditions on filesystems are held against.
pub fn facts(source: &Source, root: BorrowedFd<'_>) -> BackingFacts {
    let magic = fstatfs(root).map_or(0, |stat| stat.f_type.cast_unsigned());
    let without_device = |name: &str| BackingFacts {
        magic,
        name: name.to_owned(),
        subtype: None,
        uuid: [0; 16],
        device: name.to_owned(),
    };
    let path = match source {
        Source::Directory(path) => path,
        Source::Overlay { .. } | Source::Stack(_) => return without_device("overlay"),
    };
    let Some(mount) = mount_of(path) else { return without_device("unknown") };
    let (name, subtype) = match mount.kind.split_once('.') {
        Some((name, subtype)) => (name.to_owned(), Some(subtype.to_owned())),
        None => (mount.kind.clone(), None),
    };
    let block = block_device(&mount.device);
    let uuid = sys::superblock::uuid(root).ok().or_else(|| block.as_deref().and_then(uuid_of));
    let uuid = uuid.unwrap_or_default();
    let device = block.unwrap_or_else(|| name.clone());
    BackingFacts { magic, name, subtype, uuid, device }
}

/// The mount that a path lies on.
fn mount_of(path: &Path) -> Option<Mount> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    mounts::all().ok()?.into_iter().find(|mount| mount.id == stat.stx_mnt_id)
}

/// The name of a block device, `vda` of `254:0`; `None` for a filesystem without one.
fn block_device(number: &str) -> Option<String> {
    let link = fs::read_link(format!("/sys/dev/block/{number}")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// The filesystem UUID that udev found on a device, for kernels before 6.9, which do not tell it.
fn uuid_of(device: &str) -> Option<[u8; 16]> {
    let names = fs::read_dir("/dev/disk/by-uuid").ok()?.flatten();
    let found = names.into_iter().find(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.file_name().is_some_and(|name| name == device))
    })?;
    let digits: String = found.file_name().to_str()?.chars().filter(|c| *c != '-').collect();
    hex::decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_filesystem_is_known_by_its_magic_and_its_name() {
        let proc = fs::File::open("/proc").unwrap();
        let facts = facts(&Source::Directory("/proc".into()), proc.as_fd());
        // PROC_SUPER_MAGIC; a filesystem without a device is named by its type in records.
        assert_eq!((facts.magic, facts.name.as_str(), facts.device.as_str()), (0x9fa0, "proc", "proc"));
    }
}
