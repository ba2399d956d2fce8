//! The list's journal: where it may be, what was made of the one that was there, and what to do when it is refused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use measure::journal::{Identity, OpenError, Outcome, ScanError};
use measure::proof::ProofError;
use measure::{BankError, Journal, List, MeasureError, PcrBank};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::config::{MountConfig, Source};
use crate::failure::{Failure, chain};

use super::mounts::{self, Mount, is_beneath};

/// Overlays on overlays that are looked through: the kernel stacks two.
const DEPTH: usize = 3;

/// Refuses a directory that the container could reach.
///
/// # Errors
/// When it lies in what is served, by whatever path or mount, or beneath the target.
pub(super) fn out_of_reach(directory: &Path, config: &MountConfig) -> Result<(), Failure> {
    let refuse = |reason: &str| {
        Failure::cannot(format!("keep a journal in {}", directory.display()), reason)
            .advise("name a directory that no container sees, such as /var/lib/imafs/NS-ID")
    };
    let path = resolved(directory)
        .map_err(|error| refuse(&super::plain(&error)).advise("the directory above it must be there"))?;
    if is_beneath(&path, &config.target) {
        return Err(refuse("it is beneath the target"));
    }
    let served: Vec<&Path> = match &config.source {
        Source::Directory(source) => vec![source],
        Source::Overlay { lower, upper, work } => {
            lower.iter().chain([upper, work]).map(PathBuf::as_path).collect()
        }
        Source::Stack(layers) => layers.iter().map(PathBuf::as_path).collect(),
    };
    let mounts = mounts::all().map_err(|error| refuse(&super::plain(&error)))?;
    let places = places(&path, &mounts, DEPTH);
    for source in served {
        let source = fs::canonicalize(source).map_err(|error| refuse(&super::plain(&error)))?;
        let theirs = self::places(&source, &mounts, DEPTH);
        let reached = |place: &Place| theirs.iter().any(|their| place.is_in(their));
        if is_beneath(&path, &source) || places.iter().any(reached) {
            return Err(refuse(&format!("it is in {}, which is served", source.display())));
        }
    }
    Ok(())
}

/// The path without links; of a directory that is yet to be made, from the directory above.
fn resolved(directory: &Path) -> std::io::Result<PathBuf> {
    match fs::canonicalize(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
                return Err(error);
            };
            Ok(fs::canonicalize(parent)?.join(name))
        }
        other => other,
    }
}

/// A path within a filesystem, wherever that is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: String,
    path: PathBuf,
}

impl Place {
    fn is_in(&self, other: &Self) -> bool {
        self.device == other.device && is_beneath(&self.path, &other.path)
    }
}

/// Where a path without links really is: in its filesystem, and where that is an overlay in each of the layers.
fn places(path: &Path, mounts: &[Mount], depth: usize) -> Vec<Place> {
    let existing = path.ancestors().find_map(|at| statx(CWD, at, AtFlags::empty(), StatxFlags::MNT_ID).ok());
    let mount = existing.and_then(|stat| mounts.iter().find(|mount| mount.id == stat.stx_mnt_id));
    let Some((mount, rest)) = mount.and_then(|mount| Some((mount, path.strip_prefix(&mount.point).ok()?)))
    else {
        return Vec::new();
    };
    let within = mount.root.join(rest);
    let mut places = Vec::new();
    if mount.kind == "overlay" && depth > 0 {
        let inner = within.strip_prefix("/").unwrap_or(&within);
        for layer in layers(&mount.options) {
            let Ok(layer) = fs::canonicalize(layer) else { continue };
            places.extend(self::places(&layer.join(inner), mounts, depth - 1));
        }
    }
    places.push(Place { device: mount.device.clone(), path: within });
    places
}

/// The directories that an overlay's options name.
fn layers(options: &OsStr) -> Vec<PathBuf> {
    let options = options.as_bytes().split(|byte| *byte == b',');
    let named = options.filter_map(|option| {
        let at = option.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (option.get(..at)?, option.get(at + 1..)?);
        matches!(name, b"lowerdir" | b"lowerdir+" | b"upperdir" | b"datadir+").then_some(value)
    });
    let single = named.flat_map(|value| value.split(|byte| *byte == b':'));
    single.filter(|path| !path.is_empty()).map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
}

/// Opens the journal of a mount, if it has one.
///
/// # Errors
/// When there can be none, with what to do about it.
pub(super) fn open(config: &MountConfig, bank: &dyn PcrBank) -> Result<Option<Journal>, Failure> {
    let Some(directory) = &config.journal else { return Ok(None) };
    let identity = Identity {
        ns_id: config.ns_id.to_string(),
        default_algo: config.hash,
        template: config.template.clone(),
        pcr: config.pcr,
        banks: bank.algos(),
    };
    Journal::open(directory, &identity, bank).map(Some).map_err(|error| refused(directory, &error))
}

