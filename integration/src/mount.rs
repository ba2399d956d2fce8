//! A mount that always goes away again.
//!
//! Most tests run `imafs mount --foreground` as a child, so that its process, its log and its exit status are ours
//! to see; the tests of backgrounding start it themselves. A mount that no longer answers would hang its test in
//! the kernel, so a watchdog kills the process after `$IMAFS_TEST_LIMIT` seconds (default 600), which turns every
//! hung call into an error. Only the process started here is ever killed, by its pid.

use crate::process::{ours, output, until, wait_for};
use crate::records::{Mark, Records};
use crate::scratch::{Scratch, detach, is_fuse_mount};
use crate::{Door, Refusal};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a mount may take to appear, or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers mounts within this process, so that several of one scratch directory have their own files.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A mount about to be made.
#[derive(Debug)]
pub struct MountBuilder {
    dir: PathBuf,
    source: PathBuf,
    args: Vec<OsString>,
    number: u32,
    descriptors: Option<usize>,
    limit: Option<Duration>,
    run_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

impl MountBuilder {
    /// Of `source`, with its target, log and records in the scratch directory.
    ///
    /// # Errors
    /// Fails when the directories cannot be made.
    pub fn new(scratch: &Scratch, source: impl Into<PathBuf>) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = scratch.dir(&format!("mount-{number}"))?;
        for name in ["target", "run"] {
            std::fs::create_dir(dir.join(name)).with_context(|| format!("cannot make {name}"))?;
        }
        Ok(Self {
            dir,
            source: source.into(),
            args: Vec::new(),
            number,
            descriptors: None,
            limit: None,
            run_dir: None,
            state_dir: None,
        })
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// The policy with this text, in the kernel's language.
    ///
    /// # Errors
    /// Fails when its file cannot be written.
    pub fn policy(self, text: &str) -> Result<Self> {
        let path = self.dir.join("policy");
        std::fs::write(&path, text).context("cannot write the policy")?;
        Ok(self.arg("--policy").arg(path))
    }

    /// The policy shipped or built in under this name.
    pub fn named_policy(self, name: &str) -> Self {
        self.arg("--policy").arg(name)
    }

    /// Trusts this certificate.
    pub fn trust(self, certificate: &Path) -> Self {
        self.arg("--key").arg(certificate)
    }

    /// Lets the imafs process have no more than so many descriptors, by its hard limit.
    pub fn limit_descriptors(mut self, count: usize) -> Self {
        self.descriptors = Some(count);
        self
    }

    /// Lets the mount live this long instead of what the watchdog usually allows.
    pub fn live_for(mut self, length: Duration) -> Self {
        self.limit = Some(length);
        self
    }

    /// Makes it one of several mounts of one host, which share this run directory.
    pub fn run_dir_at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(dir.into());
        self
    }

    /// Lets it remember what other mounts of this host have seen, which is kept in this directory.
    pub fn state_dir_at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// Where the mount will be; scripts with a `#!` line must know before.
    pub fn target(&self) -> PathBuf {
        self.dir.join("target")
    }

    /// Where its records will be.
    pub fn records(&self) -> Records {
        Records::at(self.dir.join("audit.json"))
    }

