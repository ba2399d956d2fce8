//! A network namespace of the calling thread's own.
//!
//! Source: unshare(2) `CLONE_NEWNET`, rtnetlink(7) `RTM_NEWLINK`. A namespace belongs to a thread, and to those it
//! starts from then on; sockets that are open stay where they were made.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::check;

/// `RTM_NEWLINK` for interface 1, which is the loopback of every namespace: set `IFF_UP`, and acknowledge.
fn loopback_up() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags (NLM_F_REQUEST | NLM_F_ACK), sequence, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(16_u16.to_ne_bytes());
    message.extend(0x5_u16.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    // struct ifinfomsg: family, padding and type, then index, flags, and which flags change.
    for field in [0_u32, 1, 1, 1] {
        message.extend(field.to_ne_bytes());
    }
    message
}

/// Gives the calling thread a network that nobody else can reach, with a loopback interface and nothing more.
///
/// # Errors
/// [`Errno::PERM`] without `CAP_SYS_ADMIN`, [`Errno::INVAL`] in a kernel without network namespaces,
/// [`Errno::NOSPC`] when there are too many; else those of the netlink request.
pub fn unshare() -> Result<(), Errno> {
    // SAFETY: unshare(2) with CLONE_NEWNET touches no memory of ours and leaves the descriptor table shared.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &loopback_up(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 64];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // `struct nlmsgerr` after the header: zero, or an errno, negative.
    let code = answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        None => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_listener_in_a_network_of_its_own_is_reached_from_there_and_from_nowhere_else() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let inside = std::thread::spawn(|| {
            unshare().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            TcpStream::connect(address).unwrap();
            (listener, address)
        });
        let (_listener, address) = inside.join().unwrap();
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
