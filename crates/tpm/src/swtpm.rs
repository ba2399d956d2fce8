//! A swtpm of a mount's own: started with it, ended with it, also when it is killed.
//!
//! It listens on two unix sockets that only root can open, never on a port. The thread that starts it is the TPM's
//! own, which lives as long as the TPM is wanted; when that thread ends, the kernel kills the swtpm.
//!
//! Source: swtpm(8), version 0.7.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::TpmError;

/// How long it may take to listen; a first start makes seeds and, on a slow machine, takes a second.
const TO_START: Duration = Duration::from_secs(20);

/// How long it may take to write its state at the end.
const TO_END: Duration = Duration::from_secs(5);

/// What a path of a unix socket has room for, less `.ctrl` and the end of the string (`sun_path`, unix(7)).
const SOCKET_PATH: usize = 108 - 6;

/// What it says at the end of every connection, and so at every command; no option silences it.
const CHATTER: &str = "Data client disconnected";

/// Where it keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwtpmState {
    /// In this directory, which stays: the next swtpm on it has the same keys.
    Kept(PathBuf),
    /// In this directory, which is made anew and removed at the end.
    Passing(PathBuf),
}

impl SwtpmState {
    fn directory(&self) -> &Path {
        match self {
            Self::Kept(directory) | Self::Passing(directory) => directory,
        }
    }
}

/// A swtpm that is to run.
#[derive(Debug)]
pub(crate) struct Swtpm {
    state: SwtpmState,
    socket: PathBuf,
    child: Option<Child>,
    /// What a mount that was killed left behind is away: from here on the state is ours, whatever becomes of the swtpm.
    prepared: bool,
    /// Reads what it says; gives its last words.
    words: Option<JoinHandle<String>>,
}

/// How long one that listens may take to end because it cannot have its state: it asks for that only then.
const TO_FAIL: Duration = Duration::from_secs(1);

impl Swtpm {
    /// Starts nothing yet.
    pub(crate) fn new(state: SwtpmState, socket: PathBuf) -> Self {
        Self { state, socket, child: None, prepared: false, words: None }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts it unless it runs, and waits until it listens.
    pub(crate) fn ensure_running(&mut self) -> Result<(), TpmError> {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => tracing::warn!("swtpm has ended ({status}): starting it again"),
                Err(error) => tracing::warn!(%error, "cannot see whether swtpm runs: starting it again"),
            }
        }
        self.child = None;
        let failed = |said| move |source| TpmError::Swtpm { said, source };
        self.prepare().map_err(failed(String::new()))?;
        let mut child = self.command().spawn().map_err(failed(String::new()))?;
        let words = child.stderr.take().and_then(|stderr| listen(stderr).ok());
        let listening = wait_until_it_listens(&mut child, &self.socket);
        if let Err(source) = listening {
            // It may have ended already.
            let _ended = child.kill();
            let _status = child.wait();
            let said = words.and_then(|words| words.join().ok()).unwrap_or_default();
            return Err(failed(said)(source));
        }
        self.child = Some(child);
        self.words = words;
        Ok(())
    }

    /// Why it ended, if it did so soon after it began to listen; asked when it does not answer.
    pub(crate) fn end_at_start(&mut self) -> Option<TpmError> {
        let child = self.child.as_mut()?;
        let until = Instant::now() + TO_FAIL;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => return None,
            }
        };
        let said = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let source = io::Error::other(format!("it ended at once ({status})"));
        Some(TpmError::Swtpm { said, source })
    }

    fn prepare(&mut self) -> io::Result<()> {
        let directory = self.state.directory();
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        if self.socket.as_os_str().len() > SOCKET_PATH {
            return Err(invalid("the socket's path is too long: name a shorter IMAFS_RUN_DIR"));
        }
        if [directory, &self.socket].iter().any(|path| path.as_os_str().as_encoded_bytes().contains(&b',')) {
            return Err(invalid("swtpm takes no path with a comma"));
        }
        if matches!(self.state, SwtpmState::Passing(_)) && !self.prepared {
            remove(directory)?;
        }
        self.prepared = true;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        for socket in [self.socket.clone(), with_ending(&self.socket, ".ctrl").into()] {
            match fs::remove_file(&socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2"]);
        command.arg("--tpmstate").arg(joined("dir=", self.state.directory(), ",mode=0600"));
        command.arg("--server").arg(joined("type=unixio,path=", &self.socket, ",mode=0600"));
        let control = PathBuf::from(with_ending(&self.socket, ".ctrl"));
        command.arg("--ctrl").arg(joined("type=unixio,path=", &control, ",mode=0600"));
        // It sends itself the TPM2_Startup(CLEAR) that a firmware would.
        command.args(["--flags", "not-need-init,startup-clear"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        sys::child::die_with_this_thread(&mut command);
        command
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ended_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + TO_END;
            while child.try_wait()?.is_none() {
                if Instant::now() > until {
                    child.kill()?;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for socket in [self.socket.clone(), with_ending(&self.socket, ".ctrl").into()] {
            // swtpm removes its sockets itself, unless it was killed.
            drop(fs::remove_file(socket));
        }
        match &self.state {
            SwtpmState::Kept(_) => Ok(()),
            SwtpmState::Passing(directory) => remove(directory),
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "cannot clear away swtpm");
        }
    }
}

/// Removes a directory that may not be there.
fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn with_ending(path: &Path, ending: &str) -> OsString {
    let mut whole = path.as_os_str().to_owned();
    whole.push(ending);
    whole
}

fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let mut whole = OsString::from(before);
    whole.push(path);
    whole.push(after);
    whole
}

fn wait_until_it_listens(child: &mut Child, socket: &Path) -> io::Result<()> {
    let until = Instant::now() + TO_START;
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("it ended at once ({status})")));
        }
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not listen"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Logs what it says until it ends; gives its last words.
fn listen(stderr: ChildStderr) -> io::Result<JoinHandle<String>> {
    let read = move || {
        let mut last = String::new();
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim().trim_start_matches("swtpm: ").to_owned();
            if !line.is_empty() && line != CHATTER {
                tracing::warn!("swtpm: {line}");
                last = line;
            }
        }
        last
    };
    std::thread::Builder::new().name("imafs-swtpm-log".to_owned()).spawn(read)
}