    /// Where imafs keeps the state of its running mounts for this test.
    pub fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| self.dir.join("run"))
    }

    /// The whole command, in the background form; [`MountBuilder::start`] adds `--foreground`.
    ///
    /// # Errors
    /// Fails when imafs is not built.
    pub fn command(&self) -> Result<Command> {
        let program = ours("imafs")?;
        let mut mount = match self.descriptors {
            None => Command::new(program),
            Some(count) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--nofile={count}:{count}")).arg(program);
                limited
            }
        };
        let state_dir = self.state_dir.clone().unwrap_or_else(|| self.dir.join("state"));
        mount.env("IMAFS_RUN_DIR", self.run_dir()).env("IMAFS_STATE_DIR", state_dir).arg("mount");
        mount.args(["--audit-format", "json", "--audit"]).arg(joined("file:", self.records().path()));
        if !self.args.iter().any(|a| a == "--ns-id") {
            mount.args(["--ns-id", &format!("proof-{}-{}", std::process::id(), self.number)]);
        }
        mount.args(&self.args);
        if !self.source.as_os_str().is_empty() {
            mount.arg(&self.source);
        }
        mount.arg(self.target());
        Ok(mount)
    }

    /// Mounts, in the foreground of a child process, and waits until it is there.
    ///
    /// # Errors
    /// Fails with the child's log when it ends, or is not mounted after 30 seconds.
    pub fn start(self) -> Result<Mount> {
        let log = self.dir.join("log");
        let file = File::create(&log).context("cannot make the log")?;
        let mut command = self.command()?;
        command.arg("--foreground").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut daemon = command.spawn().context("cannot start imafs")?;
        let target = self.target();
        let ready = until(PATIENCE, || Ok(is_fuse_mount(&target) || daemon.try_wait()?.is_some()))?;
        if !ready || !is_fuse_mount(&target) {
            daemon.kill().context("cannot end imafs")?;
            daemon.wait().context("cannot wait for imafs")?;
            bail!("{command:?} did not mount:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        let watchdog = Watchdog::over(&daemon, self.limit);
        Ok(Mount {
            target,
            run_dir: self.run_dir(),
            records: self.records(),
            log,
            daemon,
            watchdog,
            gone: false,
        })
    }
}

/// `prefix` directly followed by a path, as options like `file:PATH` want it.
fn joined(prefix: &str, path: &Path) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(path);
    whole
}

/// A running mount. Dropping it unmounts, and ends the process if that did not.
#[derive(Debug)]
pub struct Mount {
    target: PathBuf,
    run_dir: PathBuf,
    records: Records,
    log: PathBuf,
    daemon: Child,
    watchdog: Watchdog,
    gone: bool,
}

