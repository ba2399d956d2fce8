//! The measurement list: what was measured, in order, anchored in a PCR.
//!
//! [`List`] is one mount's list. An entry is added, written to the [`Journal`] where there is one, and
//! extended into the bank before the caller is answered. A journal that is found is replayed, and its list goes on. The bank is whatever implements [`PcrBank`]: the
//! arithmetic in this process ([`SoftBank`]), nothing ([`NoBank`]), or a TPM in a crate of its own.
//! Readers take a [`Snapshot`] and read either form of the list at any offset, while it grows.
//!
//! This crate opens no files but those of a journal, reads the clock for their dates alone, knows no policy and no
//! device. What an entry's bytes are is `ima`'s business;
//! whether a failed extend refuses an open is its caller's.
//!
//! Follows security/integrity/ima/ima_queue.c and ima_fs.c, Linux 6.1.

pub mod bank;
mod boot;
mod error;
pub mod journal;
mod list;
mod options;
pub mod pcrs;
pub mod proof;
mod restart;
mod seen;
mod soft;
mod standing;
mod store;
mod turns;
mod view;

pub use bank::{BankError, NoBank, PcrBank};
pub use error::MeasureError;
pub use journal::{Journal, JournalError};
pub use list::List;
pub use options::{Added, Checkpoint, ListOptions};
pub use soft::SoftBank;
pub use store::{Form, ReadError, Snapshot};
