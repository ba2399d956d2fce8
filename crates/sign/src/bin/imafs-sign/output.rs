//! Words for people and lines for programs.

use std::{
    fmt::Arguments,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::Duration,
};

use ::sign::{certify::CertifyError, file::FileError, key::PrivateKeyError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyring::CertError;
use rustix::io::Errno;
use serde_json::{Map, Value};

/// Standard output, flushed per line on a terminal only.
pub(crate) struct Results {
    out: BufWriter<StdoutLock<'static>>,
    progress: ProgressBar,
    interactive: bool,
}

impl Results {
    pub(crate) fn new(progress: &ProgressBar) -> Self {
        let stdout = io::stdout();
        let interactive = stdout.is_terminal();
        Self { out: BufWriter::new(stdout.lock()), progress: progress.clone(), interactive }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        let Self { out, progress, interactive } = self;
        if !*interactive {
            return writeln!(out, "{line}");
        }
        progress.suspend(|| writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    /// Writes one JSON object as a line.
    pub(crate) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// Writes what is still buffered.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A progress bar on standard error when that is a terminal, otherwise nothing.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let template = if plain {
        "{prefix} {pos}/{len} {wide_bar} {elapsed}"
    } else {
        "{prefix} {pos}/{len} {wide_bar:.cyan/blue} {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A path as it may stand on a terminal: control characters of hostile names are escaped.
pub(crate) fn show_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) { format!("{text:?}") } else { text.into_owned() }
}

/// A JSON object about a file, with `details` merged in. A name that is not UTF-8 also comes in hex,
/// as `path_hex`.
pub(crate) fn about(path: &Path, status: &str, details: Value) -> Value {
    let mut object = Map::new();
    object.insert("path".to_owned(), path.to_string_lossy().into());
    if path.to_str().is_none() {
        object.insert("path_hex".to_owned(), hex::encode(path.as_os_str().as_bytes()).into());
    }
    object.insert("status".to_owned(), status.into());
    if let Value::Object(details) = details {
        object.extend(details);
    }
    Value::Object(object)
}

/// Prints an error and, when there is one, what to do about it.
pub(crate) fn complain(error: &anyhow::Error) {
    warn(&describe(error));
    if let Some(hint) = hint(error) {
        advise(hint);
    }
}

/// Prints a line of complaint on standard error.
pub(crate) fn warn(text: &str) {
    say(format_args!("imafs-sign: {text}"));
}

/// Prints what to do next below a complaint.
pub(crate) fn advise(text: &str) {
    say(format_args!("  {text}"));
}

fn say(line: Arguments<'_>) {
    // With standard error gone there is nobody left to tell; the exit status still does.
    writeln!(io::stderr(), "{line}").ok();
}

/// The error and its causes on one line.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    error.chain().map(|cause| tidy(&cause.to_string())).collect::<Vec<_>>().join(": ")
}

/// "No such file or directory (os error 2)" as it stands in the middle of a sentence.
fn tidy(text: &str) -> String {
    let text = text.split_once(" (os error ").map_or(text, |(words, _)| words);
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// A mistake in what was asked for, and what to ask for instead.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Mistake {
    /// What is wrong, naming the object.
    pub message: String,
    /// What to do about it.
    pub next_step: &'static str,
}

/// What to do next, for the errors whose remedy we know.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(PrivateKeyError::Encrypted) = cause.downcast_ref() {
            return Some("decrypt it first: openssl pkey -in FILE -out PLAIN-FILE");
        }
        if let Some(PrivateKeyError::Missing) = cause.downcast_ref() {
            return Some("give the private key here; the certificate goes to --cert");
        }
        if let Some(Mistake { next_step, .. }) = cause.downcast_ref() {
            return Some(next_step);
        }
        if cause.downcast_ref().is_some_and(|e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied) {
            return Some("run this as the owner of the file, or as root");
        }
        if let Some(CertError::PrivateKey) = cause.downcast_ref() {
            return Some("give the certificate here; the key goes to --key");
        }
        if let Some(CertifyError::NotAuthority) = cause.downcast_ref() {
            return Some("make an authority with: imafs-sign keygen --ca");
        }
        if let Some(FileError::WriteLabel(errno)) = cause.downcast_ref() {
            return match *errno {
                Errno::PERM => Some("writing security.ima needs root (CAP_SYS_ADMIN), and no immutable flag"),
                Errno::OPNOTSUPP => Some(
                    "the filesystem stores no such attributes: try --labels user, or 'imafs-sign manifest'",
                ),
                Errno::ROFS => Some("the filesystem is mounted read-only"),
                _ => None,
            };
        }
        None
    })
}

/// Whether the reader of our output went away, which is no reason to complain.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_part_of_a_sentence() {
        let error = anyhow::Error::from(io::Error::from_raw_os_error(2)).context("cannot read key.pem");
        assert_eq!(describe(&error), "cannot read key.pem: no such file or directory");
        assert_eq!(tidy("RSA key of 1024 bits"), "RSA key of 1024 bits");
    }

    #[test]
    fn hostile_names_cannot_drive_the_terminal() {
        assert_eq!(show_path(Path::new("a b")), "a b");
        assert_eq!(show_path(Path::new("a\u{1b}[2J")), "\"a\\u{1b}[2J\"");
    }
}
