//! Certificates, rings of trusted keys, and verification of signatures over digests.
//!
//! A [`Keyring`] holds X.509 [`Certificate`]s and answers one question: did the key that a label
//! names (by the last four bytes of its subject key identifier) sign this digest? Signatures are
//! *prehashed*: the file's digest goes straight into the public-key operation, never through a
//! second hash. A ring may carry a [`Blacklist`] of certificates it never takes and of content that no
//! signature makes good.
//!
//! What it follows: Linux's asymmetric keys and IMA digital signatures (`crypto/asymmetric_keys/`,
//! `security/integrity/digsig_asymmetric.c`, 6.1 to 6.19), RFC 8017 section 8.2, RFC 5280.
//!
//! This crate opens no files and reads no clock: **an expired certificate keeps verifying**, as in
//! the kernel, because a file signed in time does not become wrong by age; revoke the key instead.
//! It builds no chains: whoever may add a certificate to a ring vouches for it, unless the ring's owner asks that a
//! trusted key has signed it ([`vouched_for`]). It does not know what a label,
//! a policy or a mount is.

mod admission;
mod blacklist;
mod certificate;
mod digest_info;
mod public_key;
mod ring;

pub use admission::{AdmissionError, vouched_for};
pub use blacklist::{Blacklist, BlacklistError, EntryError};
pub use certificate::{CertError, Certificate, KeyIdSource};
pub use digest_info::digest_info_prefix;
pub use public_key::{Curve, KeyError, KeyKind, PublicKey, SignatureError};
pub use ring::{Added, Keyring, VerifyError};
