//! Where records go: the [`Sink`] trait and what an option string means.
//!
//! A sink is owned by one thread and may be slow; it may fail and be asked again. Counting what it missed
//! and telling it is not its business (`outlet.rs`).

pub mod file;
pub mod journal;
pub mod socket;
pub mod stdout;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::record::Stamped;

pub use journal::JournalSink;
pub use socket::{KernelSink, SocketError};
pub use stdout::StdoutSink;

/// Something that takes records one at a time.
pub trait Sink: Send + 'static {
    /// What to call it in messages and counts: `file:/var/log/x`, `stdout`, `journal`, `kernel`.
    fn name(&self) -> String;

    /// Writes one record, whole.
    ///
    /// # Errors
    /// Whatever kept the record out. The record then counts as lost and is not offered again.
    fn write(&mut self, record: &Stamped) -> io::Result<()>;

    /// Opens anew what was opened by name, before the next record.
    fn reopen(&mut self) {}

    /// Makes what was written durable, where that means something.
    ///
    /// # Errors
    /// Whatever the device says. Nothing is counted as lost for it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a sink spells records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// The line auditd would write.
    Kernel,
}

impl Format {
    /// The record and a newline.
    #[must_use]
    pub fn render(self, record: &Stamped) -> Vec<u8> {
        let mut line = match self {
            Format::Json => record.json().as_bytes().to_vec(),
            Format::Kernel => record.kernel_line(),
        };
        line.push(b'\n');
        line
    }
}

impl FromStr for Format {
    type Err = SinkSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Format::Json),
            "kernel" => Ok(Format::Kernel),
            _ => Err(SinkSpecError::Format(text.to_owned())),
        }
    }
}

/// A sink as an option names it: `file:PATH`, `stdout`, `journal` or `kernel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSpec {
    /// Append to this file.
    File(PathBuf),
    /// Write to standard output.
    Stdout,
    /// Send to the journal.
    Journal,
    /// Hand to the kernel's audit system.
    Kernel,
}

/// An option string that names no sink or no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkSpecError {
    /// Not one of the four forms.
    #[error("unknown audit sink {0:?}: expected file:PATH, stdout, journal or kernel")]
    Sink(String),
    /// `file:` without a path.
    #[error("audit sink file: names no path")]
    NoPath,
    /// Not one of the two formats.
    #[error("unknown audit format {0:?}: expected json or kernel")]
    Format(String),
}

impl FromStr for SinkSpec {
    type Err = SinkSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("file:")) {
            (_, Some("")) => Err(SinkSpecError::NoPath),
            (_, Some(path)) => Ok(SinkSpec::File(path.into())),
            ("stdout", None) => Ok(SinkSpec::Stdout),
            ("journal", None) => Ok(SinkSpec::Journal),
            ("kernel", None) => Ok(SinkSpec::Kernel),
            _ => Err(SinkSpecError::Sink(text.to_owned())),
        }
    }
}

impl SinkSpec {
    /// Opens the sink.
    ///
    /// # Errors
    /// What opening the file or reaching the socket said; the caller knows the name. A journal that ends later is no
    /// error: records sent meanwhile count as lost. A kernel that would not take records is one, a [`SocketError`]
    /// within.
    pub fn open(&self, format: Format) -> io::Result<Box<dyn Sink>> {
        Ok(match self {
            SinkSpec::File(path) => Box::new(file::FileSink::open(path, format)?),
            SinkSpec::Stdout => Box::new(StdoutSink::new(format)),
            SinkSpec::Journal => Box::new(JournalSink::new(format)?),
            SinkSpec::Kernel => Box::new(KernelSink::open().map_err(io::Error::other)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_named_as_on_the_command_line() {
        assert_eq!("file:/a:b".parse(), Ok(SinkSpec::File("/a:b".into())));
        assert_eq!("stdout".parse(), Ok(SinkSpec::Stdout));
        assert_eq!("journal".parse(), Ok(SinkSpec::Journal));
        assert_eq!("kernel".parse(), Ok(SinkSpec::Kernel));
        assert_eq!("file:".parse::<SinkSpec>(), Err(SinkSpecError::NoPath));
        assert_eq!("syslog".parse::<SinkSpec>(), Err(SinkSpecError::Sink("syslog".into())));
        assert_eq!("kernel".parse(), Ok(Format::Kernel));
        assert_eq!("yaml".parse::<Format>(), Err(SinkSpecError::Format("yaml".into())));
    }
}
