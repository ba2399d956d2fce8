//! Which mounts are running: `<run dir>/mounts/<ns-id>.json`, beside it the socket and the log.
//!
//! A state file appears whole or not at all. The process it names is identified by pid and start time, so a file
//! left behind by a killed process is known to be stale even when its pid has a new owner.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
    /// [`RegisterError::Write`].
    pub fn prepare(&self) -> Result<(), RegisterError> {
        let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        let above = self.0.parent().map_or(Ok(()), |base| make(base, 0o711));
        let made = above.and_then(|()| make(&self.0, 0o700));
        made.map_err(|source| RegisterError::Write { path: self.0.clone(), source })
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

    /// Fails when a running mount has this id; forgets a dead one.
    ///
    /// # Errors
    /// [`RegisterError::Taken`].
    pub fn claim(&self, ns_id: &str) -> Result<(), RegisterError> {
        match read(&self.state(ns_id)) {
            Some(state) if state.is_running() => Err(RegisterError::Taken(Box::new(state))),
            Some(_) | None => {
                self.forget(ns_id);
                Ok(())
            }
        }
    }

    /// Writes a state file that appears at once and whole; of two that race one loses.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(&self, state: &State) -> Result<Registered, RegisterError> {
        self.prepare()?;
        self.claim(&state.ns_id)?;
        let path = self.state(&state.ns_id);
        let draft = self.0.join(format!(".{}.{}", state.ns_id, std::process::id()));
        let text = serde_json::to_vec(state).map_err(io::Error::from);
        let linked =
            text.and_then(|text| fs::write(&draft, text)).and_then(|()| fs::hard_link(&draft, &path));
        // A draft that was never made or cannot be removed harms nobody: its name is hidden and its own.
        let _leftover = fs::remove_file(&draft);
        match linked {
            Ok(()) => Ok(Registered { run_dir: self.clone(), ns_id: state.ns_id.clone() }),
            Err(source) => {
                self.claim(&state.ns_id)?;
                Err(RegisterError::Write { path, source })
            }
        }
    }

    /// Removes what a mount left that was killed: what [`RunDir::forget`] removes, and its TPM.
    pub fn clear(&self, ns_id: &str) {
        self.forget(ns_id);
        let socket = self.tpm_socket(ns_id);
        // Most mounts have none of them.
        let _none = fs::remove_file(socket.with_extension("sock.ctrl"));
        let _none = fs::remove_file(socket);
        let _none = fs::remove_dir_all(self.tpm_state(ns_id));
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
        let registered = run_dir.register(&mine("web")).unwrap();
        assert_eq!(run_dir.all(), [mine("web")]);
        assert_eq!(run_dir.find(Path::new("/t/web")), Some(mine("web")));
        assert_eq!(run_dir.find(Path::new("web")), Some(mine("web")));
        assert_eq!(run_dir.find(Path::new("/t/other")), None);
        drop(registered);
        assert_eq!(run_dir.all(), []);
    }

    #[test]
    fn an_id_in_use_is_refused_and_a_dead_ones_is_taken_over() {
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        let first = run_dir.register(&mine("web")).unwrap();
        assert!(matches!(run_dir.register(&mine("web")), Err(RegisterError::Taken(_))));
        drop(first);
        // Same pid, another start time: the pid has a new owner.
        let mut dead = mine("web");
        dead.start_time += 1;
        assert!(!dead.is_running());
        std::mem::forget(run_dir.register(&dead).unwrap());
        assert!(run_dir.register(&mine("web")).is_ok());
    }

    #[test]
    fn the_directory_is_for_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(base.path());
        run_dir.prepare().unwrap();
        let mode = fs::metadata(base.path().join("mounts")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
