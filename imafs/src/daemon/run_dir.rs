//! Which mounts are running: `<run dir>/mounts/<ns-id>.json`, beside it the socket and the log.
//!
//! A state file appears whole or not at all. The process it names is identified by pid and start time, so a file
//! left behind by a killed process is known to be stale even when its pid has a new owner.
//!
//! All that bears an id belongs to whoever holds the lock on `<ns-id>.lock`, from before anything is made until after it is
//! removed. The lock's file goes with it, so whoever has locked one looks whether that is still the one under the name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long a process that is beginning or ending may hold an id: a swtpm of its own writes its state at the end.
const PATIENCE: Duration = Duration::from_secs(6);

/// What one running mount leaves for other commands to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// The mount's name on this host.
    pub ns_id: String,
    /// The serving process.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
    /// What is served, for people.
    pub source: String,
    /// Where, as `mountinfo` has it; bytes that are not UTF-8 replaced.
    pub target: String,
    /// The policy's name or file.
    pub policy: String,
    /// The appraisal mode.
    pub appraise: String,
    /// When the mount became ready, seconds since the epoch.
    pub since: u64,
    /// The program's version.
    pub version: String,
}

impl State {
    /// Whether the process it names still runs.
    pub fn is_running(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// When a process started, in clock ticks since boot; `None` when there is no such process.
///
/// Source: proc_pid_stat(5), field 22. The name in field 2 may hold blanks and parentheses.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie serves nothing any more.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The directory of state files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// Why a mount cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// A running mount has this id.
    #[error("a mount with the id {} is running already at {}", .0.ns_id, .0.target)]
    Taken(Box<State>),
    /// A mount with this id begins or ends.
    #[error("a mount with the id {0} begins or ends at this moment")]
    Held(String),
    /// The directory is not for its owner alone.
    #[error("{} is open to others (owner {owner}, mode {mode:04o})", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RunDir {
    /// `$IMAFS_RUN_DIR/mounts`, by default `/run/imafs/mounts`.
    pub fn from_environment() -> Self {
        let base = std::env::var_os("IMAFS_RUN_DIR").filter(|base| !base.is_empty());
        Self::new(&base.map_or_else(|| PathBuf::from("/run/imafs"), PathBuf::from))
    }

    /// The directory under a given base.
    pub fn new(base: &Path) -> Self {
        Self(base.join("mounts"))
    }

    /// The socket on which a mount answers.
    pub fn socket(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.sock"))
    }

    /// The default log of a mount.
    pub fn log(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.log"))
    }

    /// The socket of a swtpm of the mount's own; its control channel is beside it.
    pub fn tpm_socket(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.tpm.sock"))
    }

    /// Where a swtpm of the mount's own keeps its state when nobody has named a directory.
    pub fn tpm_state(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.tpm"))
    }

    /// The directory of a host list.
    pub fn host_list(&self, name: &str) -> PathBuf {
        self.0.with_file_name("tpm").join(name)
    }

    /// The directory of locks of a TPM's registers.
    pub(super) fn registers(&self) -> PathBuf {
        self.0.with_file_name("pcr")
    }

    fn state(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.json"))
    }

    /// Makes the directory, for root alone. The one above it can be passed through: mounts of containers whose root
    /// is mapped to somebody else lie in it as well.
    ///
    /// # Errors
    /// [`RegisterError::Write`]; [`RegisterError::Open`] where one of them belongs to somebody else, or others may write
    /// in it, who could then put sockets and states of their own in the place of ours.
    pub fn prepare(&self) -> Result<(), RegisterError> {
        let make = |path: &Path, mode| {
            let made = DirBuilder::new().recursive(true).mode(mode).create(path);
            made.map_err(|source| RegisterError::Write { path: path.to_owned(), source })
        };
        if let Some(base) = self.0.parent() {
            make(base, 0o711)?;
            closed(base, 0o022)?;
        }
        make(&self.0, 0o700)?;
        closed(&self.0, 0o077)
    }

    /// Every state file, in order of ids; what cannot be read is left out, the directory itself included.
    pub fn all(&self) -> Vec<State> {
        self.list().unwrap_or_default()
    }

    /// Every state file, in order of ids; what cannot be read is left out. Without the directory there are none.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn list(&self) -> io::Result<Vec<State>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let files = entries.flatten().map(|entry| entry.path());
        let states = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut states: Vec<State> = states.filter_map(|path| read(&path)).collect();
        states.sort_by(|a, b| a.ns_id.cmp(&b.ns_id));
        Ok(states)
    }

