//! How a TPM is reached, as tss2 spells it: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`,
//! `swtpm:path=/run/swtpm.sock`.
//!
//! Source: Tss2_TctiLdr_Initialize(3), Tss2_Tcti_Device_Init(3), Tss2_Tcti_Swtpm_Init(3). Stricter than those: an
//! unknown key is an error here, there it is ignored and the default address taken instead.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tss_esapi::tcti_ldr::TctiNameConf;

/// The device that several may use at once: the kernel keeps their commands apart.
const DEVICE: &str = "/dev/tpmrm0";

/// Where the simulators listen unless told otherwise.
const HOST: &str = "localhost";
const PORT: u16 = 2321;

/// One way to a TPM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tcti {
    /// A device node.
    Device(PathBuf),
    /// An swtpm on a TCP port; its control channel is the next one.
    Swtpm {
        /// Name or address.
        host: String,
        /// Its data channel.
        port: u16,
    },
    /// An swtpm on a unix socket; its control channel has the same path with `.ctrl` after it.
    SwtpmPath(PathBuf),
    /// The TPM reference simulator.
    Mssim {
        /// Name or address.
        host: String,
        /// Its data channel.
        port: u16,
    },
    /// The resource manager `tpm2-abrmd`, with its own options.
    Tabrmd(String),
}

/// The text names no way to a TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TctiError(String);

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "device" if rest.is_empty() => Ok(Self::Device(DEVICE.into())),
            "device" => Ok(Self::Device(rest.into())),
            "swtpm" => simulator(text, rest, true),
            "mssim" => simulator(text, rest, false),
            "tabrmd" => Ok(Self::Tabrmd(rest.to_owned())),
            _ => Err(TctiError(format!(
                "'{text}' names no TPM: write device:/dev/tpmrm0, swtpm:path=SOCKET or swtpm:host=NAME,port=N"
            ))),
        }
    }
}

/// Reads `host=NAME,port=N` or `path=SOCKET`.
fn simulator(text: &str, options: &str, is_swtpm: bool) -> Result<Tcti, TctiError> {
    let refuse = |what: &str| Err(TctiError(format!("'{text}': {what}")));
    let (mut host, mut port, mut path) = (None, None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((_, "")) | None => return refuse("options are written KEY=VALUE"),
            Some(("host", value)) => host = Some(value.to_owned()),
            Some(("port", value)) => match value.parse::<u16>() {
                // The control channel has the port after it.
                Ok(number) if (1..u16::MAX).contains(&number) => port = Some(number),
                Ok(_) | Err(_) => return refuse("a port is a number from 1 to 65534"),
            },
            Some(("path", value)) if is_swtpm => path = Some(PathBuf::from(value)),
            Some((key, _)) => return refuse(&format!("there is no option '{key}'")),
        }
    }
    match (path, host, port) {
        (Some(path), None, None) => Ok(Tcti::SwtpmPath(path)),
        (Some(_), _, _) => refuse("a path excludes host and port"),
        (None, host, port) => {
            let (host, port) = (host.unwrap_or_else(|| HOST.to_owned()), port.unwrap_or(PORT));
            Ok(if is_swtpm { Tcti::Swtpm { host, port } } else { Tcti::Mssim { host, port } })
        }
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::SwtpmPath(path) => write!(f, "swtpm:path={}", path.display()),
            Self::Mssim { host, port } => write!(f, "mssim:host={host},port={port}"),
            Self::Tabrmd(options) if options.is_empty() => f.write_str("tabrmd"),
            Self::Tabrmd(options) => write!(f, "tabrmd:{options}"),
        }
    }
}

impl Tcti {
    /// Makes a relative path start at `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::Device(path) => Self::Device(base.join(path)),
            Self::SwtpmPath(path) => Self::SwtpmPath(base.join(path)),
            other @ (Self::Swtpm { .. } | Self::Mssim { .. } | Self::Tabrmd(_)) => other,
        }
    }

    /// What tss-esapi is to connect to; `bridge` stands in for a unix socket, which version 7 cannot name.
    pub(crate) fn name_conf(&self, bridge: Option<u16>) -> Result<TctiNameConf, tss_esapi::Error> {
        match (self, bridge) {
            (Self::SwtpmPath(_), Some(port)) => format!("swtpm:host=127.0.0.1,port={port}").parse(),
            _ => self.to_string().parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tss2_takes_is_read_and_written_alike() {
        for text in [
            "device:/dev/tpm0",
            "swtpm:host=127.0.0.1,port=2321",
            "swtpm:path=/run/a b/sock",
            "mssim:host=localhost,port=5000",
            "tabrmd",
            "tabrmd:bus_type=session",
        ] {
            assert_eq!(text.parse::<Tcti>().unwrap().to_string(), text);
        }
        for (short, whole) in [
            ("device", "device:/dev/tpmrm0"),
            ("swtpm", "swtpm:host=localhost,port=2321"),
            ("swtpm:port=99", "swtpm:host=localhost,port=99"),
            ("mssim:port=7,host=::1", "mssim:host=::1,port=7"),
        ] {
            assert_eq!(short.parse::<Tcti>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_tss2_would_pass_over_in_silence_is_refused() {
        for text in [
            "",
            "tpm",
            "/dev/tpm0",
            "Device:/dev/tpm0",
            "swtpm:hsot=x",
            "swtpm:host",
            "swtpm:host=",
            "swtpm:port=0",
            "swtpm:port=65535",
            "swtpm:port=99999",
            "swtpm:path=/s,port=1",
            "mssim:path=/s",
        ] {
            assert!(text.parse::<Tcti>().is_err(), "{text}");
        }
    }
}
