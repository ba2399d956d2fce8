//! What can go wrong with a TPM, whether a command was carried out all the same, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bitfield::BitRange as _;
use ima::PcrIndex;
use measure::BankError;
use tss_esapi::constants::response_code::Tss2ResponseCode;

/// The TPM was not started since it has power (`TPM_RC_INITIALIZE`).
const INITIALIZE: u32 = 0x100;
/// It has found a fault in itself (`TPM_RC_FAILURE`).
const FAILURE: u32 = 0x101;
/// Too many failed authorizations (`TPM_RC_LOCKOUT`).
const LOCKOUT: u32 = 0x921;
/// Not for software at this locality (`TPM_RC_LOCALITY`).
const LOCALITY: u32 = 0x907;
/// A wrong authorization value, without and with dictionary attack protection (`TPM_RC_BAD_AUTH`, `_AUTH_FAIL`).
const BAD_AUTH: [u32; 2] = [0x0a2, 0x08e];
/// The bits of a format-one code that say which error it is, without those that say of which parameter.
const FORMAT_ONE: u32 = 0x0bf;
/// The layer of a tss2 response code; zero is the TPM itself, 11 a resource manager that hands on what it said.
const LAYER: u32 = 0x00ff_0000;
const RESOURCE_MANAGER_TPM: u32 = 0x000b_0000;

/// Why a TPM did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// There is nothing to connect to. No command was sent.
    #[error("cannot reach the TPM at {tcti}")]
    Unreachable {
        /// Where it should be.
        tcti: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The TPM answered with an error, and so did nothing.
    #[error("the TPM refuses with code {code:#x}")]
    Refused {
        /// Its response code.
        code: u32,
    },
    /// The connection broke, or what came over it made no sense. The command may have been carried out.
    #[error("the connection to the TPM failed")]
    Lost(#[source] tss_esapi::Error),
    /// No answer in time.
    #[error("the TPM has not answered within {} seconds", limit.as_secs())]
    Silent {
        /// How long it was waited.
        limit: Duration,
        /// Whether the command had been sent; then it may still be carried out.
        sent: bool,
    },
    /// An active bank whose algorithm IMA has no name for: it could not be extended, and so could be forged.
    #[error("the TPM has a bank that cannot be computed here")]
    UnknownBank(#[source] tss_esapi::Error),
    /// No bank is active.
    #[error("the TPM has no active PCR bank")]
    NoBank,
    /// It came back with other banks than it had; extending them would leave some unextended.
    #[error("the TPM has other banks than before")]
    OtherBanks,
    /// The way to a unix socket could not be made.
    #[error("cannot make a private network to reach {}", path.display())]
    Bridge {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A swtpm of our own did not start.
    #[error("cannot start swtpm{}", if said.is_empty() { String::new() } else { format!(" ({said})") })]
    Swtpm {
        /// What it said itself.
        said: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The thread of the TPM has ended, or could not be started.
    #[error("the TPM's thread has ended")]
    Ended,
    /// More than a quote takes.
    #[error("a nonce of {0} bytes is too long")]
    Nonce(usize),
    /// Each time it was quoted a register was extended before it could be read.
    #[error("the PCRs change faster than they can be quoted")]
    Restless,
    /// A register is not in use by this list alone.
    #[error("PCR {0} of the TPM has been extended already")]
    InUse(PcrIndex),
}

impl TpmError {
    /// Sorts an error of tss-esapi by whether the TPM itself answered.
    pub(crate) fn from_tss(source: tss_esapi::Error) -> Self {
        match response_code(&source) {
            Some(code) if matches!(code & LAYER, 0 | RESOURCE_MANAGER_TPM) => {
                Self::Refused { code: code & !LAYER }
            }
            Some(_) | None => Self::Lost(source),
        }
    }

    /// The number for `TPM_error(n)`: the TPM's own response code, or an errno, negative.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Refused { code } => i32::try_from(*code).unwrap_or(i32::MAX),
            Self::Unreachable { source, .. } | Self::Bridge { source, .. } | Self::Swtpm { source, .. } => {
                source.raw_os_error().map_or(-5, |errno| -errno)
            }
            Self::Silent { .. } => -110,
            Self::Lost(_) | Self::Ended => -5,
            Self::UnknownBank(_) | Self::NoBank | Self::OtherBanks | Self::Nonce(_) => -22,
            Self::InUse(_) | Self::Restless => -16,
        }
    }

    /// Whether the command may have been carried out although it failed.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Silent { sent, .. } => *sent,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::UnknownBank(_)
            | Self::NoBank
            | Self::OtherBanks
            | Self::Bridge { .. }
            | Self::Swtpm { .. }
            | Self::Ended
            | Self::Nonce(_)
            | Self::Restless
            | Self::InUse(_) => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Unreachable { tcti, source } => unreachable_advice(tcti, source),
            Self::Refused { code } => refused_advice(*code).to_owned(),
            Self::Lost(_) => {
                "is it a TPM 2.0 that listens there? try: tpm2_getcap pcrs --tcti TCTI".to_owned()
            }
            Self::Silent { .. } => "see whether another program keeps it: fuser -v /dev/tpm*".to_owned(),
            Self::UnknownBank(_) => "switch that bank off: tpm2_pcrallocate, then restart the TPM".to_owned(),
            Self::NoBank => "switch a bank on: tpm2_pcrallocate sha256:all, then restart the TPM".to_owned(),
            Self::OtherBanks => "mount again".to_owned(),
            Self::Bridge { .. } => {
                "that needs CAP_SYS_ADMIN; or let it listen on a port: swtpm:host=127.0.0.1,port=N".to_owned()
            }
            Self::Swtpm { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "install it: apt-get install swtpm".to_owned()
            }
            Self::Swtpm { .. } => {
                "a state directory serves one swtpm at a time, and must be writable".to_owned()
            }
            Self::Ended => "mount again".to_owned(),
            Self::Nonce(_) => format!("use at most {} bytes, such as a digest", crate::MAX_NONCE),
            Self::Restless => "try again when fewer files are opened for the first time".to_owned(),
            Self::InUse(_) => {
                "name a PCR that nobody extends with --pcr (the kernel's own IMA uses 10), share this \
                               one by a host list (--host-list NAME), or restart the TPM"
                    .to_owned()
            }
        }
    }
}

