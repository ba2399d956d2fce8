//! Records in the kernel's own audit trail, through its netlink socket.
//!
//! A process may not send records of the kernel's types (1800 and up): the kernel answers `EINVAL`. It may send user
//! messages, with `CAP_AUDIT_WRITE`; ours are `AUDIT_TRUSTED_APP`. The kernel adds its time and serial and the task that
//! sent it, which is imafs, and puts our text between single quotes:
//!
//! ```text
//! type=1121 msg=audit(T:N): pid=7 uid=0 auid=... ses=... msg='ima=1800 ns=web-1 serial=12 TEXT'
//! ```
//!
//! `ima` is the type that the kernel would have given the record, `ns` and `serial` are ours, and TEXT is the kernel's
//! wording. `ausearch -m TRUSTED_APP` finds them.
//!
//! While auditing is switched off the kernel takes such messages and drops them without a word, so it is asked before
//! each one, which takes `CAP_AUDIT_CONTROL`. Of what it drops later (its rate limit, its backlog) it keeps the count
//! itself (`auditctl -s`).
//!
//! Follows `audit_netlink_ok` and `audit_receive_msg`, kernel/audit.c, Linux 6.1; include/uapi/linux/audit.h.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Sink;
use crate::kernel;
use crate::record::{FileRule, Record, Stamped};

/// `AUDIT_GET`: asks for the state of auditing.
const GET: u16 = 1000;
/// `AUDIT_TRUSTED_APP`: free text of a trusted program.
const TRUSTED_APP: u16 = 1121;
/// `NLMSG_ERROR`: an acknowledgement, with an errno or 0.
const ACK: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 5;
/// `struct nlmsghdr`: length `u32`, type `u16`, flags `u16`, sequence `u32`, port `u32`; host order.
const HEADER: usize = 16;
/// `AUDIT_MESSAGE_TEXT_MAX`: the kernel cuts a longer text off.
const TEXT_MAX: usize = 8560;
/// Of an answer no more is looked at; an acknowledgement may repeat what was sent.
const ANSWER_MAX: usize = 64 * 1024;
/// How long the kernel may take over one message before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the kernel writes for a path that is too long (`audit_log_d_path`).
const TOO_LONG: &[u8] = b"<too_long>";

/// Why the kernel's audit system takes no records of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// There is no audit socket.
    #[error("this kernel has no audit system")]
    NoAudit,
    /// The kernel audits for its first namespaces alone.
    #[error("the kernel takes audit records from its first user and process namespaces alone")]
    Namespace,
    /// `CAP_AUDIT_WRITE` or `CAP_AUDIT_CONTROL` is missing.
    #[error("not permitted (CAP_AUDIT_WRITE and CAP_AUDIT_CONTROL are needed)")]
    NotPermitted,
    /// Auditing is switched off.
    #[error("auditing is switched off in this kernel")]
    Disabled,
    /// Any other failure of the socket.
    #[error("the audit socket fails")]
    Socket(#[source] Errno),
    /// The kernel did not answer.
    #[error("the kernel does not answer")]
    NoAnswer,
    /// The record does not fit into a message.
    #[error("a record of {0} bytes, more than {TEXT_MAX}")]
    TooLong(usize),
}

