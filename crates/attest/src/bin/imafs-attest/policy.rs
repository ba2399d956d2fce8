//! `imafs-attest policy`: a Keylime runtime policy of what a root filesystem holds.
//!
//! Symbolic links are never followed and other filesystems left alone, as `imafs-sign` does; of a tar archive the last
//! entry of a name counts, as when it is unpacked. Paths that are not UTF-8 cannot stand in a policy, which is JSON: they
//! are told and left out, and a list that has one is then refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use attest::cli::PolicyArgs;
use attest::reference::recorded_name;
use ima::{Digest, HashAlgo, Hasher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::Ending;
use crate::output::{mistake, warn};

/// Read at once.
const PIECE: usize = 256 * 1024;

/// Who has made a policy, as Keylime numbers it: one that it does not know.
const GENERATOR: u32 = 0;

/// Digests by the name under which a list records the file.
type Names = BTreeMap<String, Vec<String>>;

pub(crate) fn run(args: &PolicyArgs) -> Result<Ending> {
    let progress = progress();
    let mut tree = Tree { algo: args.hash_algo, names: Names::new(), left_out: 0, progress };
    let metadata =
        std::fs::metadata(&args.source).with_context(|| format!("cannot read {}", args.source.display()))?;
    if metadata.is_dir() {
        tree.directory(&args.source)?;
    } else {
        tree.archive(&args.source)?;
    }
    tree.progress.finish_and_clear();
    if tree.names.is_empty() {
        return Err(mistake(
            format!("no file in {}", args.source.display()),
            "name the root of a filesystem, or a tar archive of one, not compressed",
        ));
    }
    if tree.left_out > 0 {
        warn(&format!("{} files were left out: their names are not UTF-8", tree.left_out));
    }
    for digest in &args.boot_aggregate {
        tree.names.entry("boot_aggregate".to_owned()).or_default().push(digest.to_hex());
    }
    let policy = json!({
        "meta": { "version": 1, "generator": GENERATOR },
        "release": 0,
        "digests": tree.names,
        "excludes": args.exclude,
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    });
    write(&policy, args.output.as_deref())?;
    Ok(Ending::Done)
}

fn write(policy: &serde_json::Value, output: Option<&Path>) -> Result<()> {
    let to = |out: &mut dyn io::Write| -> io::Result<()> {
        serde_json::to_writer(&mut *out, policy)?;
        writeln!(out)?;
        out.flush()
    };
    match output {
        None => to(&mut BufWriter::new(io::stdout().lock())).context("cannot write the policy"),
        Some(path) => {
            let unwritable = || format!("cannot write {}", path.display());
            let file = File::create(path).with_context(unwritable)?;
            to(&mut BufWriter::new(file)).with_context(unwritable)
        }
    }
}

/// A spinner with a count on standard error when that is a terminal, otherwise nothing.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} files {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

struct Tree {
    algo: HashAlgo,
    names: Names,
    left_out: u64,
    progress: ProgressBar,
}

impl Tree {
    /// The regular files below a directory.
    fn directory(&mut self, root: &Path) -> Result<()> {
        let walk = walkdir::WalkDir::new(root).same_file_system(true).follow_links(false).sort_by_file_name();
        for entry in walk {
            let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.path();
            let unreadable = || format!("cannot read {}", path.display());
            let inside = path.strip_prefix(root).with_context(unreadable)?.to_owned();
            let mut file = open(path, &entry).with_context(unreadable)?;
            let digest = digest(self.algo, &mut file).with_context(unreadable)?;
            self.add(inside.as_os_str().as_bytes(), &digest, false);
        }
        Ok(())
    }

    /// The regular files of a tar archive, and the hard links to them.
    fn archive(&mut self, path: &Path) -> Result<()> {
        let unreadable = || format!("cannot read {}", path.display());
        let mut archive = tar::Archive::new(File::open(path).with_context(unreadable)?);
        for entry in archive.entries().with_context(unreadable)? {
            let mut entry = entry.with_context(unreadable)?;
            let name = entry.path_bytes().into_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    let digest = digest(self.algo, &mut entry).with_context(unreadable)?;
                    self.add(&name, &digest, true);
                }
                tar::EntryType::Link => {
                    let target = entry.link_name_bytes().map(|target| listed(&target));
                    let known = target.and_then(|target| self.names.get(&target?).cloned());
                    if let (Some(known), Some(name)) = (known, listed(&name)) {
                        self.names.insert(name, known);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], digest: &Digest, replace: bool) {
        self.progress.inc(1);
        let Some(name) = listed(name) else {
            self.left_out += 1;
            return;
        };
        let digests = self.names.entry(name).or_default();
        if replace {
            digests.clear();
        }
        // Two names may be one to a list, which has underscores for spaces.
        if !digests.contains(&digest.to_hex()) {
            digests.push(digest.to_hex());
        }
    }
}

/// A path of the tree as a list records it; `None` where it is not UTF-8.
fn listed(path: &[u8]) -> Option<String> {
    let path = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")).unwrap_or(path);
    String::from_utf8(recorded_name(&[b"/", path].concat())).ok()
}

/// The very file that was found, and not what has come to stand in its place.
fn open(path: &Path, entry: &walkdir::DirEntry) -> io::Result<File> {
    let found = entry.metadata()?;
    let file = File::open(path)?;
    let opened = file.metadata()?;
    if (found.dev(), found.ino()) == (opened.dev(), opened.ino()) {
        Ok(file)
    } else {
        Err(io::Error::other("it was replaced meanwhile"))
    }
}

fn digest(algo: HashAlgo, content: &mut impl Read) -> Result<Digest> {
    let mut hasher = Hasher::new(algo)?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = content.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_list() {
        for (path, wanted) in [("./a b", "/a_b"), ("a", "/a"), ("/a", "/a"), ("usr/bin/x", "/usr/bin/x")] {
            assert_eq!(listed(path.as_bytes()).as_deref(), Some(wanted));
        }
        assert_eq!(listed(b"a\xff"), None);
    }
}
