//! A virtual machine with Debian's kernel and its own IMA, booted once for each scenario.
//!
//! A policy can be loaded into Debian's kernel only once, so a scenario is a boot: a few seconds under `-accel tcg`,
//! which needs nothing of the machine. The guest has an initramfs, two disks and a software TPM, and no network.
//! Guest and TPM are children of this process; dropping a `Machine` ends both.

pub mod initramfs;
pub mod record;

use crate::oracle::stop;
use crate::process::until;
use anyhow::{Context, Result, bail, ensure};
use initramfs::{ADVICE, Kernel};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a guest may take. One second of it is worth several elsewhere: the processor is emulated.
const LIMIT: Duration = Duration::from_secs(240);

/// Arguments of every guest. A machine that is busy elsewhere starves the emulated timer, which the kernel would take
/// for a broken one.
const ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

/// How long the TPM may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all guests of a run have in common.
#[derive(Debug)]
pub struct Guest {
    kernel: Kernel,
    base: PathBuf,
}

/// What one guest is booted with.
#[derive(Debug)]
pub struct Boot<'a> {
    /// A directory of its own, for sockets and the TPM's state.
    pub work: &'a Path,
    /// Its initramfs.
    pub archive: &'a Path,
    /// The file system it plays on.
    pub disk: &'a Path,
    /// Where it leaves what came of it.
    pub results: &'a Path,
    /// Arguments of the kernel that mean something to IMA.
    pub arguments: &'a str,
    /// Whether it has a TPM.
    pub tpm: bool,
}

impl Guest {
    /// Finds the kernel and makes what all guests share, in `dir`.
    ///
    /// # Errors
    /// Fails when something is not installed, saying what to do.
    pub fn prepare(dir: &Path) -> Result<Self> {
        let kernel = Kernel::find()?;
        let base = initramfs::make(dir, &kernel)?;
        Ok(Self { kernel, base })
    }

    /// The kernel's release.
    pub fn release(&self) -> &str {
        &self.kernel.release
    }

    /// The archive that all guests share.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Boots a guest and waits until it has ended.
    ///
    /// # Errors
    /// Fails when it does not start or does not end, and when the user has had enough.
    pub fn run(&self, boot: &Boot<'_>) -> Result<()> {
        let console = boot.work.join("console");
        let log = File::create(&console).context("cannot make the console's log")?;
        let mut machine = Machine { tpm: None, qemu: None };
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-m", "256", "-nographic", "-no-reboot", "-net", "none"]);
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(boot.archive);
        qemu.arg("-append").arg(format!("{ARGUMENTS} {}", boot.arguments));
        for disk in [boot.disk, boot.results] {
            let disk = disk.to_str().filter(|path| !path.contains(',')).context("a path with a comma")?;
            qemu.args(["-drive", &format!("file={disk},format=raw,if=virtio,cache=unsafe")]);
        }
        if boot.tpm {
            let socket = machine.start_tpm(boot.work)?;
            qemu.args(["-chardev", &format!("socket,id=tpmsocket,path={}", socket.display())]);
            qemu.args(["-tpmdev", "emulator,id=tpm,chardev=tpmsocket", "-device", "tpm-tis,tpmdev=tpm"]);
        }
        let both = log.try_clone().context("cannot share the console's log")?;
        qemu.stdin(Stdio::null()).stdout(both).stderr(log);
        machine.qemu = Some(qemu.spawn().with_context(|| format!("no qemu-system-x86_64: {ADVICE}"))?);
        let said = || std::fs::read_to_string(&console).unwrap_or_default();
        let Some(status) = machine.wait()? else { bail!("the guest did not end in {LIMIT:?}:\n{}", said()) };
        ensure!(status.success(), "the guest's machine ended with {status}:\n{}", said());
        Ok(())
    }
}

/// A guest and its TPM, ended when dropped.
#[derive(Debug)]
struct Machine {
    tpm: Option<Child>,
    qemu: Option<Child>,
}

impl Machine {
    /// Starts a TPM 2.0 with state of its own and returns the socket that it is controlled by.
    fn start_tpm(&mut self, work: &Path) -> Result<PathBuf> {
        // swtpm changes its directory, so paths are absolute.
        let work = work.canonicalize().context("cannot find the work directory")?;
        let (state, socket) = (work.join("tpm"), work.join("tpm.sock"));
        std::fs::create_dir(&state).context("cannot make the TPM's directory")?;
        let mut tpm = Command::new("swtpm");
        tpm.args(["socket", "--tpm2", "--terminate", "--flags", "not-need-init"]);
        tpm.arg("--tpmstate").arg(format!("dir={}", state.display()));
        tpm.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        tpm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut tpm = tpm.spawn().with_context(|| format!("no swtpm: {ADVICE}"))?;
        let listening = until(PATIENCE, || Ok(socket.exists() || tpm.try_wait()?.is_some()));
        self.tpm = Some(tpm);
        ensure!(listening? && socket.exists(), "swtpm does not listen on {}", socket.display());
        Ok(socket)
    }

    fn wait(&mut self) -> Result<Option<std::process::ExitStatus>> {
        let qemu = self.qemu.as_mut().context("there is no guest")?;
        let mut status = None;
        until(LIMIT, || {
            stop::check()?;
            status = qemu.try_wait().context("cannot wait for the guest")?;
            Ok(status.is_some())
        })?;
        Ok(status)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The TPM ends by itself when the guest's machine has closed its socket; ending it is for all other cases.
        for child in [self.qemu.as_mut(), self.tpm.as_mut()].into_iter().flatten() {
            if matches!(child.try_wait(), Ok(None))
                && let Err(error) = child.kill().and_then(|()| child.wait())
            {
                eprintln!("cannot end process {}: {error}", child.id());
            }
        }
    }
}
