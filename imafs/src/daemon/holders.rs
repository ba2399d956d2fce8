//! Who keeps a mount busy: processes with a directory, file or mapping beneath it.
//!
//! Only names of links in `/proc` are read, never what they point to, so a mount whose server hangs does not hang us.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::mounts::is_beneath;

/// One process that holds something in a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// What it holds.
    pub what: PathBuf,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}) has {}", self.comm, self.pid, self.what.display())
    }
}

/// Finds up to `limit` holders; those that cannot be seen (other users', without root) are left out.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn of(target: &Path, limit: usize) -> io::Result<Vec<Holder>> {
    let mut holders = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(what) = held(&entry.path(), target) {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            holders.push(Holder { pid, comm: comm.trim_end().to_owned(), what });
        }
        if holders.len() == limit {
            break;
        }
    }
    Ok(holders)
}

fn held(process: &Path, target: &Path) -> Option<PathBuf> {
    let links = ["cwd", "root", "exe"].map(|name| process.join(name));
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
    let linked = links.into_iter().chain(open).filter_map(|link| fs::read_link(link).ok());
    linked.chain(mapped(process)).find(|path| is_beneath(path, target))
}

/// Paths of mappings: the sixth column of `maps`.
fn mapped(process: &Path) -> Vec<PathBuf> {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..))).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_file_open_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        assert_eq!(of(&path, 9).unwrap(), []);
        let _open = fs::File::create(path.join("x")).unwrap();
        let holders = of(&path, 9).unwrap();
        assert_eq!(holders.len(), 1);
        assert_eq!((holders[0].pid, &holders[0].what), (std::process::id(), &path.join("x")));
    }
}
