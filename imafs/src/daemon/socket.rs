//! Asking a running mount: a socket in the run directory, for root alone.
//!
//! One request per connection: a line, `status`, `show PATH`, `mode`, `mode MODE`, `quote NONCE`, `stop` or
//! `stop-lazily`. The answer is a line, `ok` or
//! `error REASON`, and after `ok` the payload up to the end of the connection. This works whatever the control
//! directory shows to the container.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::RwLock;

use crate::control::{Control, mode_name, mode_of};
use crate::fuse::Unmount;

use super::attest;
use super::serve::Event;
use super::status::StatusSource;

/// The reason given when a mount is in use.
pub const BUSY: &str = "busy";

/// The reason given when the mount is not, or not visibly, where it was made.
pub const COVERED: &str = "something else is mounted over it, or it was moved";

/// How long one side waits for the other's next bytes. An unmount flushes, which takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long whoever asks waits before it says that there is no answer yet.
const NOTICE: Duration = Duration::from_secs(3);

/// How long the end of the process waits for an answer that is being written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What answers requests.
#[derive(Debug)]
pub(super) struct Answers {
    status: Arc<StatusSource>,
    control: Option<Arc<Control>>,
    evidence: Arc<attest::Service>,
    events: Sender<Event>,
}

impl Answers {
    pub(super) fn new(
        status: Arc<StatusSource>,
        control: Option<Arc<Control>>,
        evidence: Arc<attest::Service>,
        events: Sender<Event>,
    ) -> Self {
        Self { status, control, evidence, events }
    }

    fn answer(&self, request: &str) -> Result<Vec<u8>, String> {
        match request.split_once(' ').unwrap_or((request, "")) {
            ("status", "") => Ok(self.status.facts().to_string().into_bytes()),
            ("show", path) => {
                let control = self.control.as_ref().ok_or("this mount has no control directory")?;
                control.read_path(path).map_err(|errno| super::plain(&io::Error::from(errno)))
            }
            ("mode", word) => self.mode(word),
            ("stop", "") => self.stop(Unmount::Now),
            ("stop-lazily", "") => self.stop(Unmount::WhenUnused),
            _ => Err(format!("unknown request '{request}'")),
        }
    }

    /// Sets the mode, weaker ones too, for this is the host; gives the one in force.
    fn mode(&self, word: &str) -> Result<Vec<u8>, String> {
        let monitor = self.status.monitor();
        if !word.is_empty() {
            let mode = mode_of(word.as_bytes()).ok_or_else(|| format!("there is no mode '{word}'"))?;
            monitor.set_mode(mode);
            tracing::info!(target: "imafs", "the host has set the mode to {word}");
        }
        Ok(format!("{}\n", mode_name(monitor.rules().mode())).into_bytes())
    }

    fn stop(&self, when: Unmount) -> Result<Vec<u8>, String> {
        let (answer, outcome) = bounded(1);
        let gone = "the mount is ending already".to_owned();
        self.events.send(Event::Stop { when, answer }).map_err(|_| gone.clone())?;
        outcome.recv().map_err(|_| gone)?.map(|()| Vec::new())
    }
}

/// Conversations under way: each holds this lock for reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversations(Arc<RwLock<()>>);

impl Conversations {
    /// Waits a moment for answers that are being written, so that who asked for the end is told of it.
    pub(super) fn finish(&self) {
        if self.0.try_write_for(LAST_WORDS).is_none() {
            tracing::debug!("a conversation on the socket was cut short");
        }
    }
}

/// Makes the socket at `path`; who asks there waits until it is answered.
///
/// # Errors
/// When it cannot be made.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    // The directory is closed to others; this holds where somebody has opened it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers on a socket from a thread of its own, for as long as the process lives.
///
/// # Errors
/// When there can be no thread.
pub(super) fn listen(listener: UnixListener, answers: Answers) -> io::Result<Conversations> {
    let conversations = Conversations::default();
    let ours = conversations.clone();
    let serve = move || {
        for connection in listener.incoming() {
            let _under_way = ours.0.read();
            if let Err(error) = connection.and_then(|connection| converse(connection, &answers)) {
                tracing::debug!("a conversation on the socket failed: {error}");
            }
        }
    };
    std::thread::Builder::new().name("imafs-socket".to_owned()).spawn(serve)?;
    Ok(conversations)
}

fn converse(mut connection: UnixStream, answers: &Answers) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    // The longest request names a path of the control directory.
    BufReader::new((&connection).take(1024)).read_line(&mut request)?;
    if request.starts_with("quote ") {
        // A quote takes its time, and nobody else is to wait for it.
        answers.evidence.take(connection, Some(request.trim_end_matches('\n').to_owned()));
        return Ok(());
    }
    let answer = match answers.answer(request.trim_end_matches('\n')) {
        Ok(payload) => [b"ok\n", payload.as_slice()].concat(),
        Err(reason) => format!("error {reason}\n").into_bytes(),
    };
    connection.write_all(&answer)
}

/// Asks the mount behind a socket; the inner error is its own refusal. When there is no answer for three seconds
/// `slow` is called once, and the wait goes on to its end, a minute.
///
/// # Errors
/// When nobody answers there.
pub fn ask(path: &Path, request: &str, slow: impl FnOnce()) -> io::Result<Result<Vec<u8>, String>> {
    let mut connection = UnixStream::connect(path)?;
    connection.set_read_timeout(Some(NOTICE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    writeln!(connection, "{request}")?;
    let mut answer = BufReader::new(connection);
    let is_late =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let late = answer.fill_buf().is_err_and(|error| is_late(&error));
    answer.get_ref().set_read_timeout(Some(PATIENCE))?;
    if late {
        slow();
    }
    let mut first = String::new();
    answer.read_line(&mut first)?;
    match first.trim_end().split_once(' ').unwrap_or((first.trim_end(), "")) {
        ("ok", "") => {
            let mut payload = Vec::new();
            answer.read_to_end(&mut payload)?;
            Ok(Ok(payload))
        }
        ("error", reason) => Ok(Err(reason.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without an answer")),
    }
}
