//! The proof side of imafs: what a test of the running programs needs.
//!
//! The crate knows imafs only from outside, as an operator does: it runs `imafs` and `imafs-sign`, looks at
//! mounts through system calls, reads records and lists from files, and asks foreign tools (`evmctl`, `diff`,
//! `getfattr`) for the truth. It links none of imafs's own crates, so that a mistake shared by them cannot hide; one test
//! does, to make a list that no mount makes in that length, and asks foreign tools what it holds.
//!
//! A test makes a [`Stand`] (a scratch directory, throwaway keys, a source tree), mounts it with a [`Mount`] that
//! always goes away again, walks through a [`Door`] and reads the [`Records`]. What a machine cannot offer is said
//! with [`need!`], which skips with a reason, except where CI forbids skipping.

pub mod attestation;
pub mod browser;
pub mod compare;
pub mod door;
pub mod engine;
pub mod fixture;
pub mod golden;
pub mod journal;
pub mod keylime;
pub mod keys;
pub mod loader;
pub mod mount;
pub mod need;
pub mod oracle;
pub mod pcrs;
pub mod process;
pub mod python;
pub mod records;
pub mod requests;
pub mod scratch;
pub mod stand;
pub mod store;
pub mod suites;
pub mod swtpm;

pub use door::{Door, Refusal};
pub use keys::Keys;
pub use mount::{Mount, MountBuilder};
pub use need::Need;
pub use records::{Record, Records};
pub use scratch::Scratch;
pub use stand::Stand;
