//! Replay of recorded kernel runs: the same files, the same policy and the same operations, on imafs.
//!
//! `integration/golden/` holds scenarios and what a Debian 6.1 kernel made of each; its README tells the files.
//! A [`Scenario`] is read from there, set up on a [`Stage`] (an ext4 image of its own with imafs over it, in a
//! mount namespace where it lies at `/t`), and played by the very program that made the recording. The
//! [`Outcome`] is then held against the [`Recording`]: results and counts per operation, the measurement list in
//! both forms, audit records per operation, the final tree. Whatever is not in [`differences::ALL`] must agree
//! byte for byte, and whatever is in it must differ exactly so: a difference that has gone fails as well.
//!
//! Normalised away, because they are the guest's own: process ids, inode numbers, the device's name, login ids,
//! terminal, program path and security label in audit records. The first list entry, boot_aggregate, is that
//! of a machine and not compared.

pub mod compare;
pub mod differences;
pub mod document;
pub mod explain;
pub mod list;
pub mod outcome;
pub mod play;
pub mod scenario;
pub mod stage;
pub mod syntax;

pub use compare::Mismatch;
pub use outcome::Outcome;
pub use scenario::{Recording, Scenario};
pub use stage::Stage;
