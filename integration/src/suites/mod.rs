//! Foreign filesystem suites, on a backing filesystem and on a mount of it: what passes there passes here.
//!
//! pjdfstest asks what POSIX says of calls that name files, fsx writes, reads, maps and truncates one file at random and
//! knows what must be in it. Both are crates of others, run as programs; `make suites` installs them.

mod backing;

pub use backing::{Backing, Kind};

use crate::{Mount, MountBuilder, Scratch, process};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a tree is mounted for a suite.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Files are lent to the kernel.
    pub passthrough: bool,
    /// Threads that hash.
    pub threads: u16,
    /// Everything that is opened is measured and appraised.
    pub appraise: bool,
}

impl Mode {
    /// Every combination.
    pub fn all() -> impl Iterator<Item = Self> {
        [true, false].into_iter().flat_map(|passthrough| {
            [1, 8].into_iter().flat_map(move |threads| {
                [false, true].into_iter().map(move |appraise| Self { passthrough, threads, appraise })
            })
        })
    }

    /// Mounts `source` in this mode.
    ///
    /// # Errors
    /// As [`MountBuilder::start`].
    pub fn mount(self, scratch: &Scratch, source: &Path) -> Result<Mount> {
        let rules = if self.appraise { "measure func=FILE_CHECK\nappraise func=FILE_CHECK\n" } else { "" };
        let lending = if self.passthrough { "auto" } else { "off" };
        MountBuilder::new(scratch, source)?
            .args(["--passthrough", lending, "--hash-threads", &self.threads.to_string()])
            .policy(rules)?
            .start()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passthrough = if self.passthrough { "passthrough" } else { "no passthrough" };
        let appraise = if self.appraise { "appraising" } else { "not appraising" };
        write!(f, "{passthrough}, {} threads, {appraise}", self.threads)
    }
}

/// What became of each case of pjdfstest, by its name.
#[derive(Debug, Default)]
pub struct Outcomes(BTreeMap<String, String>);

impl Outcomes {
    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.0.values().filter(|outcome| *outcome == "ok").count()
    }

    /// Those that passed, and failed in `other` or were not run there. What was skipped asks for what only the C library
    /// could tell: it knows the limit on links by the filesystem's kind, and of FUSE knows none.
    pub fn lost_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(|(_, outcome)| *outcome == "ok").filter_map(|(name, _)| {
            let there = other.0.get(name).map_or("not run", String::as_str);
            (there != "ok" && there != "skipped").then_some((name.as_str(), there))
        })
    }
}

/// Where `make suites` puts the suites' programs.
fn tool(name: &str) -> Result<PathBuf> {
    let path = process::repository().join("target/tools/bin").join(name);
    ensure!(path.is_file(), "{name} is not installed: run `make suites`");
    Ok(path)
}

/// Why the suites cannot be run here, or `None` when they can.
pub fn missing() -> Option<String> {
    ["pjdfstest", "fsx"].into_iter().find_map(|name| tool(name).err()).map(|error| error.to_string())
}

/// Runs the cases of pjdfstest whose names have one of `patterns` in them (all if there is none) in the directory `at`.
///
/// # Errors
/// Fails when it cannot be run or says nothing.
pub fn pjdfstest(scratch: &Scratch, at: &Path, patterns: &[&str]) -> Result<Outcomes> {
    // Debian's users; the cases switch to them.
    let settings = scratch.file(
        "pjdfstest.toml",
        "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n\
         stat_st_birthtime = {}\n[settings]\nnaptime = 0.05\nallow_remount = false\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n",
    )?;
    let mut command = Command::new(tool("pjdfstest")?);
    command
        .env("NO_COLOR", "1")
        .arg("--configuration-file")
        .arg(settings)
        .arg("--path")
        .arg(at)
        .args(patterns);
    // It ends with 1 when a case failed, which is for the comparison to judge.
    let out = process::output(&mut command)?;
    let said = String::from_utf8_lossy(&out.stdout);
    let mut outcomes = Outcomes::default();
    for line in said.lines().filter(|line| !line.starts_with(char::is_whitespace)) {
        if let Some((name, outcome)) = line.split_once(char::is_whitespace)
            && name.contains("::")
        {
            outcomes.0.insert(name.to_owned(), outcome.trim().to_owned());
        }
    }
    ensure!(
        outcomes.passed() > 0,
        "pjdfstest passed nothing: {said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(outcomes)
}

/// Has fsx do `operations` on a file in the directory `at`, from a seed, with mappings or without.
///
/// # Errors
/// Fails, with its last words, when what it reads is not what it wrote.
pub fn fsx(scratch: &Scratch, at: &Path, seed: u64, operations: u64, mapped: bool) -> Result<()> {
    // fsx leaves its mappings behind, and a mapping that stays keeps each new open waiting for two seconds.
    let (map, close) = if mapped { (10, 0) } else { (0, 1) };
    let settings = scratch.file(
        "fsx.toml",
        format!(
            "[weights]\nclose_open = {close}\nmapread = {map}\nmapwrite = {map}\nread = 10\nwrite = 10\n\
             truncate = 10\nfsync = 0.1\nfdatasync = 0.1\nposix_fallocate = 2\npunch_hole = 2\nsendfile = 2\n\
             posix_fadvise = 1\ncopy_file_range = 2\n"
        ),
    )?;
    let mut command = Command::new(tool("fsx")?);
    command.arg("-f").arg(settings).arg("-P").arg(scratch.path());
    command.args(["-N", &operations.to_string(), "-S", &seed.to_string()]).arg(at.join("fsx"));
    process::succeed(&mut command).map(drop).with_context(|| format!("fsx with seed {seed}"))
}
