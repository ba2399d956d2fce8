//! The formats of Linux IMA: `security.ima` labels, digests, measurement templates, measurement lists, PCR replay.
//!
//! Bytes in, types out, and back. Baseline is Linux 6.1; what later kernels added is marked where it stands.
//! Everything here also reads hostile bytes: parsers never panic and never allocate more than their input's size.
//!
//! This crate opens no files and reads no clock. It knows no policy, no keys and no verdicts: it says what a label
//! holds, not whether it is to be believed. It does not know that FUSE exists. Of the hash
//! functions that the kernel names it computes all but MD4 ([`HashAlgo::is_available`]), which it can name and carry.
//!
//! Integers in labels are big-endian; integers in measurement lists are little-endian, as x86 and arm64 kernels
//! (and all others under `ima_canonical_fmt`) write them.

#![forbid(unsafe_code)]

mod algo;
mod digest;
mod hasher;
pub mod host;
mod ids;
pub mod label;
pub mod list;
pub mod pcr;
pub mod template;
pub mod verity;

pub use algo::HashAlgo;
pub use digest::{Digest, DigestError, MAX_DIGEST_LEN};
pub use hasher::{Hasher, UnavailableAlgo, hash};
pub use host::{HostLine, parse_host};
pub use ids::{KeyId, KeyIdError, PcrIndex};
pub use label::{
    LabelType, ParseError, Signature, collection_algo, digest_matches, encode_digest, encode_signature,
    file_id_digest, label_type, parse_signature,
};
pub use list::{ListError, ParsedEntry, parse_ascii, parse_binary};
pub use pcr::{Pcrs, boot_aggregate};
pub use template::{DigestKind, Entry, Event, FileAttrs, Modsig, Template, TemplateError};
