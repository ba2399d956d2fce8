//! Records appended to a file, one write each.
//!
//! `O_APPEND` and a single `write(2)` per record let several mounts share a file. Before each record the
//! name is looked at: when it no longer leads to the open file (rotated away, removed) it is opened anew.
//! A file system that fills up in the middle of a record leaves a torn line; the next record then begins
//! with a newline, so that only the torn one, which is counted as lost, is unreadable. The tail is not cut
//! off, for another mount may have appended behind it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Format, Sink};
use crate::record::Stamped;

/// See the module's text.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    format: Format,
    file: Option<File>,
    torn: bool,
}

impl FileSink {
    /// Opens `path` for appending, creating it with mode 0600: records name files and users.
    ///
    /// # Errors
    /// What open(2) says. A FIFO without a reader gives `ENXIO` at once.
    pub fn open(path: &Path, format: Format) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), format, file: Some(open(path)?), torn: false })
    }

    /// The open file, if the name still leads to it; else a newly opened one.
    fn current(&mut self) -> io::Result<&File> {
        if self.file.as_ref().is_some_and(|file| !leads_to(&self.path, file)) {
            self.file = None;
        }
        match &mut self.file {
            Some(file) => Ok(file),
            closed => {
                let file = open(&self.path)?;
                self.torn = false;
                Ok(closed.insert(file))
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Not blocking matters for FIFOs and terminals only: a full one counts as a lost record.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Whether `path` names the very file that is open. Unreadable names count as leading nowhere.
fn leads_to(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
        _ => false,
    }
}

/// How much of a line went out, and what stopped the rest.
struct Short {
    written: usize,
    error: io::Error,
}

/// One `write(2)`, repeated only where the kernel took a part or was interrupted.
fn write_whole(file: &File, line: &[u8]) -> Result<(), Short> {
    let mut written = 0;
    while let Some(rest) = line.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(Short { written, error: io::ErrorKind::WriteZero.into() }),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Short { written, error: errno.into() }),
        }
    }
    Ok(())
}

impl Sink for FileSink {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn write(&mut self, record: &Stamped) -> io::Result<()> {
        let format = self.format;
        self.current()?;
        let mut line = format.render(record);
        if self.torn {
            line.insert(0, b'\n');
        }
        match write_whole(self.current()?, &line) {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(short) => {
                self.torn |= short.written > 0;
                Err(short.error)
            }
        }
    }

    fn reopen(&mut self) {
        self.file = None;
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) => match file.sync_data() {
                // Pipes and terminals have nothing to make durable.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                result => result,
            },
            None => Ok(()),
        }
    }
}
