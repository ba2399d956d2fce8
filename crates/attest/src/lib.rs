//! Whether a measurement list is to be believed, for somebody who trusts neither the host nor the container.
//!
//! [`verify`](verify::verify) takes an evidence file (a TPM's quote, the list, the key that signed) and what the verifier
//! knows (a nonce, a trusted key, a reference), and gives a [`Verdict`](verdict::Verdict) that says no with reasons.
//!
//! It needs no TPM and no libtss2: what a TPM says is read here (`tpm`), from hostile bytes, and what a list says is
//! `ima`'s business. This crate opens no files, mounts nothing and reads no clock. It does not know how a list came
//! about or what a mount is.

#![forbid(unsafe_code)]

pub mod cli;
mod entries;
pub mod evidence;
mod list;
pub mod reference;
mod replay;
pub mod report;
mod succession;
pub mod tpm;
pub mod trust;
pub mod verdict;
pub mod verify;
