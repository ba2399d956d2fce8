//! The values options take, each refused where it is read so that the error has its line and column.
//!
//! Names are evmctl's and the kernel's where those have one (`enforce`, `sha256`, `ima-ng`).

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use ima::{HashAlgo, PcrIndex, Template};

use super::suggest::nearest;

/// Why a value was refused; the message names the value and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn new(message: String) -> Self {
        Self(message)
    }
}

/// Reads a value by its `FromStr` within the parser, which then knows where in the file it stands.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err = ValueError>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Gives a value type its reading from the one `FromStr` it has.
macro_rules! parsed_value {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Parsed(PhantomData))
            }
        }
    };
}

parsed_value!(ByteSize);
parsed_value!(Pcr);

/// Gives a text-like value type its reading, writing and schema.
macro_rules! text_value {
    ($type:ty, $schema:literal, $pattern:literal) => {
        parsed_value!($type);
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// A hash algorithm that this build can compute, by the kernel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct HashName(pub HashAlgo);

text_value!(HashName, "HashName", "^[a-z0-9-]+$");

impl FromStr for HashName {
    type Err = ValueError;
    fn from_str(name: &str) -> Result<Self, ValueError> {
        let available = || HashAlgo::ALL.iter().filter(|algo| algo.is_available());
        match HashAlgo::from_name(name) {
            Some(algo) if algo.is_available() => Ok(Self(algo)),
            Some(_) => Err(ValueError(format!("{name} cannot be computed here"))),
            None => Err(unknown("hash algorithm", name, available().map(|algo| algo.name()))),
        }
    }
}

impl fmt::Display for HashName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// What an image is called in the manifest of its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct ImageName(String);

text_value!(ImageName, "ImageName", "^[A-Za-z0-9._/:@-]{1,128}$");

impl ImageName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = ValueError;
    fn from_str(name: &str) -> Result<Self, ValueError> {
        match manifest::check_image(name.as_bytes()) {
            Ok(()) => Ok(Self(name.to_owned())),
            Err(error) => Err(ValueError(error.to_string())),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A measurement template, by the kernel's name (`ima-sig`) or as a field list (`d-ng|n-ng`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct TemplateName(String);

text_value!(TemplateName, "TemplateName", "^[a-z0-9|-]+$");

impl TemplateName {
    /// The template of this name, which parsing has found to exist; `None` cannot happen after that.
    pub fn template(&self) -> Option<Template> {
        Template::listed(&self.0)
    }
}

impl FromStr for TemplateName {
    type Err = ValueError;
    fn from_str(name: &str) -> Result<Self, ValueError> {
        match Template::listed(name) {
            Some(_) => Ok(Self(name.to_owned())),
            None => Err(unknown(
                "template",
                name,
                ["ima", "ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-buf"],
            )),
        }
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of bytes: plain, or with `KiB`, `MiB`, `GiB` (also `K`, `M`, `G`; all of them powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u64")]
pub struct ByteSize(pub u64);

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError(format!("'{text}' is not a size: write bytes or a form like 1MiB"));
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => return Err(refuse()),
        };
        let number: u64 = number.parse().map_err(|_| refuse())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(refuse)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+ ?(B|K|KiB|M|MiB|G|GiB)?$" }
        ] })
    }
}

/// A PCR of a TPM, 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u32")]
pub struct Pcr(pub PcrIndex);

impl From<Pcr> for u32 {
    fn from(pcr: Pcr) -> Self {
        pcr.0.value()
    }
}

impl FromStr for Pcr {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let index = text.parse().ok().filter(|index| *index < 24).and_then(PcrIndex::new);
        index.map(Self).ok_or_else(|| ValueError(format!("'{text}' is no PCR: write a number from 0 to 23")))
    }
}

impl JsonSchema for Pcr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pcr".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 0, "maximum": 23 })
    }
}

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum AuditTarget {
    /// Appended to this file.
    File(PathBuf),
    /// Written to standard output; with `--foreground` only.
    Stdout,
    /// Sent to the systemd journal.
    Journal,
    /// Handed to the kernel's audit system.
    Kernel,
}

text_value!(AuditTarget, "AuditTarget", "^(file:.+|stdout|journal|kernel)$");

impl FromStr for AuditTarget {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "journal" => Ok(Self::Journal),
            "kernel" => Ok(Self::Kernel),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
                Some(_) | None => Err(ValueError(format!(
                    "'{text}' is no audit sink: write file:PATH, stdout, journal or kernel"
                ))),
            },
        }
    }
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Stdout => f.write_str("stdout"),
            Self::Journal => f.write_str("journal"),
            Self::Kernel => f.write_str("kernel"),
        }
    }
}

/// The name of one mount on this host: letters, digits, `.`, `_`, `-`, at most 64, not starting with a dot.
///
/// It names files under the run directory, which is why it can hold no slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct NsId(String);

text_value!(NsId, "NsId", "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$");

impl NsId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NsId {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(good) && !text.starts_with('.') {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError(format!("'{text}' is no mount id: use up to 64 letters, digits, '.', '_' and '-'")))
    }
}

impl fmt::Display for NsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unknown(kind: &str, name: &str, known: impl IntoIterator<Item = &'static str>) -> ValueError {
    let known: Vec<_> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(meant) => ValueError(format!("unknown {kind} '{name}', did you mean '{meant}'?")),
        None => ValueError(format!("unknown {kind} '{name}', known are {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024_and_nothing_else_is_guessed() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("1KiB", 1024), ("1MiB", 1 << 20), ("2 G", 2 << 30), ("7B", 7)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "1MB", "1.5M", "-1", "99999999999999999999", "17179869184G"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hash_is_named_as_the_kernel_names_it() {
        assert_eq!("sha256".parse(), Ok(HashName(HashAlgo::Sha256)));
        let error = "sha-256".parse::<HashName>().unwrap_err().to_string();
        assert_eq!(error, "unknown hash algorithm 'sha-256', did you mean 'sha256'?");
        assert!("tgr192".parse::<HashName>().is_ok());
        assert!("md4".parse::<HashName>().unwrap_err().to_string().contains("cannot be computed"));
    }

    #[test]
    fn an_id_cannot_leave_its_directory() {
        for good in ["web-1", "a", "_x.y"] {
            assert!(good.parse::<NsId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".x", "a/b", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<NsId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn audit_targets_print_as_they_are_written() {
        for text in ["file:/var/log/x.json", "stdout", "journal", "kernel"] {
            assert_eq!(text.parse::<AuditTarget>().unwrap().to_string(), text);
        }
        for text in ["file:", "syslog", ""] {
            assert!(text.parse::<AuditTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tpm_has_24_pcrs() {
        assert_eq!("23".parse::<Pcr>().unwrap().0.value(), 23);
        assert!("24".parse::<Pcr>().is_err());
        assert!("ten".parse::<Pcr>().is_err());
    }
}
