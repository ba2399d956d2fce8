//! Appraisal: collect a file's digest, hold it against `security.ima`, give a verdict in the kernel's words.
//!
//! Three separate steps. [`collect()`] reads an open descriptor to its end and says which content version it
//! read ([`collect_verity`] does so for fs-verity digests); [`judge`] is a pure function from label, requirement, digest and keyring to a [`Verdict`]; the label
//! stores ([`Labels`]) read and write them in one of three places. Remembering a verdict is the monitor's business, tied to
//! the [`ContentVersion`] given here.
//!
//! This crate opens no paths, knows no policy and writes no records. It does not know that FUSE exists.
//!
//! Specification: `spec/ima-appraisal.md`, `spec/ima-xattr.md`; security/integrity/ima/ima_appraise.c.

mod collect;
mod label;
mod store;
mod verdict;
mod verity;
mod version;

pub use collect::{Bounds, CollectError, Collected, collect, collect_within};
pub use label::{IMA, LabelError, StoredLabel, USER_IMA, read_evm};
pub use store::{LabelPlace, Labels};
pub use verdict::{Cause, Requirement, Status, Subject, Verdict, judge};
pub use verity::{VerityDigests, collect_verity, collect_verity_within, compute_verity};
pub use version::{ContentVersion, FileFacts, facts};
