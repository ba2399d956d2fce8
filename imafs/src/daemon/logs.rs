//! The log of a mount in the background, and what stays of it.
//!
//! A log that was named is its owner's. The default one lies in the run directory, in memory, and hosts come to many
//! mounts in a day: one that tells of nothing but an orderly life goes with its mount. The others stay for whoever
//! wants to know why, the last of them and for some days.

use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::MountConfig;
use crate::failure::Failure;

use super::run_dir::RunDir;
use super::system::plain;

/// How many logs of mounts that are gone are kept.
const MOST: usize = 32;

/// How long.
const AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Levels at which nothing is told that anybody has to know.
const QUIET: [&str; 3] = [" INFO ", " DEBUG ", " TRACE "];

/// The open log of this process.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Where it is, if nobody has named the place.
    own: Option<PathBuf>,
}

impl Log {
    /// Opens the log before anything is mounted: one that was named is continued; the default one begins anew, and the
    /// one before is kept beside it, for it may say why that mount ended.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(config: &MountConfig, run_dir: &RunDir) -> Result<Self, Failure> {
        let own = config.log.is_none().then(|| run_dir.log(config.ns_id.as_str()));
        let path = own.as_ref().or(config.log.as_ref()).map_or(Path::new(""), PathBuf::as_path);
        let open = || {
            if own.is_some() && fs::metadata(path).is_ok_and(|log| log.len() > 0) {
                fs::rename(path, path.with_extension("log.1"))?;
            }
            File::options().create(true).append(true).mode(0o600).open(path)
        };
        let file = open().map_err(|error: io::Error| {
            Failure::cannot(format!("open log {}", path.display()), plain(&error))
                .advise("name a file in a directory that exists with --log")
        })?;
        if let Some(directory) = own.as_deref().and_then(Path::parent) {
            bound(directory, MOST, SystemTime::now().checked_sub(AGE));
        }
        Ok(Self { file, own })
    }

    /// To be written to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// At the end of a mount that ended as it should: removes the default log if nothing in it needs reading.
    pub(super) fn settle(self) {
        let Some(path) = self.own else { return };
        let quiet = |line: &str| QUIET.iter().any(|level| line.contains(level));
        if fs::read_to_string(&path).is_ok_and(|text| text.lines().all(quiet)) {
            // It stays, and is one of those that are bounded.
            let _stays = fs::remove_file(path);
        }
    }
}

/// Removes the logs of mounts that are gone, but for the newest.
fn bound(directory: &Path, most: usize, oldest: Option<SystemTime>) {
    let written = |entry: &DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).ok();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let gone = entries.filter(|entry| {
        let name = entry.file_name();
        let mount =
            name.to_str().and_then(|name| name.strip_suffix(".1").unwrap_or(name).strip_suffix(".log"));
        mount.is_some_and(|mount| !directory.join(format!("{mount}.json")).exists())
    });
    let mut all: Vec<_> = gone.map(|entry| (written(&entry), entry.path())).collect();
    all.sort_by(|a, b| b.cmp(a));
    for (at, (written, path)) in all.into_iter().enumerate() {
        if at >= most || written < oldest {
            // Another process may have removed it.
            let _gone = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_kept_when_something_in_it_needs_reading() {
        let kept = |text: &str| {
            let base = tempfile::tempdir().unwrap();
            let path = base.path().join("web.log");
            fs::write(&path, text).unwrap();
            Log { file: File::open(&path).unwrap(), own: Some(path.clone()) }.settle();
            path.exists()
        };
        assert!(!kept("2026Z  INFO serving /s at /t\n2026Z  INFO unmounted after 6 measurements\n"));
        assert!(!kept(""));
        assert!(kept("2026Z  INFO serving /s at /t\n2026Z  WARN asked twice\n"));
        assert!(kept("2026Z ERROR the journal gets no end record\n"));
        assert!(kept("2026Z  INFO serving /s at /t\nthread 'x' panicked at\n"));
    }

    #[test]
    fn a_log_that_was_named_is_never_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("mine");
        Log { file: File::create(&path).unwrap(), own: None }.settle();
        assert!(path.exists());
    }

    #[test]
    fn of_mounts_that_are_gone_the_newest_logs_are_kept_and_none_for_ever() {
        let base = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for minutes in 0..6 {
            let file = File::create(base.path().join(format!("{minutes}.log"))).unwrap();
            file.set_modified(now - Duration::from_secs(60 * minutes)).unwrap();
        }
        let before = File::create(base.path().join("6.log.1")).unwrap();
        before.set_modified(now - Duration::from_secs(60 * 6)).unwrap();
        // One of the oldest belongs to a mount that runs.
        fs::write(base.path().join("5.json"), "").unwrap();
        let logs = || {
            let entries = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).collect();
            names.retain(|name| name.contains(".log"));
            names.sort();
            names
        };
        bound(base.path(), 3, None);
        assert_eq!(logs(), ["0.log", "1.log", "2.log", "5.log"]);
        bound(base.path(), 3, Some(now - Duration::from_secs(90)));
        assert_eq!(logs(), ["0.log", "1.log", "5.log"]);
    }
}
