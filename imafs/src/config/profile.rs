//! Profiles: the mount options in a YAML file.
//!
//! Unknown keys are refused, for a mistyped key that is silently ignored is a check that silently does not happen.
//! Every error has its line and column. Relative paths start at the profile's own directory, so that a profile and
//! its keys can be moved together.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::Error as _;

use super::options::Options;
use super::suggest::nearest;

/// A profile that has been read; its options are not checked against each other yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The options in it, relative paths completed.
    pub options: Options,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It cannot be read.
    #[error("cannot read profile {}", path.display())]
    Read {
        /// The profile.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not YAML, or not a profile.
    #[error("cannot use profile {}: {}{message}", path.display(), position(*at))]
    Content {
        /// The profile.
        path: PathBuf,
        /// Line and column, counted from 1, where the parser knew them.
        at: Option<(usize, usize)>,
        /// What is wrong there.
        message: String,
        /// The word that was probably meant.
        suggestion: Option<String>,
    },
}

fn position(at: Option<(usize, usize)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!("line {line}, column {column}: "))
}

impl ProfileError {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Read { .. } => "name a readable file with --profile".to_owned(),
            Self::Content { suggestion: Some(word), .. } => format!("did you mean '{word}'?"),
            Self::Content { suggestion: None, .. } => {
                "'imafs profile schema' lists the keys and the values they take".to_owned()
            }
        }
    }
}

impl Profile {
    /// Reads the profile at `path`.
    ///
    /// # Errors
    /// [`ProfileError`], with line and column where the content is at fault.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let refuse = |source| ProfileError::Read { path: path.to_owned(), source };
        // The background process reads it again, which a pipe would not survive.
        if !std::fs::metadata(path).map_err(refuse)?.is_file() {
            return Err(refuse(io::Error::other("not a regular file")));
        }
        let text = std::fs::read_to_string(path).map_err(refuse)?;
        let profile = Self::parse(&text, path)?;
        let whole = std::path::absolute(path).map_err(refuse)?;
        let directory = whole.parent().unwrap_or(Path::new("/"));
        Ok(Self { options: profile.options.relative_to(directory) })
    }

    /// Reads a profile's text; `path` is for messages alone, and relative paths stay as written.
    ///
    /// # Errors
    /// [`ProfileError::Content`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ProfileError> {
        let parsed = serde_yaml::from_str::<Option<Options>>(text)
            .and_then(|options| options.ok_or_else(|| serde_yaml::Error::custom("the profile is empty")));
        match parsed {
            Ok(options) => Ok(Self { options }),
            Err(error) => Err(content_error(&error, path)),
        }
    }
}

fn content_error(error: &serde_yaml::Error, path: &Path) -> ProfileError {
    let at = error.location().map(|at| (at.line(), at.column()));
    let whole = error.to_string();
    // The library appends the position, which is told before the message here.
    let message = without_content(whole.split(" at line ").next().unwrap_or(&whole));
    let (message, suggestion) = match unknown_name(&message) {
        Some((kind, name, known)) => {
            let suggestion = nearest(name, known.iter().copied()).map(str::to_owned);
            let listed = if suggestion.is_none() && kind == "value" {
                format!(", known are {}", known.join(", "))
            } else {
                String::new()
            };
            let key =
                message.split_once(": unknown variant").map_or(String::new(), |(key, _)| format!("{key}: "));
            (format!("{key}unknown {kind} '{name}'{listed}"), suggestion)
        }
        None => (message, None),
    };
    ProfileError::Content { path: path.to_owned(), at, message, suggestion }
}

/// The message without a long text that it quotes: whoever names the wrong file, a private key's, must not find it in a log.
fn without_content(message: &str) -> String {
    let quoted = message.split_once("string \"").and_then(|(before, rest)| {
        let (text, after) = rest.rsplit_once("\", ")?;
        (text.len() > 40).then(|| format!("{before}text, {after}"))
    });
    quoted.as_deref().unwrap_or(message).replace("expected struct Options", "expected a mapping of options")
}