impl SocketError {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Self::NoAudit,
            Errno::CONNREFUSED => Self::Namespace,
            Errno::PERM | Errno::ACCESS => Self::NotPermitted,
            Errno::AGAIN => Self::NoAnswer,
            other => Self::Socket(other),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct KernelSink {
    socket: OwnedFd,
    sequence: u32,
}

impl KernelSink {
    /// A sink to the running kernel.
    ///
    /// # Errors
    /// [`SocketError`] where no record would come through.
    pub fn open() -> Result<Self, SocketError> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::AUDIT))
                .map_err(SocketError::of)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(SocketError::of)?;
        let mut sink = Self { socket, sequence: 0 };
        sink.ask_whether_on()?;
        sink.probe()?;
        Ok(sink)
    }

    /// Sends a message that is too short to be recorded: whether we may is looked at first.
    fn probe(&mut self) -> Result<(), SocketError> {
        match self.request(TRUSTED_APP, &[0]) {
            Ok(()) | Err(SocketError::Socket(Errno::INVAL)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask_whether_on(&mut self) -> Result<(), SocketError> {
        self.request(GET, &[])?;
        // `struct audit_status`: mask, then enabled. It comes from a thread of its own, behind the acknowledgement.
        let enabled = self.answer(GET, |status| u32_at(status, 4))?;
        if enabled == 0 { Err(SocketError::Disabled) } else { Ok(()) }
    }

    /// Sends a message and waits until the kernel has taken it.
    fn request(&mut self, kind: u16, payload: &[u8]) -> Result<(), SocketError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length =
            u32::try_from(HEADER + payload.len()).map_err(|_| SocketError::TooLong(payload.len()))?;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&REQUEST.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(payload);
        rustix::io::retry_on_intr(|| send(&self.socket, &message, SendFlags::empty()))
            .map_err(SocketError::of)?;
        let error = self.answer(ACK, |ack| u32_at(ack, 0))?.cast_signed();
        if error == 0 { Ok(()) } else { Err(SocketError::of(Errno::from_raw_os_error(-error))) }
    }

    /// Waits for the answer of this type to the last request. Older ones, whose senders gave up, are passed over.
    fn answer(&self, kind: u16, read: impl Fn(&[u8]) -> Option<u32>) -> Result<u32, SocketError> {
        let until = Instant::now() + PATIENCE;
        let mut buffer = vec![0_u8; ANSWER_MAX];
        while Instant::now() < until {
            let received =
                rustix::io::retry_on_intr(|| recv(&self.socket, &mut buffer[..], RecvFlags::empty()));
            let (length, _) = received.map_err(SocketError::of)?;
            let message = buffer.get(..length).unwrap_or_default();
            let ours = u16_at(message, 4) == Some(kind) && u32_at(message, 8) == Some(self.sequence);
            if let Some(value) = message.get(HEADER..).filter(|_| ours).and_then(&read) {
                return Ok(value);
            }
        }
        Err(SocketError::NoAnswer)
    }

    fn hand_over(&mut self, record: &Stamped) -> Result<(), SocketError> {
        let text = message(record)?;
        self.ask_whether_on()?;
        self.request(TRUSTED_APP, &text)
    }
}

impl Sink for KernelSink {
    fn name(&self) -> String {
        "kernel".to_owned()
    }

    fn write(&mut self, record: &Stamped) -> io::Result<()> {
        self.hand_over(record).map_err(io::Error::other)
    }
}

/// The text of a message, with the NUL that ends it.
fn message(stamped: &Stamped) -> Result<Vec<u8>, SocketError> {
    let whole = spelled(stamped, &stamped.record);
    let whole = match &stamped.record {
        // A program's path may be as long as the file's; the record is about the file.
        Record::FileRule(rule) if whole.len() > TEXT_MAX => {
            let mut shorter = FileRule::clone(rule);
            shorter.process.exe = Some(TOO_LONG.to_vec());
            spelled(stamped, &shorter.into())
        }
        _ => whole,
    };
    if whole.len() > TEXT_MAX { Err(SocketError::TooLong(whole.len())) } else { Ok(whole) }
}

fn spelled(stamped: &Stamped, record: &Record) -> Vec<u8> {
    let kind = record.kind().number();
    let mut text = format!("ima={kind} ns={} serial={} ", stamped.ns, stamped.serial).into_bytes();
    text.append(&mut kernel::quotable(record));
    text.push(0);
    text
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use ima::HashAlgo;

    use super::*;
    use crate::Process;
    use crate::record::{Integrity, RecordType};

    fn stamped(record: Record) -> Stamped {
        Stamped::new(12, SystemTime::UNIX_EPOCH, "web-1".into(), record)
    }

    #[test]
    fn a_message_is_the_kernels_text_behind_our_ids() {
        let mut process = Process::unknown(7);
        process.comm = Some(b"cat".to_vec());
        let record = Integrity::new(RecordType::IntegrityData, process, "appraise_data", "missing-hash");
        let record = stamped(record.file("/a'b", "vda", 3).into());
        let text = String::from_utf8(message(&record).unwrap()).unwrap();
        let ids = "ima=1800 ns=web-1 serial=12 pid=7 uid=";
        assert!(text.starts_with(ids), "{text}");
        let end = " op=appraise_data cause=missing-hash comm=\"cat\" name=2F612762 dev=\"vda\" ino=3 res=0 errno=0\0";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_longest_paths_fit_and_what_does_not_is_no_message() {
        let long = |count: usize| vec![b' '; count];
        let mut process = Process::unknown(7);
        process.exe = Some(long(4095));
        let digest = ima::hash(HashAlgo::Sha512, b"").unwrap();
        let rule = |file| FileRule { process: process.clone(), file, digest, rule: None };
        let text = message(&stamped(rule(long(4000)).into())).unwrap();
        assert!(text.windows(16).any(|part| part == b"exe=\"<too_long>\""), "{}", text.len());
        assert!(matches!(message(&stamped(rule(long(4300)).into())), Err(SocketError::TooLong(_))));
    }

    #[test]
    fn each_refusal_of_the_kernel_has_its_reason() {
        assert!(matches!(SocketError::of(Errno::PROTONOSUPPORT), SocketError::NoAudit));
        assert!(matches!(SocketError::of(Errno::CONNREFUSED), SocketError::Namespace));
        assert!(matches!(SocketError::of(Errno::PERM), SocketError::NotPermitted));
        assert!(matches!(SocketError::of(Errno::NOBUFS), SocketError::Socket(Errno::NOBUFS)));
    }
}
