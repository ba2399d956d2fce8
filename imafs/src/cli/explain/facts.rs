//! What rules are held against: taken from options, from a real file, or assumed; and which of these it was.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use clap::Args;
use ima::{Digest, HashAlgo, Hasher};
use policy::{Object, Subject, SubjectIds, SubjectUnknown};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};

use crate::config::Source;
use crate::daemon::{backing_facts, plain};

use super::Failure;

/// The facts that can be given.
#[derive(Debug, Args)]
pub(super) struct FactArgs {
    /// Real user id of who acts
    #[arg(long, value_name = "ID", default_value_t = 0)]
    uid: u32,
    /// Effective user id; without it the real one
    #[arg(long, value_name = "ID")]
    euid: Option<u32>,
    /// Saved user id; without it the effective one
    #[arg(long, value_name = "ID")]
    suid: Option<u32>,
    /// Real group id of who acts
    #[arg(long, value_name = "ID", default_value_t = 0)]
    gid: u32,
    /// Effective group id; without it the real one
    #[arg(long, value_name = "ID")]
    egid: Option<u32>,
    /// Saved group id; without it the effective one
    #[arg(long, value_name = "ID")]
    sgid: Option<u32>,
    /// Whether who acts has CAP_SETUID and CAP_SETGID; without it, whether the effective user is root
    #[arg(long, value_name = "true|false")]
    setid: Option<bool>,
    /// Owner of the file
    #[arg(long, value_name = "ID")]
    fowner: Option<u32>,
    /// Group of the file
    #[arg(long, value_name = "ID")]
    fgroup: Option<u32>,
    /// Magic number of the filesystem, in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = magic)]
    fsmagic: Option<u64>,
    /// Type of the filesystem, such as ext4
    #[arg(long, value_name = "NAME")]
    fsname: Option<String>,
    /// Subtype of a FUSE filesystem
    #[arg(long, value_name = "NAME")]
    fs_subtype: Option<String>,
    /// UUID of the filesystem
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    fsuuid: Option<[u8; 16]>,
    /// Digest of the content, for rules with digest=
    #[arg(long, value_name = "ALGO:HEX")]
    digest: Option<Digest>,
}

/// Where a fact is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// An option.
    Given,
    /// The file.
    File,
    /// There is no file, and this is usual.
    Assumed,
}

/// A fact, and where it is from.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Fact<T> {
    pub value: T,
    pub from: Origin,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Facts {
    pub subject: Known,
    pub owner: Fact<u32>,
    pub group: Fact<u32>,
    pub fsmagic: Fact<u64>,
    pub fsname: Fact<String>,
    pub fs_subtype: Fact<Option<String>>,
    pub fsuuid: Fact<[u8; 16]>,
    /// As given; what the file has is computed when a rule asks.
    pub digest: Option<Digest>,
    file: Option<Found>,
}

/// A subject whose ids are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known(pub SubjectIds);

impl Subject for Known {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        Ok(self.0)
    }
}

/// A real file, held by a descriptor that reads nothing.
#[derive(Debug)]
struct Found {
    handle: OwnedFd,
    stat: Stat,
    path: PathBuf,
}

