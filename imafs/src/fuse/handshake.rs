//! The first exchange with the kernel, with a word of ours in it.
//!
//! fuser 0.18 always asks for `FUSE_ASYNC_READ` and offers no way not to. With it the kernel holds a file open until
//! the reply to its last read-ahead has been worked off, which is after the reader got its pages: a reader that
//! reads, closes and opens again for writing then has its RELEASE behind its own OPEN, and looks like a reader that
//! is still there (a false ToMToU, about one in 20,000 loops of 8 processes). Without it reads of the page cache are
//! answered in the reader's own time, and RELEASE is in its place. Only small files are read this way.
//!
//! So fuser shakes hands over a socket pair, with an INIT that does not offer the capability, and its answer is passed
//! on to the kernel. Then the descriptor fuser reads is made the real one. A fuser whose `KernelConfig` can drop a
//! capability would let us remove this.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fuser::{Config, Filesystem, Session, SessionACL};
use rustix::io::{read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// The kernel refuses to give a request to a smaller buffer (`FUSE_MIN_READ_BUFFER`, include/uapi/linux/fuse.h).
const BUFFER: usize = 8192;

/// Where `fuse_init_in.flags` begins: behind `struct fuse_in_header` (40 bytes), two version numbers and `max_readahead`.
const FLAGS_AT: usize = 40 + 12;

/// `FUSE_ASYNC_READ`, include/uapi/linux/fuse.h.
const ASYNC_READ: u32 = 1;

/// Makes a session on the connection `device`, on which INIT waits, without asynchronous reads.
///
/// # Errors
/// When the kernel's first request is not INIT, or one of the two ends does not answer.
pub(super) fn session<F: Filesystem>(
    filesystem: F,
    device: OwnedFd,
    acl: SessionACL,
    config: Config,
) -> io::Result<Session<F>> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut message = vec![0_u8; BUFFER];
    let length = read(&device, &mut message)?;
    let mut request = message.get(..length).unwrap_or_default().to_vec();
    withhold(&mut request, ASYNC_READ)?;
    write(&ours, &request)?;
    let session = Session::from_fd(filesystem, theirs, acl, config)?;
    let length = read(&ours, &mut message)?;
    write(&device, message.get(..length).unwrap_or_default())?;
    replace(&session, &device)?;
    Ok(session)
}

/// Takes capabilities out of what an INIT request offers.
fn withhold(request: &mut [u8], capabilities: u32) -> io::Result<()> {
    let field = request.get_mut(FLAGS_AT..).and_then(<[u8]>::first_chunk_mut::<4>);
    let field =
        field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the first request is not INIT"))?;
    *field = (u32::from_ne_bytes(*field) & !capabilities).to_ne_bytes();
    Ok(())
}

/// Makes the descriptor that `session` reads another name of `device`.
fn replace<F: Filesystem>(session: &Session<F>, device: &OwnedFd) -> io::Result<()> {
    sys::descriptor::replace(session.as_fd(), device.as_fd()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_withheld_and_nothing_else_is_touched() {
        let mut request: Vec<u8> = (0..104).collect();
        let before = request.clone();
        request[FLAGS_AT] |= 1;
        withhold(&mut request, ASYNC_READ).unwrap();
        let mut expected = before;
        expected[FLAGS_AT] &= !1;
        assert_eq!(request, expected);
        assert!(withhold(&mut [0; 40], ASYNC_READ).is_err());
    }
}
