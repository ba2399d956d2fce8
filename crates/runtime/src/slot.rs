//! One container's place under the run directory, and what is written there so that nothing is ever left behind.
//!
//! What will be done is written before it is done, so whoever finds a slot that nobody holds and whose container the
//! real runtime does not know can undo it. The lock is a file lock and ends with the process that took it, however that
//! ends.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The run directory of `imafs`, where `$IMAFS_RUN_DIR` does not say another.
const RUN_DIR: &str = "/run/imafs";

/// What has been, or is about to be, done for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The real runtime's `--root`.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// `root.path` as the engine wrote it.
    pub root_path: PathBuf,
    /// The mount's name on the host.
    pub ns_id: String,
    /// The profile it was mounted with.
    pub profile: String,
    /// The program that mounted it.
    pub imafs: PathBuf,
    /// The real runtime, and its options before the command.
    pub runtime: PathBuf,
    /// See there.
    pub globals: Vec<String>,
    /// Whether the real runtime has said that the container is there. Until then the engine takes it for a failure when
    /// we die, and will never delete what there may be.
    pub created: bool,
    /// The boot it was done in.
    pub boot: String,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Nothing has been done.
    Nothing,
    /// This has been done, or was about to be.
    State(Box<State>),
    /// Something that is no state: written by another version, or damaged.
    Unreadable,
}

/// This boot's name; empty where the kernel does not tell.
pub(crate) fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl State {
    /// Whether the real runtime still knows the container: runc and crun keep a directory for each.
    pub(crate) fn is_known(&self) -> bool {
        self.root.join(&self.id).exists()
    }

    /// Whether an engine still counts on the container. Asked of a slot that nobody holds. An engine that has given up a
    /// container, because the shim between it and us was killed, says so to nobody, but it has removed the bundle.
    pub(crate) fn is_alive(&self) -> bool {
        let has_bundle = self.bundle.join("config.json").exists();
        self.created && self.is_known() && has_bundle && self.boot == boot()
    }
}

/// All slots.
#[derive(Debug, Clone)]
pub(crate) struct Slots(PathBuf);

/// A slot that this process alone may change, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    directory: PathBuf,
    _lock: File,
}

impl Slots {
    pub(crate) fn from_environment() -> Self {
        let base = std::env::var_os("IMAFS_RUN_DIR").filter(|base| !base.is_empty());
        Self(base.map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from).join("runtime"))
    }

    fn directory(&self, root: &Path, id: &str) -> PathBuf {
        self.0.join(format!("{}{id}", prefix(root)))
    }

    /// Takes a container's slot, making it if there is none. Waits for whoever holds it.
    pub(crate) fn take(&self, root: &Path, id: &str) -> Result<Slot, Error> {
        let directory = self.directory(root, id);
        let made = DirBuilder::new().recursive(true).mode(0o711).create(&directory);
        made.and_then(|()| self.open_the_way()).map_err(failed("make", &directory))?;
        let lock =
            Self::lock(&directory, FlockOperation::LockExclusive).map_err(failed("lock", &directory))?;
        match lock {
            Some(slot) => Ok(slot),
            // It was removed while we waited: the next one is ours to make.
            None => self.take(root, id),
        }
    }

    /// Lets the ids that a user namespace maps root to pass through to their mount, also where the run directory was
    /// made for root alone.
    fn open_the_way(&self) -> io::Result<()> {
        for directory in [Some(self.0.as_path()), self.0.parent()].into_iter().flatten() {
            let permissions = std::fs::metadata(directory)?.permissions();
            if permissions.mode() & 0o011 != 0o011 {
                let passable = Permissions::from_mode(permissions.mode() & 0o7777 | 0o011);
                std::fs::set_permissions(directory, passable)?;
            }
        }
        Ok(())
    }

    /// Whether a container has a slot.
    pub(crate) fn has(&self, root: &Path, id: &str) -> bool {
        self.directory(root, id).exists()
    }

    /// Takes a container's slot if there is one.
    pub(crate) fn existing(&self, root: &Path, id: &str) -> Result<Option<Slot>, Error> {
        let directory = self.directory(root, id);
        if !directory.exists() {
            return Ok(None);
        }
        Self::lock(&directory, FlockOperation::LockExclusive).map_err(failed("lock", &directory))
    }

    /// Every slot that nobody holds.
    pub(crate) fn idle(&self) -> Vec<Slot> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                Self::lock(&entry.path(), FlockOperation::NonBlockingLockExclusive).ok().flatten()
            })
            .collect()
    }

    /// `None` when the slot was removed before we had it.
    fn lock(directory: &Path, how: FlockOperation) -> io::Result<Option<Slot>> {
        let path = directory.join("lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = match opened {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        flock(&lock, how)?;
        let held = lock.metadata()?;
        let same = std::fs::metadata(&path)
            .is_ok_and(|there| there.ino() == held.ino() && there.dev() == held.dev());
        Ok(same.then(|| Slot { directory: directory.to_owned(), _lock: lock }))
    }
}

