//! Telling an engine, where it looks: the log it named, in the form it asked for, and standard error.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Error;
use crate::command_line::{Invocation, LogFormat};

/// The exit code of runc when it could not do what it was asked.
const FAILED: u8 = 1;

/// Tells why and gives the exit code.
pub(crate) fn failure(invocation: &Invocation, error: &Error) -> ExitCode {
    let message = format!("imafs-runtime: {error}");
    line(invocation, "error", &message);
    eprintln!("{message}");
    ExitCode::from(FAILED)
}

/// Tells what went wrong although the command itself succeeded.
pub(crate) fn warning(invocation: &Invocation, error: &Error) {
    line(invocation, "warning", &format!("imafs-runtime: {error}"));
}

fn line(invocation: &Invocation, level: &str, message: &str) {
    let Some(log) = &invocation.log else { return };
    let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let text = match invocation.log_format {
        LogFormat::Json => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    let file = OpenOptions::new().append(true).create(true).open(log);
    // Where the log cannot be written there is standard error, and nothing else to tell it to.
    let _told = file.and_then(|mut file| writeln!(file, "{text}"));
}