impl Found {
    /// The file at `path` under `root`; none where nothing is. Links cannot lead out of the root.
    fn open(root: &Path, path: &Path) -> Result<Option<Self>, Failure> {
        let cannot = |what: &Path, error: rustix::io::Errno| {
            Failure::cannot(format!("look at {}", what.display()), plain(&error.into()))
        };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = rustix::fs::open(root, directory, Mode::empty())
            .map_err(|error| cannot(root, error).advise("--root names the directory that is mounted"))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let shown = root.join(path.strip_prefix("/").unwrap_or(path));
        match openat2(base.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(handle) => {
                let stat = fstat(&handle).map_err(|error| cannot(&shown, error))?;
                Ok(Some(Self { handle, stat, path: shown }))
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(cannot(&shown, error)),
        }
    }

    fn link(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// Opens the file for reading; none for what is not a regular file or directory, which opening could disturb.
    fn reopen(&self) -> rustix::io::Result<Option<OwnedFd>> {
        match FileType::from_raw_mode(self.stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                rustix::fs::openat(CWD, self.link(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What the filesystem it is on says of itself.
    fn filesystem(&self) -> monitor::BackingFacts {
        let readable = self.reopen().ok().flatten();
        let handle = readable.as_ref().map_or(self.handle.as_fd(), |readable| readable.as_fd());
        backing_facts(&Source::Directory(self.link()), handle)
    }
}

impl Facts {
    /// Takes what is given, the rest from the file, and what is left from the usual.
    pub(super) fn gather(args: &FactArgs, root: &Path, path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(|path| Found::open(root, path)).transpose()?.flatten();
        let stat = file.as_ref().map(|file| file.stat);
        let system = file.as_ref().map(Found::filesystem);
        let system = system.as_ref();
        Ok(Self {
            subject: Known(ids(args)),
            owner: fact(args.fowner, stat.map(|stat| stat.st_uid), 0),
            group: fact(args.fgroup, stat.map(|stat| stat.st_gid), 0),
            fsmagic: fact(args.fsmagic, system.map(|system| system.magic), 0xef53),
            fsname: fact(args.fsname.clone(), system.map(|system| system.name.clone()), "ext4".to_owned()),
            fs_subtype: fact(
                args.fs_subtype.clone().map(Some),
                system.map(|system| system.subtype.clone()),
                None,
            ),
            fsuuid: fact(args.fsuuid, system.map(|system| system.uuid), [0; 16]),
            digest: args.digest,
            file,
        })
    }

    /// The object that rules look at.
    pub(super) fn object<'a>(&'a self, path: &'a [u8]) -> Object<'a> {
        Object {
            fsmagic: self.fsmagic.value,
            fsname: &self.fsname.value,
            fs_subtype: self.fs_subtype.value.as_deref(),
            fsuuid: self.fsuuid.value,
            owner: self.owner.value,
            group: self.group.value,
            path,
        }
    }

    /// The digest of the real file's content; none where there is no regular file.
    pub(super) fn digest_of_file(&self, algo: HashAlgo) -> Result<Option<Digest>, Failure> {
        let Some(found) = &self.file else { return Ok(None) };
        if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let cannot = |reason: String| Failure::cannot(format!("read {}", found.path.display()), reason);
        let Some(file) = found.reopen().map_err(|error| cannot(plain(&error.into())))? else {
            return Ok(None);
        };
        let mut hasher = Hasher::new(algo).map_err(|error| cannot(error.to_string()))?;
        let mut file = File::from(file);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut buffer).map_err(|error| cannot(plain(&error)))?;
            if count == 0 {
                return Ok(Some(hasher.finish()));
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }
}

fn fact<T>(given: Option<T>, of_file: Option<T>, usual: T) -> Fact<T> {
    match (given, of_file) {
        (Some(value), _) => Fact { value, from: Origin::Given },
        (None, Some(value)) => Fact { value, from: Origin::File },
        (None, None) => Fact { value: usual, from: Origin::Assumed },
    }
}

fn ids(args: &FactArgs) -> SubjectIds {
    let euid = args.euid.unwrap_or(args.uid);
    let egid = args.egid.unwrap_or(args.gid);
    let may_change = args.setid.unwrap_or(euid == 0);
    SubjectIds {
        uid: args.uid,
        euid,
        suid: args.suid.unwrap_or(euid),
        gid: args.gid,
        egid,
        sgid: args.sgid.unwrap_or(egid),
        cap_setuid: may_change,
        cap_setgid: may_change,
    }
}

fn magic(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| "expected a hexadecimal number such as 0xef53".to_owned())
}

fn uuid(text: &str) -> Result<[u8; 16], String> {
    let dashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-').map(|(at, _)| at);
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let bytes = hex::decode(digits).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes
        .filter(|_| dashes.eq([8, 13, 18, 23]))
        .ok_or_else(|| "expected a UUID of 8-4-4-4-12 hexadecimal digits".to_owned())
}
