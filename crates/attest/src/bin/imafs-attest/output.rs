//! Words for people.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// A mistake in what was asked for, or something that cannot be had, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Mistake {
    /// What is wrong, naming the object.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) next_step: String,
}

/// A [`Mistake`] as an error.
pub(crate) fn mistake(message: impl Into<String>, next_step: impl Into<String>) -> anyhow::Error {
    Mistake { message: message.into(), next_step: next_step.into() }.into()
}

/// Prints an error and, when there is one, what to do about it.
pub(crate) fn complain(error: &anyhow::Error) {
    warn(&describe(error));
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Mistake>());
    if let Some(Mistake { next_step, .. }) = known {
        say(format_args!("  {next_step}"));
    }
}

/// Prints a line of complaint on standard error.
pub(crate) fn warn(text: &str) {
    say(format_args!("imafs-attest: {text}"));
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
        let error = anyhow::Error::from(io::Error::from_raw_os_error(2)).context("cannot read e");
        assert_eq!(describe(&error), "cannot read e: no such file or directory");
        assert_eq!(tidy("RSA key of 1024 bits"), "RSA key of 1024 bits");
    }
}
