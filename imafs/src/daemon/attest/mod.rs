//! Evidence for whoever asks: a nonce in, a quote and the list out.
//!
//! One request per connection: a line, `quote NONCE`, the nonce in hex. The answer is a line, `ok` or `error REASON`, and
//! after `ok` the evidence up to the end of the connection. On the mount's own socket root may ask at any time; with
//! `--attest` others may, who are not trusted: what they send is bounded, they wait for one another, and none is served
//! for longer than a limit.

mod answer;
mod quoter;
mod ration;
mod shared;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyring::Certificate;

use crate::config::{AttestPlace, MountConfig};
use crate::failure::{Failure, chain};

use super::parts::Parts;
use super::system::plain;
use answer::Answer;
use quoter::Quoter;
use shared::SharedQuoter;

/// Who may be served at once; others are sent away.
const CLIENTS: usize = 8;

/// How long a request may take to arrive: it is one short line.
const REQUEST: Duration = Duration::from_secs(10);

/// How long one waits for a quote while others have theirs made.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client may not read on.
const STALL: Duration = Duration::from_secs(30);

/// How long it may read altogether.
const WHOLE: Duration = Duration::from_secs(600);

/// How long to wait after connections cannot be accepted, which is when there are too many descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest request: the word and the longest nonce.
const LONGEST: usize = 256;

/// Nonces that a quote can be asked for with; a shorter one may come again.
const NONCE: std::ops::RangeInclusive<usize> = attest::cli::MIN_NONCE..=tpm::MAX_NONCE;

/// What serves evidence, or why there is none.
#[derive(Debug)]
pub(super) struct Service {
    source: Source,
    clients: AtomicUsize,
}

/// What evidence is made of.
#[derive(Debug)]
enum Source {
    /// A TPM that the mount's list has to itself.
    Own(Box<Quoter>),
    /// One that mounts share.
    Shared(SharedQuoter),
    /// There is none, for this reason.
    None(String),
}

impl Source {
    /// Evidence over this nonce.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn quote(&self, nonce: &[u8]) -> Result<Answer, String> {
        match self {
            Self::Own(quoter) => quoter.quote(nonce, PATIENCE),
            Self::Shared(quoter) => quoter.quote(nonce, PATIENCE),
            Self::None(reason) => Err(reason.clone()),
        }
    }
}

impl Service {
    /// For a mount of this configuration.
    ///
    /// # Errors
    /// When the certificates to hand on cannot be read.
    pub(super) fn new(config: &MountConfig, parts: &Parts) -> Result<Arc<Self>, Failure> {
        let certificates = config.ak_cert.as_deref().map_or(Ok(Vec::new()), certificates)?;
        let source = match (parts.banks.tpm(), parts.banks.shared()) {
            (None, _) => Source::None(
                "this mount has no TPM, so there is nothing to quote: mount with --tpm".to_owned(),
            ),
            (Some(_), Some(bank)) => Source::Shared(SharedQuoter::new(Arc::clone(bank), certificates)),
            (Some(tpm), None) => Quoter::new(tpm.clone(), Arc::clone(&parts.list), certificates)
                .map_or_else(Source::None, |quoter| Source::Own(Box::new(quoter))),
        };
        Ok(Arc::new(Self { source, clients: AtomicUsize::new(0) }))
    }

