//! A refusal, as the filesystem passes it on.

use rustix::io::Errno;

/// The monitor refused an access. Its audit record has been written by the time this value exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("denied: {cause}")]
pub struct Denial {
    errno: Errno,
    cause: &'static str,
}

impl Denial {
    /// A refused open: the caller sees `EACCES`, whatever the inner reason was, as with the kernel.
    pub(crate) fn open(cause: &'static str) -> Self {
        Self { errno: Errno::ACCESS, cause }
    }

    /// A refused open of a program that is being written, or for writing of one that is being started: `ETXTBSY`,
    /// which the kernel itself answers when it sees both, and which programs know to try again after.
    pub(crate) fn busy(cause: &'static str) -> Self {
        Self { errno: Errno::TXTBSY, cause }
    }

    /// A refused change of a label.
    pub(crate) fn label(errno: Errno, cause: &'static str) -> Self {
        Self { errno, cause }
    }

    /// No answer at all: content was not read to its end. Nothing was refused, and nothing is recorded.
    pub(crate) fn unfinished() -> Self {
        Self { errno: Errno::INTR, cause: "unfinished" }
    }

    /// Whether something was refused.
    pub(crate) fn is_refusal(&self) -> bool {
        *self != Self::unfinished()
    }

    /// What the system call returns.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The cause, as in the audit record.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        self.cause
    }
}