/// Takes serde's "unknown field `x`, expected one of `a`, `b`" apart: what kind of name, the name, the known ones.
fn unknown_name(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let (kind, after) = [("key", "unknown field `"), ("value", "unknown variant `")]
        .iter()
        .find_map(|(kind, mark)| message.split_once(mark).map(|(_, after)| (*kind, after)))?;
    let (name, expected) = after.split_once('`')?;
    let known = expected.split('`').skip(1).step_by(2).collect();
    Some((kind, name, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppraiseMode, ByteSize, ControlMode};

    fn refusal(text: &str) -> (Option<(usize, usize)>, String, Option<String>) {
        match Profile::parse(text, Path::new("p.yaml")).unwrap_err() {
            ProfileError::Content { at, message, suggestion, .. } => (at, message, suggestion),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_profile_holds_what_the_command_line_holds() {
        let text = "policy: exec\nappraise: log\nkey:\n  - a.der\npage-cache-limit: 2MiB\ncontrol: rw\nread-only: true\n";
        let options = Profile::parse(text, Path::new("p")).unwrap().options;
        assert_eq!(options.policy.as_deref(), Some("exec"));
        assert_eq!(options.appraise, Some(AppraiseMode::Log));
        assert_eq!(options.key, [PathBuf::from("a.der")]);
        assert_eq!(options.page_cache_limit, Some(ByteSize(2 << 20)));
        assert_eq!(options.control, Some(ControlMode::Rw));
        assert_eq!(options.read_only, Some(true));
    }

    #[test]
    fn a_list_of_one_may_be_written_as_one() {
        let options = |text: &str| Profile::parse(text, Path::new("p")).unwrap().options;
        assert_eq!(options("key: a.der"), options("key: [a.der]"));
        assert_eq!(options("bank: sha256"), options("bank:\n  - sha256"));
        assert_eq!(options("audit:\npcr: 10").audit, []);
    }

    #[test]
    fn off_is_a_mode_and_not_a_boolean() {
        let options = Profile::parse("appraise: off", Path::new("p")).unwrap().options;
        assert_eq!(options.appraise, Some(AppraiseMode::Off));
    }

    #[test]
    fn a_mistyped_key_is_refused_where_it_stands_with_the_key_that_was_meant() {
        let (at, message, suggestion) = refusal("policy: exec\napraise: log\n");
        assert_eq!((at, message.as_str()), (Some((2, 1)), "unknown key 'apraise'"));
        assert_eq!(suggestion.as_deref(), Some("appraise"));
        assert_eq!(refusal("colour: red\n").2, None);
    }

    #[test]
    fn a_mistyped_value_is_refused_with_its_key_line_and_column() {
        let (at, message, suggestion) = refusal("# comment\nappraise: enforced\n");
        assert_eq!((at, message.as_str()), (Some((2, 11)), "appraise: unknown value 'enforced'"));
        assert_eq!(suggestion.as_deref(), Some("enforce"));
        let (at, message, _) = refusal("pcr: 11\nhash: sha-256\n");
        assert_eq!(at, Some((2, 7)));
        assert_eq!(message, "hash: unknown hash algorithm 'sha-256', did you mean 'sha256'?");
        for (text, key, at) in [
            ("pcr: 10\nbank: [sha1, crc32]\n", "bank", (2, 14)),
            ("pcr: 10\nbank: crc32\n", "bank", (2, 7)),
            ("policy: exec\npcr: 24\n", "pcr", (2, 6)),
            ("policy: exec\npcr: -1\n", "pcr", (2, 6)),
            ("policy: exec\npage-cache-limit: 1MB\n", "page-cache-limit", (2, 19)),
            ("policy: exec\nread-only: maybe\n", "read-only", (2, 12)),
        ] {
            let (found, message, _) = refusal(text);
            assert_eq!(found, Some(at), "{text} {message}");
            assert!(message.starts_with(key), "{message}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for text in [
            "",
            "# nothing\n",
            "- a\n- b\n",
            "policy",
            "policy: [",
            "pcr: 10\npcr: 11\n",
            "a: 1\n---\nb: 2\n",
        ] {
            let (_, message, _) = refusal(text);
            assert!(!message.is_empty(), "{text:?}");
        }
        assert!(refusal("pcr: 10\npcr: 11\n").1.contains("duplicate field"));
    }

    #[test]
    fn a_profile_is_a_regular_file() {
        for path in ["/dev/null", "/proc", "/nonexistent"] {
            let error = Profile::load(Path::new(path)).unwrap_err();
            assert!(matches!(error, ProfileError::Read { .. }), "{path}");
        }
    }

    #[test]
    fn the_commented_example_is_a_profile_that_names_every_key() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/profile.example.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        Profile::parse(&text, &path).unwrap();
        let schema = crate::config::profile_schema();
        for key in schema.pointer("/properties").unwrap().as_object().unwrap().keys() {
            assert!(text.contains(&format!("{key}:")), "the example does not show {key}");
        }
    }
}