    /// Answers where the configuration says, as long as the process lives. Dropping what is returned removes the socket.
    ///
    /// # Errors
    /// When nobody could connect there.
    pub(super) fn listen(self: &Arc<Self>, place: &AttestPlace) -> Result<Door, Failure> {
        let service = Arc::clone(self);
        let failed = |error: io::Error| {
            Failure::cannot(format!("listen on {place}"), plain(&error))
                .advise("name a path that is free, or an address of this machine, with --attest")
        };
        match place {
            AttestPlace::Unix(path) => {
                let listener = bind(path).map_err(failed)?;
                let accept = move || listener.accept().map(|(stream, _)| stream);
                service.accept(accept).map_err(failed)?;
                Ok(Door(Some(path.clone())))
            }
            AttestPlace::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(failed)?;
                let accept = move || listener.accept().map(|(stream, _)| stream);
                service.accept(accept).map_err(failed)?;
                Ok(Door(None))
            }
        }
    }

    fn accept<S: Connection>(
        self: Arc<Self>,
        accept: impl Fn() -> io::Result<S> + Send + 'static,
    ) -> io::Result<()> {
        let serve = move || {
            loop {
                match accept() {
                    Ok(stream) => self.take(stream, None),
                    Err(error) => {
                        tracing::debug!("cannot take a request for evidence: {error}");
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        };
        std::thread::Builder::new().name("imafs-attest".to_owned()).spawn(serve).map(drop)
    }

    /// Answers one connection from a thread of its own; `request` is its request where that was read already.
    pub(super) fn take<S: Connection>(self: &Arc<Self>, stream: S, request: Option<String>) {
        let service = Arc::clone(self);
        // Root is not kept waiting by strangers.
        let is_root = request.is_some();
        if self.clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS && !is_root {
            self.clients.fetch_sub(1, Ordering::AcqRel);
            refuse(stream);
            return;
        }
        let converse = move || {
            let _place = Place(&service.clients);
            if let Err(error) = service.converse(stream, request) {
                tracing::debug!("a request for evidence failed: {error}");
            }
        };
        // A closure that is not run is dropped without its place having been taken.
        if std::thread::Builder::new().name("imafs-evidence".to_owned()).spawn(converse).is_err() {
            self.clients.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn converse<S: Connection>(&self, mut stream: S, request: Option<String>) -> io::Result<()> {
        stream.limits(REQUEST, STALL)?;
        let request = match request {
            Some(request) => request,
            None => read_line(&mut stream)?,
        };
        match nonce(&request).and_then(|nonce| self.source.quote(&nonce)) {
            Ok(answer) => {
                stream.write_all(b"ok\n")?;
                answer.write_to(&mut stream, Instant::now() + WHOLE)
            }
            Err(reason) => stream.write_all(format!("error {reason}\n").as_bytes()),
        }
    }
}

/// A place among the clients.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The nonce of a request.
fn nonce(request: &str) -> Result<Vec<u8>, String> {
    let nonce = request.strip_prefix("quote ").ok_or("a request is: quote NONCE")?;
    let nonce = hex::decode(nonce).map_err(|_| "the nonce is not hexadecimal")?;
    if NONCE.contains(&nonce.len()) {
        Ok(nonce)
    } else {
        Err(format!("a nonce has {} to {} bytes", NONCE.start(), NONCE.end()))
    }
}

/// A connection with its time limits.
pub(super) trait Connection: Read + Write + Send + 'static {
    /// How long one read and one write may take.
    fn limits(&self, read: Duration, write: Duration) -> io::Result<()>;
}

impl Connection for UnixStream {
    fn limits(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

impl Connection for TcpStream {
    fn limits(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

/// Sends somebody away, who may not even read that.
fn refuse<S: Connection>(mut stream: S) {
    let sent = stream
        .limits(PAUSE, PAUSE)
        .and_then(|()| stream.write_all(b"error too many ask for evidence: ask again later\n"));
    if let Err(error) = sent {
        tracing::debug!("a request for evidence was refused: {error}");
    }
}

/// A line, within the limits of a request altogether.
fn read_line(stream: &mut impl Connection) -> io::Result<String> {
    let until = Instant::now() + REQUEST;
    let mut line = Vec::new();
    let mut piece = [0; LONGEST];
    while !line.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || line.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.limits(left, STALL)?;
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8(line.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A socket that anybody may connect to who can reach its path. One that nobody answers on is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(dead) if dead.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Ok(_) | Err(_) => return Err(error),
            }
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Where evidence is served; dropping it removes a socket's name.
#[derive(Debug)]
pub(super) struct Door(Option<PathBuf>);

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Already gone is as good.
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// The certificates of a file, for verifiers.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let advice =
        "name the attestation key's certificate, and those of its authorities after it, in PEM or DER";
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::cannot(format!("read certificates {}", path.display()), plain(&error)).advise(advice)
    })?;
    let chain = Certificate::from_pem_or_der(&bytes).map_err(|error| {
        Failure::cannot(format!("use certificates {}", path.display()), chain(&error)).advise(advice)
    })?;
    if chain.len() > attest::evidence::MAX_CERTIFICATES {
        let reason = format!("more than {} of them", attest::evidence::MAX_CERTIFICATES);
        return Err(Failure::cannot(format!("use certificates {}", path.display()), reason).advise(advice));
    }
    Ok(chain.iter().map(|certificate| certificate.der().to_vec()).collect())
}