fn refused(directory: &Path, error: &OpenError) -> Failure {
    let at = directory.display();
    let failure = Failure::caused(error);
    match error {
        OpenError::Open { .. } => failure.advise(format!("close it: chown root: {at}; chmod 700 {at}")),
        OpenError::Locked { .. } => {
            failure.advise("give each mount a journal of its own; 'imafs ps' lists the mounts")
        }
        OpenError::Scan { source: ScanError::Fault(_), .. } => damaged(failure, directory),
        OpenError::OtherMount { .. } => failure.advise("give each mount a journal of its own"),
        OpenError::OtherOptions { .. } => failure
            .advise("mount with the options the list began with; after a clean unmount others can be used"),
        _ => failure.advise("a directory for root alone is needed, on a disk with space"),
    }
}

/// What to do with a journal that cannot be gone on with: it is evidence, so it is kept.
fn damaged(failure: Failure, directory: &Path) -> Failure {
    let at = directory.display();
    failure
        .advise(format!("see what it holds: imafs journal verify {at}"))
        .advise(format!("to begin a new list keep this one elsewhere: mv {at} {at}.kept"))
}

/// Why the list of a journal does not go on.
pub(super) fn not_continued(directory: &Path, error: &MeasureError) -> Failure {
    let failure = Failure::cannot(format!("use the journal in {}", directory.display()), chain(error));
    match error {
        // The journal is as it was, and so are the registers.
        MeasureError::Proof(ProofError::Bank(bank)) if !matches!(bank, BankError::OtherEntry(_)) => {
            failure.advise("the list is as it was; try again once the cause is gone")
        }
        MeasureError::Scan(_) | MeasureError::Proof(_) => damaged(failure, directory),
        MeasureError::Register { .. } => failure.advise("name a PCR that nobody extends with --pcr"),
        _ => failure.advise("the list is as it was; try again once the cause is gone"),
    }
}

/// Whether the list of a journal that was there goes on: its registers are held against it, and need not be unused.
pub(super) fn goes_on(journal: Option<&Journal>) -> bool {
    let outcome = journal.and_then(Journal::held).map(|held| &held.outcome);
    matches!(outcome, Some(Outcome::Continued))
}

/// Tells what was made of a journal that was there.
pub(super) fn tell(list: &List, notice: &mut dyn FnMut(String)) {
    let Some(journal) = list.journal() else { return };
    if journal.repaired() > 0 {
        notice(format!("cut {} bytes of an unfinished write off the journal", journal.repaired()));
    }
    match journal.held().map(|held| &held.outcome) {
        Some(Outcome::Continued) => notice(format!("the list goes on after {} entries", list.count())),
        Some(Outcome::Archived(path)) => {
            notice(format!("the journal of the last list is kept as {}", path.display()));
        }
        Some(Outcome::New) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    fn config(source: &Path, target: &Path) -> MountConfig {
        let options =
            Options { source: Some(source.into()), target: Some(target.into()), ..Options::default() };
        MountConfig::resolve(options, true).unwrap()
    }

    #[test]
    fn a_journal_in_what_is_served_or_beneath_the_target_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        for name in ["source/deep", "target", "source2"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(base.join("source"), base.join("link")).unwrap();
        let config = config(&base.join("source"), &base.join("target"));
        for inside in ["source", "source/j", "source/deep/j", "link/j", "target", "target/j"] {
            let text = out_of_reach(&base.join(inside), &config).unwrap_err().to_string();
            assert!(text.contains("keep a journal in"), "{text}");
        }
        for outside in ["j", "source2", "source2/j"] {
            out_of_reach(&base.join(outside), &config).unwrap();
        }
        assert!(out_of_reach(&base.join("none/j"), &config).is_err());
    }

    #[test]
    fn a_bind_mount_is_no_way_around() {
        let mount = |id, root: &str, point: &str, kind: &str, options: &str| Mount {
            id,
            device: if kind == "overlay" { "0:9" } else { "8:1" }.to_owned(),
            root: root.into(),
            point: point.into(),
            kind: kind.to_owned(),
            source: "/dev/x".into(),
            options: options.into(),
        };
        // The mount of / itself has the id that statx tells for every path here.
        let id = statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID).unwrap().stx_mnt_id;
        let place = |path: &str| Place { device: "8:1".to_owned(), path: path.into() };
        let bound = [mount(id, "/data/rootfs", "/", "ext4", "rw")];
        assert_eq!(places(Path::new("/none/j"), &bound, DEPTH), [place("/data/rootfs/none/j")]);
        assert!(place("/data/rootfs/none/j").is_in(&place("/data/rootfs")));
        assert!(!place("/data/rootfs2/j").is_in(&place("/data/rootfs")));
        let names = layers(OsStr::new("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w,metacopy=on"));
        assert_eq!(names, [PathBuf::from("/a"), "/b".into(), "/u".into()]);
    }
}
