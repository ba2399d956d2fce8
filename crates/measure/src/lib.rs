//! The measurement list: what was measured, in order, anchored in a PCR.
//!
//! [`List`] is one mount's list. An entry is added, written to the [`Journal`] where there is one, and
//! extended into the bank before the caller is answered. The bank is whatever implements [`PcrBank`]: the
//! arithmetic in this process ([`SoftBank`]), nothing ([`NoBank`]), or a TPM in a crate of its own.
//! Readers take a [`Snapshot`] and read either form of the list at any offset, while it grows.
//!
//! This crate opens no files, knows no policy and no device. What an entry's bytes are is `ima`'s business;
//! whether a failed extend refuses an open is its caller's.
//!
//! Follows security/integrity/ima/ima_queue.c and ima_fs.c, Linux 6.1.

pub mod bank;
mod boot;
mod error;
mod list;
mod options;
pub mod pcrs;
mod seen;
mod soft;
mod store;

pub use bank::{BankError, NoBank, PcrBank};
pub use error::{JournalError, MeasureError};
pub use list::List;
pub use options::{Added, Checkpoint, Journal, ListOptions};
pub use soft::SoftBank;
pub use store::{Form, Snapshot};
