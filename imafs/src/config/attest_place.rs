//! Where a mount answers who asks for evidence.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A socket on which evidence is given to whoever may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AttestPlace {
    /// A unix socket.
    Unix(PathBuf),
    /// A port at an address of this machine.
    Tcp(SocketAddr),
}

impl AttestPlace {
    /// Makes a relative path start at `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(base.join(path)),
            tcp @ Self::Tcp(_) => tcp,
        }
    }
}

impl FromStr for AttestPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "'{address}' is not an address and a port: write tcp:127.0.0.1:4750 or tcp:[::1]:4750"
                )
            }),
            Some(_) | None => Err(format!("'{text}': write unix:PATH or tcp:ADDR:PORT")),
        }
    }
}

impl fmt::Display for AttestPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl TryFrom<String> for AttestPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AttestPlace> for String {
    fn from(place: AttestPlace) -> Self {
        place.to_string()
    }
}

impl JsonSchema for AttestPlace {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AttestPlace".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(unix:.+|tcp:.+:[0-9]+)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_written_as_it_is_read() {
        for text in ["unix:/run/a.sock", "tcp:127.0.0.1:4750", "tcp:[::1]:1"] {
            assert_eq!(text.parse::<AttestPlace>().unwrap().to_string(), text);
        }
        let placed = "unix:a".parse::<AttestPlace>().unwrap().relative_to(Path::new("/base"));
        assert_eq!(placed.to_string(), "unix:/base/a");
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_would_be() {
        let refusal = |text: &str| text.parse::<AttestPlace>().unwrap_err();
        for text in ["", "unix:", "/run/a.sock", "udp:127.0.0.1:1"] {
            assert!(refusal(text).contains("unix:PATH or tcp:ADDR:PORT"), "{text}");
        }
        for text in ["tcp:", "tcp:4750", "tcp:localhost:4750", "tcp:127.0.0.1:99999"] {
            assert!(refusal(text).contains("tcp:127.0.0.1:4750"), "{text}");
        }
    }
}
