//! Where a scenario is played: an ext4 image of its own, imafs over it, and a small root directory around them.
//!
//! The image is mounted by loop device with `autoclear`, so the device goes with the mount. imafs's mount is at
//! `root/t`; the player runs in mount and pid namespaces of its own with `root` as its root directory, so that
//! `/t` is what it was for the kernel, binds it makes are seen by nobody, and no actor outlives it. Everything
//! is undone when the stage is dropped: the daemon first, then the image, then the directory.

use crate::golden::scenario::{Scenario, player_source};
use crate::process::{ours, shell, succeed, until, wait_for};
use crate::scratch::{Scratch, detach, is_fuse_mount};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The file system's UUID in the recordings.
pub const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// How long a mount may take to appear, or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a scenario may take; then imafs is ended, which turns every hung call into an error.
const LIMIT: Duration = Duration::from_secs(120);

/// The stage of one scenario.
#[derive(Debug)]
pub struct Stage {
    daemon: Option<Daemon>,
    scratch: Scratch,
}

impl Stage {
    /// Makes the file system as the scenario wants it, before anything is mounted over it.
    ///
    /// # Errors
    /// Fails when the image cannot be made, mounted or filled.
    pub fn set_up(scenario: &Scenario) -> Result<Self> {
        let stage = Self { daemon: None, scratch: Scratch::new()? };
        let dir = stage.scratch.path();
        for name in
            ["source", "run", "root/t", "root/s", "root/proc", "root/bin", "root/sys/kernel/security/ima"]
        {
            stage.scratch.dir(name)?;
        }
        let image = dir.join("image");
        let file = File::create(&image).context("cannot make the image")?;
        file.set_len(32 << 20).context("cannot size the image")?;
        succeed(
            Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-O", "verity", "-U", UUID]).arg(&image),
        )?;
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(stage.source()))?;
        let script =
            std::fs::read_to_string(scenario.dir.join("setup.sh")).context("cannot read setup.sh")?;
        shell(&stage.source(), format!("umask 022\n{script}"))?;
        // The recordings' images were made from a directory; the root directory stayed as mkfs made it.
        std::fs::set_permissions(stage.source(), Permissions::from_mode(0o755)).context("cannot chmod")?;
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-Wall", "-static", "-o"]).arg(stage.player()).arg(player_source()?);
        succeed(&mut compile)?;
        stage.copy_policies(scenario)?;
        Ok(stage)
    }

    /// Puts the policies that operations load where they look for them.
    fn copy_policies(&self, scenario: &Scenario) -> Result<()> {
        for entry in std::fs::read_dir(&scenario.dir).context("cannot list the scenario")? {
            let path = entry.context("cannot list the scenario")?.path();
            if path.extension().is_some_and(|extension| extension == "policy")
                && let Some(name) = path.file_name()
            {
                let copy = self.root().join("s").join(name);
                std::fs::copy(&path, copy).context("cannot copy a policy")?;
            }
        }
        Ok(())
    }

    /// Mounts imafs over the file system, set as the scenario says and recording as a 6.1 kernel does.
    ///
    /// # Errors
    /// Fails with imafs's words when it does not mount.
    pub fn raise(&mut self, scenario: &Scenario) -> Result<()> {
        let dir = self.scratch.path();
        let log = File::create(dir.join("log")).context("cannot make the log")?;
        let mut audit = std::ffi::OsString::from("file:");
        audit.push(self.audit());
        let mut mount = Command::new(ours("imafs")?);
        mount.env("IMAFS_RUN_DIR", dir.join("run")).args(["mount", "--foreground", "--violations", "each"]);
        mount.args(["--path-prefix", "/t", "--audit-format", "kernel", "--audit"]).arg(audit);
        mount.args(scenario.mount_options(dir)?).arg(self.source()).arg(self.target());
        mount.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log")?).stderr(log);
        let mut child = mount.spawn().context("cannot start imafs")?;
        let target = self.target();
        let came = until(PATIENCE, || Ok(is_fuse_mount(&target) || child.try_wait()?.is_some()));
        let daemon = Daemon::over(child, target);
        let mounted = came? && is_fuse_mount(&daemon.target);
        self.daemon = Some(daemon);
        ensure!(mounted, "imafs did not mount: {}", self.log());
        Ok(())
    }

    /// The player, not yet started: in namespaces of its own, with the operations to come on standard input and
    /// their results on standard output; it lists the tree into [`Stage::tree`] when they end.
    pub fn player_on_mount(&self) -> Command {
        const SCRIPT: &str = r#"
            mount --rbind "$1" "$1"
            cd "$1"
            mount -t proc proc proc
            mount --bind t/.imafs/integrity/ima sys/kernel/security/ima
            unshare --root="$1" --wd=/t /bin/op run /proc/self/fd/0
            unshare --root="$1" --wd=/t /bin/op tree > "$2"
        "#;
        let mut player = Command::new("unshare");
        player.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        player.args(["sh", "-ec", SCRIPT, "sh"]).arg(self.root()).arg(self.tree());
        player
    }

    /// The file system imafs serves.
    pub fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    /// The program that plays operations.
    pub fn player(&self) -> PathBuf {
        self.root().join("bin/op")
    }

    /// Where imafs writes its records.
    pub fn audit(&self) -> PathBuf {
        self.scratch.path().join("audit")
    }

    /// Where the player lists the tree.
    pub fn tree(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    /// Writes a file of the stage's own, which no scenario sees.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        self.scratch.file(name, content)
    }

    /// What a file of the control directory holds.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn control(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.target().join(".imafs").join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// What imafs said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Takes imafs away and asserts that it ended well.
    ///
    /// # Errors
    /// Fails when it is in use, or ends with anything but 0.
    pub fn strike(mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        daemon.unmount()?;
        let status = wait_for(&mut daemon.child, PATIENCE)?.context("imafs is still running")?;
        daemon.ended = true;
        ensure!(status.success(), "imafs ended with {status}: {}", self.log());
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn target(&self) -> PathBuf {
        self.root().join("t")
    }
}

/// The imafs process of a stage. Dropping it unmounts, and ends the process if that did not.
#[derive(Debug)]
struct Daemon {
    child: Child,
    target: PathBuf,
    ended: bool,
    /// Dropping it calls off the time limit.
    _watch: Sender<()>,
}

impl Daemon {
    fn over(child: Child, target: PathBuf) -> Self {
        let pid = rustix::process::Pid::from_child(&child);
        let (watch, called_off) = channel();
        std::thread::spawn(move || {
            if called_off.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{LIMIT:?} have passed: ending imafs, process {pid:?}");
                if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    eprintln!("cannot end it: {error}");
                }
            }
        });
        Self { child, target, ended: false, _watch: watch }
    }

    fn unmount(&self) -> Result<()> {
        // The player's namespaces go in their own time after it has ended.
        let gone = until(PATIENCE, || match unmount(&self.target) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::BUSY) => Ok(false),
            Err(error) => bail!("cannot unmount {}: {error}", self.target.display()),
        })?;
        ensure!(gone, "{} stays in use", self.target.display());
        Ok(())
    }
}

fn unmount(target: &Path) -> rustix::io::Result<()> {
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::empty())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if is_fuse_mount(&self.target) && unmount(&self.target).is_err() {
            detach(&self.target);
        }
        match wait_for(&mut self.child, Duration::from_secs(5)) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
                    eprintln!("cannot end imafs: {error}");
                }
            }
        }
    }
}
