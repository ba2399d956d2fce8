//! A TPM emulator for one test, and what tpm2-tools reads from it.

use crate::pcrs::Value;
use crate::process::{succeed, until};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The banks a new swtpm has.
pub const BANKS: [&str; 4] = ["sha1", "sha256", "sha384", "sha512"];

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A swtpm with its state in the test's scratch directory. Dropping it ends it.
#[derive(Debug)]
pub struct Swtpm {
    dir: PathBuf,
    child: Child,
}

impl Swtpm {
    /// Starts one, with its `TPM2_Startup` done.
    ///
    /// # Errors
    /// Fails when it does not start.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let dir = scratch.dir("swtpm")?;
        let child = spawn(&dir)?;
        let mut tpm = Self { dir, child };
        tpm.wait()?;
        Ok(tpm)
    }

    fn wait(&mut self) -> Result<()> {
        let socket = self.socket();
        let child = &mut self.child;
        let there = until(PATIENCE, || {
            ensure!(child.try_wait()?.is_none(), "swtpm ended at once");
            Ok(UnixStream::connect(&socket).is_ok())
        })?;
        ensure!(there, "swtpm does not listen");
        Ok(())
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// How imafs and tpm2-tools name it.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket().display())
    }

    /// Ends it as a power failure would: its registers are gone.
    ///
    /// # Errors
    /// Fails when it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill swtpm")?;
        self.child.wait().context("cannot wait for swtpm").map(drop)
    }

    /// Starts it again with its state.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.dir)?;
        self.wait()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails when it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).context("cannot signal swtpm")
    }

    /// A register in every bank, as `tpm2_pcrread` tells it.
    ///
    /// # Errors
    /// As [`pcrread`].
    pub fn pcr(&self, index: u32) -> Result<Vec<Value>> {
        pcrread(&self.tcti(), index)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Its test may have killed it.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(dir: &Path) -> Result<Child> {
    let (socket, control) = (dir.join("sock"), dir.join("sock.ctrl"));
    for path in [&socket, &control] {
        // One that was killed leaves its sockets.
        let _none = std::fs::remove_file(path);
    }
    let channel = |path: &Path| format!("type=unixio,path={}", path.display());
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", dir.display())]);
    command.args(["--server", &channel(&socket), "--ctrl", &channel(&control)]);
    command.args(["--flags", "not-need-init,startup-clear"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start swtpm")
}

/// A register in every bank of the TPM at `tcti`.
///
/// # Errors
/// Fails when `tpm2_pcrread` does, or says something else.
pub fn pcrread(tcti: &str, index: u32) -> Result<Vec<Value>> {
    let read = |bank: &str| {
        let text = succeed(Command::new("tpm2_pcrread").args(["--tcti", tcti, &format!("{bank}:{index}")]))?;
        let (_, hex) = text.split_once("0x").with_context(|| format!("no value in {text:?}"))?;
        Ok(Value { bank: bank.to_owned(), index, hex: hex.trim().to_ascii_lowercase() })
    };
    BANKS.into_iter().map(read).collect()
}