    /// The mount at a target, or with this id.
    pub fn find(&self, target_or_id: &Path) -> Option<State> {
        let resolved = super::mounts::resolve(target_or_id).ok();
        let target = resolved.as_deref().unwrap_or(target_or_id).to_string_lossy();
        let states = self.all();
        // A new mount over a dead one at the same place is the one that is meant.
        let at = states.iter().filter(|state| state.target == target).max_by_key(|state| state.is_running());
        let named = || states.iter().find(|state| Path::new(&state.ns_id) == target_or_id);
        at.or_else(named).cloned()
    }

    /// Takes an id for this process, and forgets a dead mount that had it.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn claim(&self, ns_id: &str) -> Result<Claimed, RegisterError> {
        self.prepare()?;
        let path = self.lock_file(ns_id);
        let until = Instant::now() + PATIENCE;
        loop {
            let lock = lock(&path).map_err(|source| RegisterError::Write { path: path.clone(), source })?;
            let running = read(&self.state(ns_id)).filter(State::is_running);
            match (lock, running) {
                (_, Some(state)) => return Err(RegisterError::Taken(Box::new(state))),
                (Some(lock), None) => {
                    self.forget(ns_id);
                    return Ok(Claimed { run_dir: self.clone(), ns_id: ns_id.to_owned(), _lock: lock });
                }
                (None, None) if Instant::now() > until => return Err(RegisterError::Held(ns_id.to_owned())),
                (None, None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Removes what a mount left that was killed: what [`RunDir::forget`] removes, and its TPM. Nothing, when the id is
    /// somebody else's by now.
    pub fn clear(&self, ns_id: &str) {
        let Ok(Some(lock)) = lock(&self.lock_file(ns_id)) else { return };
        let claimed = Claimed { run_dir: self.clone(), ns_id: ns_id.to_owned(), _lock: lock };
        self.forget(ns_id);
        let socket = self.tpm_socket(ns_id);
        // Most mounts have none of them.
        let _none = fs::remove_file(socket.with_extension("sock.ctrl"));
        let _none = fs::remove_file(socket);
        let _none = fs::remove_dir_all(self.tpm_state(ns_id));
        drop(claimed);
    }

    fn lock_file(&self, ns_id: &str) -> PathBuf {
        self.0.join(format!("{ns_id}.lock"))
    }

    /// Removes what a mount left, its log excepted.
    pub fn forget(&self, ns_id: &str) {
        for path in [self.state(ns_id), self.socket(ns_id)] {
            // Already gone is as good.
            let _gone = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes sure that a directory is one, that it is ours, and that others have none of these permissions.
fn closed(path: &Path, forbidden: u32) -> Result<(), RegisterError> {
    let failed = |source| RegisterError::Write { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() || mode & forbidden != 0 {
        return Err(RegisterError::Open { path: path.to_owned(), owner, mode });
    }
    Ok(())
}

/// Locks the file under this name; `None` when somebody else has it, or has just removed it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let ours = file.metadata()?.ino();
    Ok(fs::symlink_metadata(path).is_ok_and(|found| found.ino() == ours).then_some(file))
}

/// An id that is this process's. To be dropped after all that bears it.
#[derive(Debug)]
pub struct Claimed {
    run_dir: RunDir,
    ns_id: String,
    _lock: File,
}

impl Claimed {
    /// Writes the state file, which appears at once and whole.
    ///
    /// # Errors
    /// [`RegisterError::Write`].
    pub fn register(&self, state: &State) -> Result<Registered, RegisterError> {
        let path = self.run_dir.state(&self.ns_id);
        let draft = self.run_dir.0.join(format!(".{}", self.ns_id));
        let text = serde_json::to_vec(state).map_err(io::Error::from);
        let written = text.and_then(|text| fs::write(&draft, text)).and_then(|()| fs::rename(&draft, &path));
        match written {
            Ok(()) => Ok(Registered { run_dir: self.run_dir.clone(), ns_id: self.ns_id.clone() }),
            Err(source) => Err(RegisterError::Write { path, source }),
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // While it is still locked; one that stays harms nobody.
        let _gone = fs::remove_file(self.run_dir.lock_file(&self.ns_id));
    }
}

/// A registered mount; dropping it removes state file and socket.
#[derive(Debug)]
pub struct Registered {
    run_dir: RunDir,
    ns_id: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.run_dir.forget(&self.ns_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(ns_id: &str, pid: u32, start_time: u64) -> State {
        State {
            ns_id: ns_id.into(),
            pid,
            start_time,
            source: "/s".into(),
            target: format!("/t/{ns_id}"),
            policy: "exec".into(),
            appraise: "enforce".into(),
            since: 1,
            version: "0".into(),
        }
    }

    fn mine(ns_id: &str) -> State {
        let pid = std::process::id();
        state(ns_id, pid, start_time(pid).unwrap())
    }

    #[test]
    fn a_registered_mount_is_found_by_target_and_by_id_until_it_is_dropped() {
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        let claimed = run_dir.claim("web").unwrap();
        let registered = claimed.register(&mine("web")).unwrap();
        assert_eq!(run_dir.all(), [mine("web")]);
        assert_eq!(run_dir.find(Path::new("/t/web")), Some(mine("web")));
        assert_eq!(run_dir.find(Path::new("web")), Some(mine("web")));
        assert_eq!(run_dir.find(Path::new("/t/other")), None);
        drop(registered);
        assert_eq!(run_dir.all(), []);
        drop(claimed);
        assert_eq!(fs::read_dir(base.path().join("mounts")).unwrap().count(), 0);
    }

    #[test]
    fn an_id_in_use_is_refused_and_a_dead_ones_is_taken_over() {
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        let first = run_dir.claim("web").unwrap();
        let registered = first.register(&mine("web")).unwrap();
        assert!(matches!(run_dir.claim("web"), Err(RegisterError::Taken(_))));
        assert!(run_dir.claim("mail").is_ok());
        drop((registered, first));
        // Same pid, another start time: the pid has a new owner.
        let mut dead = mine("web");
        dead.start_time += 1;
        assert!(!dead.is_running());
        let claimed = run_dir.claim("web").unwrap();
        std::mem::forget(claimed.register(&dead).unwrap());
        drop(claimed);
        assert!(run_dir.claim("web").is_ok());
    }

    #[test]
    fn what_bears_an_id_is_its_holders_alone() {
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        let left = || {
            fs::create_dir_all(run_dir.tpm_state("web")).unwrap();
            fs::write(run_dir.tpm_socket("web"), "").unwrap();
        };
        // It is beginning: nothing names it yet.
        let claimed = run_dir.claim("web").unwrap();
        left();
        run_dir.clear("web");
        assert!(run_dir.tpm_socket("web").exists() && run_dir.tpm_state("web").exists());
        assert!(matches!(run_dir.claim("web"), Err(RegisterError::Held(_))));
        drop(claimed);
        run_dir.clear("web");
        assert_eq!(fs::read_dir(base.path().join("mounts")).unwrap().count(), 0);
        // One that waits for a lock whose file goes away takes the new one.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let claimed = run_dir.claim("web").unwrap();
                        let path = run_dir.tpm_state("web");
                        fs::create_dir(&path).unwrap();
                        fs::remove_dir(&path).unwrap();
                        drop(claimed);
                    }
                });
            }
        });
    }

    #[test]
    fn the_directory_is_for_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        run_dir.prepare().unwrap();
        let mounts = base.path().join("mounts");
        assert_eq!(fs::metadata(&mounts).unwrap().permissions().mode() & 0o777, 0o700);
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (path, good, bad) in [(base.path(), 0o711, 0o777), (&mounts, 0o700, 0o701)] {
            set(path, bad);
            let refused = run_dir.claim("web").unwrap_err();
            assert!(
                matches!(&refused, RegisterError::Open { path: found, .. } if found == path),
                "{refused:?}"
            );
            set(path, good);
            run_dir.prepare().unwrap();
        }
        fs::rename(&mounts, base.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &mounts).unwrap();
        assert!(matches!(run_dir.prepare(), Err(RegisterError::Write { .. })), "a link is followed");
    }
}
