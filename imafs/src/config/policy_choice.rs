//! Which policy an option names: a shipped one, the kernel's built-in ones, or a file.

use std::fmt;
use std::path::{Path, PathBuf};

use policy::{DEFAULT_SHIPPED, SHIPPED};

use super::suggest::nearest;

/// The names `ima_policy=` takes that have rules a container can meet.
///
/// Source: `policy_setup`, security/integrity/ima/ima_policy.c, Linux 6.1.
pub const BUILTIN_POLICIES: &[&str] =
    &["tcb", "appraise_tcb", "secure_boot", "critical_data", "fail_securely", "ima_tcb", "ima_appraise_tcb"];

/// A policy by name or place; its text has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyChoice {
    /// None was named: the shipped default.
    Default,
    /// One of the policies that come with imafs.
    Shipped(&'static str),
    /// Built-in policies of the kernel, joined with `|` as in `ima_policy=`.
    Builtin(String),
    /// A file of rules.
    File(PathBuf),
}

/// Whether a text is a shipped policy's name or built-in names joined with `|`, which no file can hide.
pub(super) fn is_policy_name(text: &str) -> bool {
    SHIPPED.iter().any(|(name, _)| *name == text)
        || text.split('|').all(|name| BUILTIN_POLICIES.contains(&name))
}

impl PolicyChoice {
    /// Reads an option: a shipped name, built-in names joined with `|`, else a file.
    ///
    /// # Errors
    /// What to say when the text is no name and, having no slash, names no file here either.
    pub fn from_option(text: &str) -> Result<Self, String> {
        if let Some((name, _)) = SHIPPED.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Shipped(name));
        }
        if text.split('|').all(|name| BUILTIN_POLICIES.contains(&name)) {
            return Ok(Self::Builtin(text.to_owned()));
        }
        if text.contains('/') || Path::new(text).is_file() {
            return Ok(Self::File(text.into()));
        }
        let names = || SHIPPED.iter().map(|(name, _)| *name).chain(BUILTIN_POLICIES.iter().copied());
        Err(match nearest(text, names()) {
            Some(meant) => format!("no policy or file is named '{text}', did you mean '{meant}'?"),
            None => {
                let all: Vec<_> = names().collect();
                format!("no policy or file is named '{text}'; names are {}", all.join(", "))
            }
        })
    }
}

impl fmt::Display for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str(DEFAULT_SHIPPED),
            Self::Shipped(name) => f.write_str(name),
            Self::Builtin(names) => f.write_str(names),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_files_and_a_slash_is_always_a_file() {
        let file = |path: &str| Ok(PolicyChoice::File(path.into()));
        assert_eq!(PolicyChoice::from_option("exec"), Ok(PolicyChoice::Shipped("exec")));
        assert_eq!(
            PolicyChoice::from_option("tcb|appraise_tcb"),
            Ok(PolicyChoice::Builtin("tcb|appraise_tcb".into()))
        );
        assert_eq!(PolicyChoice::from_option("./exec"), file("./exec"));
        assert_eq!(PolicyChoice::from_option("/etc/ima/policy"), file("/etc/ima/policy"));
    }

    #[test]
    fn a_mistyped_name_is_no_file_and_gets_a_suggestion() {
        let refused = PolicyChoice::from_option("immutabel").unwrap_err();
        assert_eq!(refused, "no policy or file is named 'immutabel', did you mean 'immutable'?");
        assert!(PolicyChoice::from_option("tcb|nonsense").is_err());
        assert!(PolicyChoice::from_option("").is_err());
    }
}