impl Slot {
    /// Where imafs is to be mounted.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// The container, if it is one of this root; by the slot's name, whatever is written in it.
    pub(crate) fn container_of(&self, root: &Path) -> Option<String> {
        self.directory.file_name()?.to_str()?.strip_prefix(&prefix(root)).map(str::to_owned)
    }

    /// What is written there.
    pub(crate) fn record(&self) -> Record {
        match std::fs::read(self.directory.join("state")) {
            Ok(text) => serde_json::from_slice(&text)
                .map_or(Record::Unreadable, |state| Record::State(Box::new(state))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::Nothing,
            Err(_) => Record::Unreadable,
        }
    }

    /// Writes what is about to be done, and makes the mount point.
    pub(crate) fn prepare(&self, state: &State) -> Result<(), Error> {
        self.write(state)?;
        let rootfs = self.rootfs();
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&rootfs);
        made.map_err(failed("make", &rootfs))
    }

    /// Writes what has been done.
    pub(crate) fn write(&self, state: &State) -> Result<(), Error> {
        let path = self.directory.join("state");
        let text = serde_json::to_vec(state).map_err(io::Error::from);
        let draft = self.directory.join("state.new");
        text.and_then(|text| std::fs::write(&draft, text))
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(failed("write", &path))
    }

    /// Removes the slot. What is mounted in it must have been unmounted: only empty directories are removed.
    pub(crate) fn remove(self) -> Result<(), Error> {
        for result in [
            std::fs::remove_dir(self.rootfs()),
            std::fs::remove_file(self.directory.join("state")),
            std::fs::remove_file(self.directory.join("state.new")),
            // The lock goes last but one: whoever waits for it finds it gone and begins anew.
            std::fs::remove_file(self.directory.join("lock")),
            std::fs::remove_dir(&self.directory),
        ] {
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Another process has made its lock in the meantime: the slot is its own now.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(failed("remove", &self.directory)(error)),
            }
        }
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Slot { action, path, source }
}

/// What the names of all slots of one root begin with.
fn prefix(root: &Path) -> String {
    let digest = hex::encode(Sha256::digest(root.as_os_str().as_bytes()));
    format!("{}-", digest.get(..12).unwrap_or(&digest))
}

/// A mount's name for a container. Engines draw their ids, and those are names already; an id that somebody has chosen
/// may be long, and another engine, or another namespace of containerd, may have one like it.
pub(crate) fn default_ns_id(root: &Path, id: &str) -> String {
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return id.to_owned();
    }
    let whole = [root.as_os_str().as_bytes(), b"\0", id.as_bytes()].concat();
    let digest = hex::encode(Sha256::digest(whole));
    let readable = id.trim_start_matches('.').chars().filter(|c| *c != '+').take(51);
    readable.chain(['-']).chain(digest.chars().take(12)).collect()
}

