//! Where the PCRs are: one word or one address.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tpm::Tcti;

use super::suggest::nearest;

/// Where the PCRs are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TpmChoice {
    /// In the imafs process.
    #[default]
    Soft,
    /// Nowhere: the list alone.
    None,
    /// In a swtpm that is started for this mount, with its state in this directory or in one that passes.
    Own(Option<PathBuf>),
    /// In a TPM that is there.
    Tcti(Tcti),
}

impl TpmChoice {
    /// Makes a relative path start at `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::Own(Some(directory)) => Self::Own(Some(base.join(directory))),
            Self::Tcti(tcti) => Self::Tcti(tcti.relative_to(base)),
            other @ (Self::Soft | Self::None | Self::Own(None)) => other,
        }
    }
}

impl FromStr for TpmChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // tss2's own meaning of a bare 'swtpm', a port of the loopback, is one that nobody should use.
        match (text, text.strip_prefix("swtpm:")) {
            ("soft", _) => Ok(Self::Soft),
            ("none", _) => Ok(Self::None),
            ("swtpm", _) => Ok(Self::Own(None)),
            (_, Some("")) => Err(format!("'{text}': write swtpm, swtpm:STATE-DIR or swtpm:path=SOCKET")),
            (_, Some(directory)) if directory.starts_with(['/', '.']) || !directory.contains('=') => {
                Ok(Self::Own(Some(directory.into())))
            }
            (_, Some(_) | None) => {
                text.parse().map(Self::Tcti).map_err(|error: tpm::TctiError| {
                    match nearest(text, ["soft", "none", "swtpm"]) {
                        Some(meant) => format!("unknown TPM '{text}', did you mean '{meant}'?"),
                        None => format!("{error}; or soft, none, swtpm"),
                    }
                })
            }
        }
    }
}

impl fmt::Display for TpmChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soft => f.write_str("soft"),
            Self::None => f.write_str("none"),
            Self::Own(None) => f.write_str("swtpm"),
            Self::Own(Some(directory)) => write!(f, "swtpm:{}", directory.display()),
            Self::Tcti(tcti) => tcti.fmt(f),
        }
    }
}

impl TryFrom<String> for TpmChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TpmChoice> for String {
    fn from(choice: TpmChoice) -> Self {
        choice.to_string()
    }
}

impl JsonSchema for TpmChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TpmChoice".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(soft|none|swtpm|(swtpm|device|mssim|tabrmd):.+|device|mssim|tabrmd)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_a_tpm_is_written_as_it_is_read() {
        for text in
            ["soft", "none", "swtpm", "swtpm:/var/lib/tpm", "swtpm:path=/run/sock", "device:/dev/tpm0"]
        {
            assert_eq!(text.parse::<TpmChoice>().unwrap().to_string(), text);
        }
        assert_eq!("swtpm:state".parse(), Ok(TpmChoice::Own(Some("state".into()))));
        assert_eq!("swtpm:/a=b".parse(), Ok(TpmChoice::Own(Some("/a=b".into()))));
        assert!(matches!("swtpm:port=99".parse(), Ok(TpmChoice::Tcti(Tcti::Swtpm { port: 99, .. }))));
    }

    #[test]
    fn what_is_no_tpm_is_refused_with_what_would_be() {
        let refusal = |text: &str| text.parse::<TpmChoice>().unwrap_err();
        assert_eq!(refusal("sotf"), "unknown TPM 'sotf', did you mean 'soft'?");
        assert!(refusal("/dev/tpm0").contains("device:/dev/tpmrm0"));
        assert!(refusal("swtpm:").contains("STATE-DIR"));
        assert!(refusal("swtpm:prot=1").contains("no option 'prot'"));
    }

    #[test]
    fn relative_paths_start_where_they_were_written() {
        let placed =
            |text: &str| text.parse::<TpmChoice>().unwrap().relative_to(Path::new("/base")).to_string();
        assert_eq!(placed("swtpm:state"), "swtpm:/base/state");
        assert_eq!(placed("swtpm:path=sock"), "swtpm:path=/base/sock");
        assert_eq!(placed("device:/dev/tpm0"), "device:/dev/tpm0");
    }
}
