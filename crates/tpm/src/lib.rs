//! A TPM 2.0 behind the measurement list: extending and reading its PCRs, and quotes of them.
//!
//! [`Tpm`] is a TPM in a thread of its own, reached as tss2 reaches it ([`Tcti`]) or started for one mount (swtpm).
//! [`TpmBank`] is `measure`'s bank on a TPM that one list alone extends, [`HostBank`] that of a mount which shares
//! its TPM with others.
//!
//! This crate knows no files but its TPM's, no policy and no FUSE; what an entry means is the list's business. All
//! that goes over the wire is tss-esapi's and libtss2's. It reads no clock but to tell a TPM that hangs,
//! or that had time to be restarted.
//!
//! Follows TCG TPM 2.0 Library, part 3 (`TPM2_PCR_Extend`, `TPM2_PCR_Read`), and drivers/char/tpm/tpm2-cmd.c, Linux 6.1.

mod bank;
mod bridge;
mod clock;
mod device;
mod error;
mod host;
mod keylime;
mod link;
mod quote;
mod service;
mod swtpm;
mod tcti;
mod tpm;

pub use bank::TpmBank;
pub use error::TpmError;
pub use host::{HostBank, HostError, HostQuote};
pub use keylime::KeylimeQuote;
pub use quote::{AttestationKey, MAX_NONCE, Quote};
pub use swtpm::SwtpmState;
pub use tcti::{Tcti, TctiError};
pub use tpm::{Tpm, TpmPlace, TpmState};
