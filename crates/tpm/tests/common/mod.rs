//! A swtpm for one test, and what tpm2-tools says of it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by several test programs; a test's helpers fail by panicking, as its test functions may"
)]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ima::{Digest, HashAlgo};
use tpm::{Tcti, Tpm, TpmPlace};

/// Whether these programs are there; what is missing fails in CI.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !found(name)).collect();
    let root = rustix::process::geteuid().is_root();
    if missing.is_empty() && root {
        return true;
    }
    let forbidden = ["CI", "IMAFS_CI"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!forbidden, "nothing is skipped in CI: missing {missing:?}, root: {root}");
    eprintln!("skipped: missing {missing:?}, root: {root}");
    false
}

/// A swtpm started by the test, with a state directory of its own.
pub struct Server {
    pub directory: tempfile::TempDir,
    child: Child,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(directory.path(), "not-need-init,startup-clear");
        Self { directory, child }
    }

    /// One that nobody has sent a `TPM2_Startup`.
    pub fn unstarted() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(directory.path(), "not-need-init");
        Self { directory, child }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    pub fn tcti(&self) -> Tcti {
        Tcti::SwtpmPath(self.socket())
    }

    pub fn place(&self) -> TpmPlace {
        TpmPlace::Tcti(self.tcti())
    }

    pub fn open(&self) -> Tpm {
        Tpm::open(self.place()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with its state, a moment later, as whoever watches over one would: an emulator can be back within the
    /// 10 ms for which an answer counts as fresh.
    pub fn restart(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        self.child = spawn(self.directory.path(), "not-need-init,startup-clear");
    }

    /// Runs one of tpm2-tools.
    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .arg("--tcti")
            .arg(self.tcti().to_string())
            .args(args)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {}{text}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The register in all four banks, by `tpm2_pcrread`.
    pub fn pcrread(&self, pcr: u32) -> Vec<Digest> {
        let banks = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];
        let value = |algo: HashAlgo| {
            let text = self.tool("tpm2_pcrread", &[&format!("{}:{pcr}", algo.name())]);
            let (_, hex) = text.split_once("0x").unwrap();
            Digest::new(algo, &hex::decode(hex.trim()).unwrap()).unwrap()
        };
        banks.into_iter().map(value).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by its test.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(directory: &Path, flags: &str) -> Child {
    let socket = directory.join("sock");
    let control = directory.join("sock.ctrl");
    for path in [&socket, &control] {
        let _none = std::fs::remove_file(path);
    }
    let mut child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", directory.display()))
        .args(["--server", &format!("type=unixio,path={}", socket.display())])
        .args(["--ctrl", &format!("type=unixio,path={}", control.display())])
        .args(["--flags", flags])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(&socket).is_err() {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "swtpm does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// A digest for each bank, made of a number.
pub fn digests(banks: &[HashAlgo], number: u32) -> Vec<Digest> {
    banks.iter().map(|algo| ima::hash(*algo, &number.to_le_bytes()).unwrap()).collect()
}

/// What registers hold after these extends since the start of the TPM.
pub fn replayed(banks: &[HashAlgo], numbers: impl IntoIterator<Item = u32> + Clone) -> Vec<Digest> {
    let value = |algo: &HashAlgo| {
        let mut pcrs = ima::Pcrs::new(*algo).unwrap();
        for number in numbers.clone() {
            let digest = ima::hash(*algo, &number.to_le_bytes()).unwrap();
            pcrs.extend(ima::PcrIndex::DEFAULT, &digest).unwrap();
        }
        pcrs.value(ima::PcrIndex::DEFAULT)
    };
    banks.iter().map(value).collect()
}
