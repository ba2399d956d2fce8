//! Records on standard output, for supervisors that collect it.
//!
//! Written to the descriptor, past the lock of `std::io::stdout()`: a reader that stops reading would otherwise leave
//! it held, and with it stop every other print of the process.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Format, Sink};
use crate::record::Stamped;

/// See the module's text.
#[derive(Debug)]
pub struct StdoutSink {
    format: Format,
}

impl StdoutSink {
    /// A sink in this format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }
}

impl Sink for StdoutSink {
    fn name(&self) -> String {
        "stdout".to_owned()
    }

    fn write(&mut self, record: &Stamped) -> io::Result<()> {
        let line = self.format.render(record);
        let stdout = io::stdout();
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(stdout.as_fd(), rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
