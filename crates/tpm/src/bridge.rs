//! A way to a swtpm on a unix socket, for tss-esapi 7, which can name hosts and ports alone.
//!
//! A TCP port on this machine's loopback would let every local user, and every container with the host's network,
//! extend the registers or reset the TPM. So the calling thread moves to a network namespace of its own, where two
//! ports (data, and control beside it) are relayed to the two sockets, and nobody else can connect.
//!
//! To be removed when tss-esapi can hand libtss2 a path (libtss2 has known `swtpm:path=` since 3.2).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Free by definition: nobody else is in this network.
const PORT: u16 = 2321;

/// What libtss2 puts behind the path for the control channel.
const CONTROL: &str = ".ctrl";

/// How long it waits after a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// The relay. It ends when it is dropped, and for no other reason: what hinders it, such as too few descriptors in the
/// whole process, passes, and a relay that had ended would leave the TPM out of reach for good.
#[derive(Debug)]
pub(crate) struct Bridge {
    listeners: [OwnedFd; 2],
    ended: Arc<AtomicBool>,
}

impl Bridge {
    /// Starts relaying to the sockets at `path` and beside it. The calling thread leaves the host's network for good.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        sys::network::unshare()?;
        let mut control = path.as_os_str().to_owned();
        control.push(CONTROL);
        let ended = Arc::default();
        let listeners = [listen(PORT, path.to_owned(), &ended)?, listen(PORT + 1, control.into(), &ended)?];
        Ok(Self { listeners, ended })
    }

    /// The port of the data channel.
    pub(crate) fn port(&self) -> u16 {
        PORT
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        for listener in &self.listeners {
            // It wakes the thread that waits for connections.
            let _ended_already = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
    }
}

fn listen(port: u16, path: PathBuf, ended: &Arc<AtomicBool>) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let handle = listener.try_clone()?.into();
    let ended = Arc::clone(ended);
    let accept = move || {
        while !ended.load(Ordering::Acquire) {
            match listener.accept() {
                Ok((client, _)) => serve(&client, &path),
                Err(_) if ended.load(Ordering::Acquire) => return,
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "cannot take a connection to the TPM");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    };
    std::thread::Builder::new().name("imafs-tpm-relay".to_owned()).spawn(accept)?;
    Ok(handle)
}

/// One connection, to its end.
fn serve(client: &TcpStream, path: &Path) {
    if let Err(error) = relay(client, path) {
        tracing::debug!(path = %path.display(), %error, "a connection to the TPM failed");
    }
    // The client has what it will get. Without a lingering end its port is free again at once; thousands of connections a
    // second would use them all up otherwise.
    let _ended_already = rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO));
}

/// Carries bytes both ways until one side ends.
fn relay(client: &TcpStream, path: &Path) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = UnixStream::connect(path)?;
    let (mut from_client, mut from_server) = (client, &server);
    let (mut to_client, mut to_server) = (client, &server);
    let mut buffer = [0; 4096];
    loop {
        let mut both = [PollFd::new(client, PollFlags::IN), PollFd::new(&server, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [asked, answered] = both.map(|fd| !fd.revents().is_empty());
        // Answers first: a client that has what it wanted ends the connection.
        if answered && carry(&mut from_server, &mut to_client, &mut buffer)? == 0 {
            return client.shutdown(Shutdown::Both);
        }
        if asked && carry(&mut from_client, &mut to_server, &mut buffer)? == 0 {
            return Ok(());
        }
    }
}

fn carry(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<usize> {
    let length = from.read(buffer)?;
    to.write_all(buffer.get(..length).unwrap_or_default())?;
    Ok(length)
}
