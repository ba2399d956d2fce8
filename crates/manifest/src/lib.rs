//! Label manifests: the labels of all files of an image in one signed file, for storage that keeps no attributes.
//!
//! Bytes in, labels by path out, and back. A manifest is an [`Envelope`] until its signature has been checked: only a
//! [`Verified`] one is indexed to a [`Manifest`], and only that is asked for labels. Entries of a manifest that nobody
//! trusted signed are read by nothing but [`Envelope::entries`], which is for people to look at.
//!
//! The format, byte by byte, and the reasons for it: `docs/manifest.md`.
//!
//! This crate opens no files, knows no policy and judges no label: what a label is worth is for appraisal to say. Paths
//! are bytes to it, compared and never resolved.

#![forbid(unsafe_code)]

mod encode;
mod entries;
mod envelope;
mod index;
mod names;

pub use encode::{Builder, EncodeError, seal, to_be_signed};
pub use entries::{Entries, Entry, FormatError};
pub use envelope::{Envelope, Header, Verified};
pub use index::{EntryId, Manifest};
pub use names::{InvalidName, check_image, check_path};

/// What the file is called in the root of an image.
pub const FILE_NAME: &str = ".imafs-manifest";

/// What a manifest begins with.
pub const MAGIC: [u8; 8] = *b"imafsMAN";

/// The version of the format.
pub const VERSION: u16 = 1;

/// Length of the header before the image's name.
pub const HEADER_LEN: usize = 32;

/// The largest manifest that is read, for half a million files with RSA-2048 signatures; all of it is held in memory
/// before anything vouches for it. Places in it fit 32 bits.
pub const LARGEST: usize = 256 << 20;

/// The longest name of an image.
pub const IMAGE_MAX: usize = 128;

/// The longest path (`PATH_MAX` without the zero byte), as records have it.
pub const PATH_MAX: usize = 4095;
