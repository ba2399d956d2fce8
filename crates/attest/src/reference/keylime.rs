//! Keylime's runtime policies, as its verifier reads them (version 1, Keylime 7.14).
//!
//! Held against paths as they stand in the list, and against digests by their bytes alone. What a policy may have that
//! is not looked at here makes it unusable: a rule that is not kept must not look as if it were.
//!
//! Source: `RUNTIME_POLICY_SCHEMA`, `_validate_ima_ng`, `_validate_ima_buf` in keylime/ima/ima.py.

use std::collections::HashMap;

use keyring::Certificate;
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::Subject;
use crate::verdict::EntryCause;

/// What Keylime puts where the version is.
const VERSION: u64 = 1;

/// A runtime policy.
#[derive(Debug)]
pub struct RuntimePolicy {
    digests: Table,
    keyrings: Table,
    buffers: Table,
    excludes: Vec<Regex>,
    ignored_keyrings: Vec<String>,
}

/// Digests by name.
type Table = HashMap<Box<[u8]>, Vec<Box<[u8]>>>;

/// Why a runtime policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimePolicyError {
    /// It is not JSON, or not of the schema.
    #[error("not a Keylime runtime policy")]
    Json(#[source] serde_json::Error),
    /// Another version.
    #[error("a runtime policy of version {0}, and only version {VERSION} is known here")]
    Version(u64),
    /// A digest that is not hexadecimal.
    #[error("a digest of {0:?} is not hexadecimal")]
    Digest(String),
    /// An exclude that cannot be read as a regular expression here.
    #[error("the exclude {pattern:?} cannot be used")]
    Exclude {
        /// The exclude.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: regex::Error,
    },
    /// Something that would have to be looked at and is not.
    #[error("{0} in a runtime policy are not known here")]
    Unsupported(&'static str),
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    payload: Option<serde_json::Value>,
    #[serde(default)]
    meta: Meta,
    #[serde(default)]
    digests: HashMap<String, Vec<String>>,
    #[serde(default)]
    excludes: Vec<String>,
    #[serde(default)]
    keyrings: HashMap<String, Vec<String>>,
    #[serde(default)]
    ima: Ima,
    #[serde(default, rename = "ima-buf")]
    buffers: HashMap<String, Vec<String>>,
    #[serde(default, rename = "verification-keys")]
    verification_keys: String,
}

#[derive(Deserialize, Default)]
struct Meta {
    version: u64,
}

#[derive(Deserialize, Default)]
struct Ima {
    #[serde(default)]
    ignored_keyrings: Vec<String>,
    #[serde(default)]
    dm_policy: Option<serde_json::Value>,
}

impl RuntimePolicy {
    /// Reads one.
    ///
    /// # Errors
    /// [`RuntimePolicyError`].
    pub fn parse(json: &[u8]) -> Result<Self, RuntimePolicyError> {
        let document: Document = serde_json::from_slice(json).map_err(RuntimePolicyError::Json)?;
        if document.payload.is_some() {
            return Err(RuntimePolicyError::Unsupported("signed envelopes (DSSE)"));
        }
        if document.meta.version != VERSION {
            return Err(RuntimePolicyError::Version(document.meta.version));
        }
        if !document.verification_keys.is_empty() {
            return Err(RuntimePolicyError::Unsupported("verification keys"));
        }
        if document.ima.dm_policy.is_some() {
            return Err(RuntimePolicyError::Unsupported("device mapper policies"));
        }
        Ok(Self {
            digests: table(document.digests)?,
            keyrings: table(document.keyrings)?,
            buffers: table(document.buffers)?,
            excludes: document.excludes.into_iter().map(exclude).collect::<Result<_, _>>()?,
            ignored_keyrings: document.ima.ignored_keyrings,
        })
    }

    pub(super) fn judge(&self, subject: &Subject<'_>) -> EntryCause {
        let Some(buffer) = subject.buffer else { return self.look_up(&self.digests, subject) };
        if Certificate::from_der(buffer).is_err() {
            return self.look_up(&self.buffers, subject);
        }
        let ignored = |name: &String| name == "*" || name.as_bytes() == subject.name;
        if self.ignored_keyrings.iter().any(ignored) {
            return EntryCause::Excluded;
        }
        match self.look_up(&self.keyrings, subject) {
            EntryCause::Listed => EntryCause::KnownKey,
            other => other,
        }
    }

    fn look_up(&self, table: &Table, subject: &Subject<'_>) -> EntryCause {
        match table.get(subject.name) {
            Some(digests) if digests.iter().any(|digest| **digest == *subject.digest.bytes()) => {
                EntryCause::Listed
            }
            _ if self.excludes.iter().any(|exclude| exclude.is_match(subject.name)) => EntryCause::Excluded,
            Some(_) => EntryCause::WrongDigest,
            None => EntryCause::NotInReference,
        }
    }
}

fn table(digests: HashMap<String, Vec<String>>) -> Result<Table, RuntimePolicyError> {
    let row = |(name, digests): (String, Vec<String>)| {
        let decoded: Result<Vec<_>, _> =
            digests.iter().map(|digest| hex::decode(digest).map(Vec::into_boxed_slice)).collect();
        let decoded = decoded.map_err(|_| RuntimePolicyError::Digest(name.clone()))?;
        Ok((name.into_bytes().into_boxed_slice(), decoded))
    };
    digests.into_iter().map(row).collect()
}

/// Python's `match`: from the beginning, not necessarily to the end.
fn exclude(pattern: String) -> Result<Regex, RuntimePolicyError> {
    let anchored = RegexBuilder::new(&format!("^(?:{pattern})")).unicode(false).build();
    anchored.map_err(|source| RuntimePolicyError::Exclude { pattern, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<RuntimePolicy, RuntimePolicyError> {
        let mut policy = serde_json::json!({
            "meta": { "version": 1, "generator": 2 },
            "release": 0,
            "digests": { "/a": ["00".repeat(32)] },
            "excludes": ["/tmp/.*"],
            "keyrings": {},
            "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
            "ima-buf": {},
            "verification-keys": "",
        });
        change(&mut policy);
        RuntimePolicy::parse(policy.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_looked_at_makes_a_policy_unusable() {
        assert!(parse(|_| {}).is_ok());
        let refused = |change: fn(&mut serde_json::Value)| parse(change).unwrap_err().to_string();
        assert!(refused(|p| p["verification-keys"] = "{}".into()).contains("verification keys"));
        assert!(refused(|p| p["ima"]["dm_policy"] = serde_json::json!({})).contains("device mapper"));
        assert!(refused(|p| p["payload"] = "eyJ9".into()).contains("DSSE"));
        assert!(refused(|p| p["meta"]["version"] = 2.into()).contains("version 2"));
        assert!(refused(|p| p["digests"]["/a"] = serde_json::json!(["xyz"])).contains("hexadecimal"));
        // Python looks ahead, and this does not.
        assert!(refused(|p| p["excludes"] = serde_json::json!(["/(?!etc).*"])).contains("cannot be used"));
        assert!(RuntimePolicy::parse(b"[]").is_err());
    }

    #[test]
    fn excludes_are_matched_from_the_beginning_as_python_does() {
        let policy = parse(|p| p["excludes"] = serde_json::json!(["/tmp", "a|/b"])).unwrap();
        let excluded = |path: &str| policy.excludes.iter().any(|regex| regex.is_match(path.as_bytes()));
        assert!(excluded("/tmp/x") && excluded("/tmpfile") && excluded("/b"));
        assert!(!excluded("/var/tmp") && !excluded("/xa"));
    }
}
