//! Where labels are kept: in `security.ima`, in `user.imafs.ima`, or in a manifest of the whole image.
//!
//! One store serves a mount, chosen when it is made. None falls back to another: what the chosen one does not hold is
//! not labelled, however many labels the others hold. The reasons are in `docs/manifest.md`.
//!
//! An attribute goes with its inode, so an inode has one label. A manifest goes by path, and one inode may be opened by
//! several: so where the label is ([`LabelPlace`]) is asked once for each access, when it arrives, and what is
//! remembered of an inode is remembered together with it.
//!
//! Lock order: `doubted` alone, across one verification.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyring::{Keyring, VerifyError};
use manifest::{EntryId, Manifest};
use parking_lot::Mutex;

use crate::label::{IMA, LabelError, StoredLabel, USER_IMA, read_label, read_protected, write_label};

/// Where the label of one file is, by the name it is accessed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelPlace {
    /// In an attribute of the inode, if it has one.
    Attribute,
    /// In this entry of the manifest.
    Entry(EntryId),
    /// Nowhere: the manifest has none for that path.
    None,
}

/// The labels of a mount.
#[derive(Debug, Clone)]
pub struct Labels(Store);

#[derive(Debug, Clone)]
enum Store {
    Attribute(&'static str),
    Manifest(Arc<Trusted>),
}

/// A manifest with the ring that its signature was verified by.
#[derive(Debug)]
struct Trusted {
    manifest: Manifest,
    ring: Arc<Keyring>,
    /// The generation of the ring by which the signature held last.
    held: AtomicU64,
    /// The generation by which it did not, and why.
    doubted: Mutex<Option<(u64, VerifyError)>>,
}

impl Labels {
    /// Those in `security.ima`.
    #[must_use]
    pub fn in_security_ima() -> Self {
        Self(Store::Attribute(IMA))
    }

    /// Those in `user.imafs.ima`. Whoever may write a file may write that attribute, so whatever else reaches the files
    /// can label them with hashes; the mount itself guards it as it does `security.ima`.
    #[must_use]
    pub fn in_user_attribute() -> Self {
        Self(Store::Attribute(USER_IMA))
    }

    /// Those in a manifest, for as long as a key on `ring` vouches for it.
    ///
    /// # Errors
    /// [`VerifyError`] when none does.
    pub fn in_manifest(manifest: Manifest, ring: Arc<Keyring>) -> Result<Self, VerifyError> {
        // Read before the ring is asked: what holds by older keys is then not taken for newer.
        let generation = ring.generation();
        manifest.reverify(&ring)?;
        let (held, doubted) = (AtomicU64::new(generation), Mutex::new(None));
        Ok(Self(Store::Manifest(Arc::new(Trusted { manifest, ring, held, doubted }))))
    }

    /// The attribute that holds the labels, if one does.
    #[must_use]
    pub fn attribute(&self) -> Option<&'static str> {
        match &self.0 {
            Store::Attribute(name) => Some(name),
            Store::Manifest(_) => None,
        }
    }

    /// The manifest that holds them, if one does.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.0 {
            Store::Attribute(_) => None,
            Store::Manifest(trusted) => Some(&trusted.manifest),
        }
    }

    /// Why no label of the manifest counts any more, if it is so: its key was taken off the ring or revoked.
    #[must_use]
    pub fn void(&self) -> Option<VerifyError> {
        match &self.0 {
            Store::Attribute(_) => None,
            Store::Manifest(trusted) => trusted.void(),
        }
    }

    /// Where the label of a file is that is accessed by the path that `path` gives, which is asked only where it matters.
    pub fn place_of(&self, path: impl FnOnce() -> Vec<u8>) -> LabelPlace {
        match &self.0 {
            Store::Attribute(_) => LabelPlace::Attribute,
            Store::Manifest(trusted) => {
                trusted.manifest.find(&path()).map_or(LabelPlace::None, LabelPlace::Entry)
            }
        }
    }

    /// Reads the label that is at `place`, for the inode behind `fd`, which may be `O_PATH`.
    ///
    /// # Errors
    /// [`LabelError::Read`] for anything but a missing label or a filesystem without attributes.
    pub fn read(&self, place: LabelPlace, fd: impl AsFd) -> Result<StoredLabel, LabelError> {
        match (&self.0, place) {
            (Store::Attribute(name), _) => read_label(&fd, name),
            (Store::Manifest(trusted), LabelPlace::Entry(id)) => {
                let label = trusted.manifest.label(id).filter(|_| trusted.void().is_none());
                Ok(label.map_or(StoredLabel::Missing, |label| StoredLabel::Value(label.to_vec())))
            }
            (Store::Manifest(_), LabelPlace::Attribute | LabelPlace::None) => Ok(StoredLabel::Missing),
        }
    }

    /// Names and values of the attributes on the file that EVM protects, in EVM's order, with the label at `place` as
    /// `security.ima`; none at all where one cannot be read, as in the kernel's templates.
    #[must_use]
    pub fn read_protected(&self, place: LabelPlace, fd: impl AsFd) -> Vec<(&'static str, Vec<u8>)> {
        read_protected(&fd, || self.read(place, &fd))
    }

    /// Whether labels can be written.
    #[must_use]
    pub fn are_writable(&self) -> bool {
        self.attribute().is_some()
    }

    /// Writes the label of the inode behind `fd`, replacing what is there.
    ///
    /// # Errors
    /// [`LabelError::Write`], [`LabelError::Fixed`]; the old label then stands.
    pub fn write(&self, fd: impl AsFd, value: &[u8]) -> Result<(), LabelError> {
        match &self.0 {
            Store::Attribute(name) => write_label(&fd, name, value),
            Store::Manifest(_) => Err(LabelError::Fixed),
        }
    }
}

impl Trusted {
    fn void(&self) -> Option<VerifyError> {
        let generation = self.ring.generation();
        // Relaxed: the value stands for itself, and the ring is asked again where it is any other.
        if self.held.load(Ordering::Relaxed) == generation {
            return None;
        }
        let mut doubted = self.doubted.lock();
        if let Some((at, why)) = *doubted
            && at == generation
        {
            return Some(why);
        }
        let outcome = self.manifest.reverify(&self.ring).err();
        match outcome {
            None => self.held.store(generation, Ordering::Relaxed),
            Some(why) => *doubted = Some((generation, why)),
        }
        outcome
    }
}