fn unreachable_advice(tcti: &str, source: &io::Error) -> String {
    match (tcti.split(':').next().unwrap_or_default(), source.kind()) {
        ("device", io::ErrorKind::NotFound) => {
            "see what there is: ls /dev/tpm*; without a TPM use a software one: --tpm swtpm".to_owned()
        }
        ("device", io::ErrorKind::ResourceBusy) => {
            "another program has it; share it by the kernel's resource manager: device:/dev/tpmrm0".to_owned()
        }
        ("device", io::ErrorKind::PermissionDenied) => {
            "let this process use the device: DeviceAllow=/dev/tpmrm0 rw for a unit".to_owned()
        }
        ("swtpm", _) => {
            "start it with both its channels, or let imafs start one of its own: --tpm swtpm".to_owned()
        }
        _ => "see whether it runs, and check the address".to_owned(),
    }
}

fn refused_advice(code: u32) -> &'static str {
    match code {
        INITIALIZE => {
            "it was not started: tpm2_startup --clear --tcti TCTI, or start swtpm with --flags startup-clear"
        }
        FAILURE => "it has found a fault in itself: see tpm2_gettestresult; only a restart can help",
        LOCKOUT => {
            "it is locked after failed authorizations: wait, or tpm2_dictionarylockout --clear-lockout"
        }
        LOCALITY => "software may extend PCRs 0 to 16 and 23 only: name another with --pcr",
        _ if code & 0x80 != 0 && BAD_AUTH.contains(&(code & FORMAT_ONE)) => {
            "its hierarchies have passwords, and imafs knows none"
        }
        _ => "look the code up: tpm2_rc_decode CODE",
    }
}

/// The number in a response code, which tss-esapi shows only through the `bitfield` crate.
fn response_code(error: &tss_esapi::Error) -> Option<u32> {
    match error {
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::Success) => Some(0),
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => Some(code.bit_range(31, 0)),
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => Some(code.bit_range(31, 0)),
        tss_esapi::Error::WrapperError(_) => None,
    }
}

impl From<TpmError> for BankError {
    fn from(error: TpmError) -> Self {
        Self::Device { code: error.code(), source: Box::new(error) }
    }
}