/// Whether a text can be a container's id, by runc's own rule.
///
/// Source: `validateID`, libcontainer/factory_linux.go, runc 1.1.
pub(crate) fn is_id(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    !text.is_empty() && text != "." && text != ".." && text.len() <= 255 - 13 && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(root: &Path) -> State {
        State {
            root: root.to_owned(),
            id: "c1".into(),
            bundle: "/b".into(),
            root_path: "rootfs".into(),
            ns_id: "c1".into(),
            profile: "web".into(),
            imafs: "imafs".into(),
            runtime: "runc".into(),
            globals: Vec::new(),
            created: true,
            boot: boot(),
        }
    }

    fn state_of(slot: &Slot) -> State {
        match slot.record() {
            Record::State(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slot_is_held_by_one_and_found_again_by_the_next() {
        let base = tempfile::tempdir().unwrap();
        let slots = Slots(base.path().join("runtime"));
        let root = base.path().join("runc");
        assert!(slots.existing(&root, "c1").unwrap().is_none());
        let slot = slots.take(&root, "c1").unwrap();
        assert_eq!(slot.container_of(&root).as_deref(), Some("c1"));
        assert_eq!(slot.container_of(Path::new("/another")), None);
        slot.prepare(&state(&root)).unwrap();
        assert!(slots.idle().is_empty(), "a held slot is not idle");
        drop(slot);
        let idle = slots.idle();
        assert_eq!(idle.len(), 1);
        assert_eq!(state_of(&idle[0]), state(&root));
        assert!(!state_of(&idle[0]).is_known());
    }

    #[test]
    fn a_state_of_another_version_is_not_taken_for_none() {
        let base = tempfile::tempdir().unwrap();
        let slot = Slots(base.path().join("runtime")).take(Path::new("/r"), "c1").unwrap();
        assert_eq!(slot.record(), Record::Nothing);
        for text in ["", "{}", "{\"root\":\"/r\",\"id\":\"c1\"}", "\0\0\0"] {
            std::fs::write(slot.directory.join("state"), text).unwrap();
            assert_eq!(slot.record(), Record::Unreadable, "{text:?}");
        }
    }

    #[test]
    fn nothing_of_another_boot_is_alive() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("c1")).unwrap();
        std::fs::write(base.path().join("config.json"), "{}").unwrap();
        let now = State { bundle: base.path().into(), ..state(base.path()) };
        assert!(now.is_alive());
        assert!(!State { bundle: base.path().join("gone"), ..now.clone() }.is_alive());
        assert!(!State { boot: "another".into(), ..now.clone() }.is_alive());
        assert!(!State { created: false, ..now }.is_alive());
    }

    #[test]
    fn a_removed_slot_leaves_nothing_and_whoever_waited_gets_a_new_one() {
        let base = tempfile::tempdir().unwrap();
        let slots = Slots(base.path().join("runtime"));
        let root = PathBuf::from("/r");
        let slot = slots.take(&root, "c1").unwrap();
        slot.prepare(&state(&root)).unwrap();
        let waiting = std::thread::spawn({
            let (slots, root) = (slots.clone(), root.clone());
            move || slots.take(&root, "c1").unwrap().record()
        });
        slot.remove().unwrap();
        assert_eq!(waiting.join().unwrap(), Record::Nothing);
        for slot in slots.idle() {
            slot.remove().unwrap();
        }
        assert_eq!(std::fs::read_dir(base.path().join("runtime")).unwrap().count(), 0);
    }

    #[test]
    fn two_engines_may_use_one_id() {
        let slots = Slots("/x".into());
        assert_ne!(slots.directory(Path::new("/a"), "c"), slots.directory(Path::new("/b"), "c"));
    }

    #[test]
    fn a_mount_has_a_name_of_its_own_that_imafs_takes() {
        let name = |root: &str, id: &str| default_ns_id(Path::new(root), id);
        let drawn = "005d9c41914e25c06a66557cf0d5aebf9747f4245745615ff0d808382dc0f99c";
        assert_eq!(name("/r", drawn), drawn);
        assert!(name("/r", "web").starts_with("web-"));
        assert_eq!(name("/r", "web"), name("/r", "web"));
        assert_ne!(name("/r", "web"), name("/other", "web"));
        assert_ne!(name("/r", "a+b"), name("/r", "ab"));
        for id in ["a+b".to_owned(), "x".repeat(242), "...a".to_owned(), "...".to_owned(), "_-.".to_owned()] {
            let name = name("/r", &id);
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            assert!(name.len() <= 64 && name.chars().all(good) && !name.starts_with('.'), "{name}");
        }
    }

    #[test]
    fn an_id_is_a_name_and_never_a_path() {
        for (id, good) in
            [("a", true), ("a.b-c_d+1", true), ("..", false), (".", false), ("a/b", false), ("", false)]
        {
            assert_eq!(is_id(id), good, "{id}");
        }
    }
}
