//! What went wrong, in one line, and what to do about it, in another.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::config::{InvalidConfig, ProfileError};

/// A failure as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One line, lower case, naming the object.
    message: String,
    /// What to do next, a line each.
    next_steps: Vec<String>,
    code: u8,
}

impl Failure {
    /// Exit code of what could not be found out or done.
    pub const CANNOT: u8 = 2;

    /// A failure without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next_steps: Vec::new(), code: Self::CANNOT }
    }

    /// An action on an object that failed for a reason: `cannot mount /x: no such directory`.
    pub fn cannot(action: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::new(format!("cannot {action}: {reason}"))
    }

    /// An error with all its causes in one line.
    pub fn caused(error: &dyn Error) -> Self {
        Self::new(chain(error))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, next_step: impl Into<String>) -> Self {
        self.next_steps.push(next_step.into());
        self
    }

    /// Ends the program with another code than [`Failure::CANNOT`].
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Tells it on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "imafs: {}", self.message)?;
        for step in &self.next_steps {
            write!(f, "\n  {step}")?;
        }
        Ok(())
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        Self::caused(&error).advise(error.next_step())
    }
}

impl From<InvalidConfig> for Failure {
    fn from(InvalidConfig(problems): InvalidConfig) -> Self {
        let mut lines = problems.iter().map(|problem| (problem.key, &problem.message, &problem.next_step));
        let Some((key, message, step)) = lines.next() else {
            return Self::new("the options contradict each other");
        };
        let first = Self::new(format!("{key}: {message}")).advise(step);
        lines.fold(first, |failure, (key, message, step)| {
            failure.advise(format!("also {key}: {message}; {step}"))
        })
    }
}

/// An error and its causes, joined with colons, each said once and in plain words.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = plain_words(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = plain_words(&error.to_string());
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// What the system says as a person says it: `No such file or directory (os error 2)` without capital and number.
pub(crate) fn plain_words(text: &str) -> String {
    let Some((text, _)) = text.split_once(" (os error") else { return text.to_owned() };
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_first_and_the_next_step_on_its_own_line() {
        let failure = Failure::cannot("mount /x", "no such directory").advise("make it: mkdir -p /x");
        assert_eq!(failure.to_string(), "imafs: cannot mount /x: no such directory\n  make it: mkdir -p /x");
    }

    #[test]
    fn the_system_is_quoted_without_capital_and_number() {
        assert_eq!(
            plain_words(&std::io::Error::from_raw_os_error(2).to_string()),
            "no such file or directory"
        );
        assert_eq!(plain_words(&std::io::Error::from_raw_os_error(5).to_string()), "input/output error");
        assert_eq!(plain_words("PCR 24"), "PCR 24");
    }

    #[test]
    fn every_problem_of_a_configuration_is_told() {
        let config = crate::config::MountConfig::resolve(crate::config::Options::default(), false);
        let text = Failure::from(config.unwrap_err()).to_string();
        assert!(text.starts_with("imafs: source: no source is named"), "{text}");
        assert!(text.contains("\n  also target: no target is named"), "{text}");
    }
}
