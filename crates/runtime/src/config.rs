//! `/etc/imafs/runtime.yaml`: what the host permits.
//!
//! ```yaml
//! runtime: runc              # the real runtime
//! default: exec              # for containers that name no profile; left out, they run unchecked
//! required: true             # refuse containers that name no profile and have no default
//! choosable: [immutable]     # profiles a container may name instead of the default
//! profiles:
//!   exec:
//!     file: profiles/exec.yaml      # as `imafs mount --profile` takes it; from this file's directory
//!     permit:                       # what annotations may choose beyond what is stricter anyway
//!       policy: [immutable]
//!       keys: [/etc/imafs/keys/web]
//!       appraise: [log]
//!       measure: [/etc/imafs/measure.policy]
//!       tpm: [swtpm]
//! ```
//!
//! Unknown keys are refused: a mistyped one would silently not check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// Where it is looked for.
pub const DEFAULT_PATH: &str = "/etc/imafs/runtime.yaml";

/// The host's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The real runtime, by name or path.
    pub runtime: Option<PathBuf>,
    /// The program `imafs`; else the one beside this program, else the one on the path.
    pub imafs: Option<PathBuf>,
    /// The profile of containers that name none.
    pub default: Option<String>,
    /// Refuse to start a container that has no profile.
    pub required: bool,
    /// Profiles that a container may name instead of the one it would have.
    pub choosable: Vec<String>,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
}

/// One profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The profile for `imafs mount`.
    pub file: PathBuf,
    /// What annotations may choose.
    #[serde(default)]
    pub permit: Permit,
}

/// Values that annotations may take, each spelled as the annotation has to spell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permit {
    /// Policies: names or files.
    pub policy: Vec<String>,
    /// Certificates and directories of them.
    pub keys: Vec<String>,
    /// Appraisal modes weaker than the profile's.
    pub appraise: Vec<String>,
    /// Files of rules to measure by.
    pub measure: Vec<String>,
    /// TPMs.
    pub tpm: Vec<String>,
}

impl Config {
    /// Reads the file; paths in it that are relative start at its directory.
    ///
    /// # Errors
    /// [`Error::ReadConfig`], [`Error::Config`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unread = |source| Error::ReadConfig { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unread)?;
        let whole = std::path::absolute(path).map_err(unread)?;
        let directory = whole.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, directory).map_err(|reason| Error::Config { path: path.to_owned(), reason })
    }

    pub(crate) fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let mut config: Self = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        for profile in config.profiles.values_mut() {
            profile.file = directory.join(&profile.file);
        }
        let named = config.default.iter().chain(&config.choosable);
        for name in named {
            if !config.profiles.contains_key(name) {
                return Err(format!("there is no profile '{name}': {}", config.known()));
            }
        }
        Ok(config)
    }

    /// The names of all profiles, for messages.
    #[must_use]
    pub fn known(&self) -> String {
        let names: Vec<_> = self.profiles.keys().map(String::as_str).collect();
        if names.is_empty() {
            "the file has no profiles".to_owned()
        } else {
            format!("known are {}", names.join(", "))
        }
    }

    /// The real runtime.
    #[must_use]
    pub fn real_runtime(&self) -> PathBuf {
        self.runtime.clone().unwrap_or_else(|| PathBuf::from("runc"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/imafs"))
    }

    #[test]
    fn a_profile_file_is_found_beside_the_configuration() {
        let config = parse("default: a\nprofiles:\n  a: {file: p/a.yaml}\n  b: {file: /b.yaml}\n").unwrap();
        assert_eq!(config.profiles["a"].file, Path::new("/etc/imafs/p/a.yaml"));
        assert_eq!(config.profiles["b"].file, Path::new("/b.yaml"));
        assert_eq!(config.real_runtime(), Path::new("runc"));
    }

    #[test]
    fn unknown_keys_and_profiles_are_refused() {
        for text in [
            "defualt: a\nprofiles: {a: {file: a}}\n",
            "default: b\nprofiles: {a: {file: a}}\n",
            "choosable: [a, b]\nprofiles: {a: {file: a}}\n",
            "profiles: {a: {file: a, permit: {polices: [x]}}}\n",
            "profiles: {a: {}}\n",
            "- a\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("default: b\nprofiles: {a: {file: a}}\n").unwrap_err().contains("known are a"));
    }
}