impl Mount {
    /// The mount point.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where imafs keeps the state of its running mounts for this test.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// A path in the mount, given relative to its root.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.target.join(inside)
    }

    /// What a file of the control directory holds now.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn control(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.target.join(".imafs").join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A file of the control directory that holds one number.
    ///
    /// # Errors
    /// Fails when it cannot be read or is no number.
    pub fn control_number(&self, name: &str) -> Result<u64> {
        let text = String::from_utf8(self.control(name)?).context("not text")?;
        text.trim().parse().with_context(|| format!("{name} is not a number: {text:?}"))
    }

    /// Violations of the measurement list so far.
    ///
    /// # Errors
    /// As [`Mount::control_number`].
    pub fn violations(&self) -> Result<u64> {
        self.control_number("integrity/ima/violations")
    }

    /// The ASCII measurement list. Names that are not UTF-8 come out with replacement characters.
    ///
    /// # Errors
    /// As [`Mount::control`].
    pub fn measurements(&self) -> Result<String> {
        let bytes = self.control("integrity/ima/ascii_runtime_measurements")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The mount's audit records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Process id of the imafs process.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// What imafs wrote to its standard output and error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One of imafs's own commands, told about this test's state directory.
    ///
    /// # Errors
    /// Fails when imafs is not built.
    pub fn imafs(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(ours("imafs")?);
        command.env("IMAFS_RUN_DIR", &self.run_dir).args(args);
        Ok(command)
    }

    /// Goes through `door` to `inside` and asserts that it lets through and records no refusal.
    ///
    /// # Errors
    /// Fails saying what happened instead.
    pub fn allowed(&self, door: Door, inside: &str) -> Result<()> {
        let mark = self.mark()?;
        if let Err(refusal) = door.enter(&self.path(inside))? {
            bail!("{door:?} refuses /{inside}, which is good: {refusal:?}\nlog: {}", self.log());
        }
        self.records.no_refusal(mark).with_context(|| format!("{door:?} of /{inside}"))
    }

    /// Goes through `door` to `inside` and asserts that it is shut with `EACCES`, or the program's words for it,
    /// and that exactly one record was left, with `cause`.
    ///
    /// # Errors
    /// Fails saying what happened instead.
    pub fn refused(&self, door: Door, inside: &str, cause: &str) -> Result<()> {
        let mark = self.mark()?;
        match door.enter(&self.path(inside))? {
            Ok(()) => bail!("{door:?} let through to /{inside}, which is bad\nlog: {}", self.log()),
            Err(Refusal::Errno(errno)) => {
                ensure!(
                    errno == rustix::io::Errno::ACCESS,
                    "{door:?} of /{inside} says {errno:?}, not EACCES"
                );
            }
            Err(Refusal::Words(words)) => {
                ensure!(door.says_so(&words), "{door:?} of /{inside} failed with other words: {words}");
            }
        }
        let name = format!("/{inside}");
        self.records.one_refusal(mark, cause, &name).with_context(|| format!("{door:?} of {name}"))?;
        Ok(())
    }

    /// What `imafs status --json` says.
    ///
    /// # Errors
    /// Fails when that does.
    pub fn status(&self) -> Result<serde_json::Value> {
        let text = crate::process::succeed(self.imafs(&["status", "--json"])?.arg(&self.target))?;
        serde_json::from_str(&text).context("not JSON")
    }

    /// As [`Records::mark`], after what was recorded until now has reached its file: a thread of its own takes it
    /// there, and a refusal's answer does not wait for it.
    ///
    /// # Errors
    /// As [`Records::mark`].
    pub fn mark(&self) -> Result<Mark> {
        if let Ok(trail) = std::fs::metadata(self.path(".imafs/audit")) {
            self.records.reach(trail.len());
        }
        self.records.mark()
    }

    /// Unmounts with `imafs umount` and waits for the process to end. Returns its status.
    ///
    /// # Errors
    /// Fails when the command does, or the process stays.
    pub fn stop(mut self) -> Result<ExitStatus> {
        let mut umount = self.imafs(&["umount"])?;
        umount.arg(&self.target);
        let out = output(&mut umount)?;
        ensure!(out.status.success(), "umount: {}\n{}", String::from_utf8_lossy(&out.stderr), self.log());
        self.end()
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// Fails when it cannot be sent.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        rustix::process::kill_process(pid, signal).context("cannot signal imafs")
    }

    /// Waits for the process to end, for whatever reason. Returns its status.
    ///
    /// # Errors
    /// Fails when it stays for 30 seconds.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let status = wait_for(&mut self.daemon, PATIENCE)?.context("imafs is still running")?;
        self.gone = true;
        self.watchdog.rest();
        Ok(status)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let log = self.log();
        if !log.is_empty() {
            eprintln!("log of {}:\n{log}", self.target.display());
        }
        if self.gone {
            return;
        }
        if let Err(e) = rustix::mount::unmount(&self.target, rustix::mount::UnmountFlags::empty()) {
            eprintln!("{} is in use ({e}); detaching it", self.target.display());
            detach(&self.target);
        }
        match wait_for(&mut self.daemon, Duration::from_secs(5)) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                if let Err(e) = self.daemon.kill().and_then(|()| self.daemon.wait()) {
                    eprintln!("cannot end imafs: {e}");
                }
            }
        }
        self.watchdog.rest();
    }
}

/// Kills one process when a time limit passes.
#[derive(Debug)]
struct Watchdog(Option<Sender<()>>);

impl Watchdog {
    fn over(daemon: &Child, limit: Option<Duration>) -> Self {
        let usual = || std::env::var("IMAFS_TEST_LIMIT").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
        let seconds = limit.map_or_else(usual, |limit| limit.as_secs());
        let pid = rustix::process::Pid::from_child(daemon);
        let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
        std::thread::spawn(move || {
            if stopped.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("the time limit of {seconds} s has passed: killing imafs, process {pid:?}");
                if let Err(e) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    eprintln!("cannot kill it: {e}");
                }
            }
        });
        Self(Some(stop))
    }

    fn rest(&mut self) {
        self.0 = None;
    }
}
