//! Writing manifests.

use std::collections::BTreeMap;

use ima::label::EncodeError as LabelEncodeError;
use ima::{Digest, HashAlgo, KeyId, LabelType};

use crate::entries::{Entry, write_entry};
use crate::envelope::signs_manifests;
use crate::names::{InvalidName, check_image, check_path};
use crate::{HEADER_LEN, LARGEST, MAGIC, VERSION};

/// Why a manifest cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A path or the image's name cannot stand in one.
    #[error("cannot be named in a manifest")]
    Name(#[source] InvalidName),
    /// A path has a label already.
    #[error("has a label already")]
    Twice,
    /// A label is empty or too long.
    #[error("has a label of {0} bytes")]
    Label(usize),
    /// It would be larger than any that is read.
    #[error("the manifest would be too large")]
    TooLarge,
    /// Manifests are signed over sha256, sha384 or sha512.
    #[error("manifests are not signed over {} digests", .0.name())]
    Algorithm(HashAlgo),
    /// The signature does not fit into its place.
    #[error("cannot write the signature")]
    Signature(#[source] LabelEncodeError),
}

/// A manifest that is being put together.
#[derive(Debug, Clone)]
pub struct Builder {
    image: String,
    serial: u64,
    labels: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Builder {
    /// One without entries.
    ///
    /// # Errors
    /// [`EncodeError::Name`] for a name that an image cannot have.
    pub fn new(image: &str, serial: u64) -> Result<Self, EncodeError> {
        check_image(image.as_bytes()).map_err(EncodeError::Name)?;
        Ok(Self { image: image.to_owned(), serial, labels: BTreeMap::new() })
    }

    /// Adds a label for the file at `path`, absolute in the image.
    ///
    /// # Errors
    /// [`EncodeError`]; the entry is not added then.
    pub fn add(&mut self, path: Vec<u8>, label: Vec<u8>) -> Result<(), EncodeError> {
        check_path(&path).map_err(EncodeError::Name)?;
        if label.is_empty() || u16::try_from(label.len()).is_err() {
            return Err(EncodeError::Label(label.len()));
        }
        if self.labels.contains_key(&path) {
            return Err(EncodeError::Twice);
        }
        self.labels.insert(path, label);
        Ok(())
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All but the signature.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn body(&self) -> Result<Vec<u8>, EncodeError> {
        let entries: usize = self.labels.iter().map(|(path, label)| 4 + path.len() + label.len()).sum();
        let length = HEADER_LEN + self.image.len() + entries;
        // A signature of 4 KiB has room behind it.
        let fits = length.checked_add(4096).is_some_and(|all| all <= LARGEST);
        let count = u32::try_from(self.labels.len()).ok().filter(|_| fits).ok_or(EncodeError::TooLarge)?;
        let image_len = u16::try_from(self.image.len()).map_err(|_| EncodeError::TooLarge)?;
        let mut body = Vec::with_capacity(length);
        body.extend(MAGIC);
        body.extend(VERSION.to_le_bytes());
        body.extend(image_len.to_le_bytes());
        body.extend(count.to_le_bytes());
        body.extend(u64::try_from(length).map_err(|_| EncodeError::TooLarge)?.to_le_bytes());
        body.extend(self.serial.to_le_bytes());
        body.extend(self.image.as_bytes());
        for (path, label) in &self.labels {
            write_entry(Entry { path, label }, &mut body).ok_or(EncodeError::TooLarge)?;
        }
        Ok(body)
    }
}

/// What a key signs to vouch for a manifest: the digest of everything before the signature, every bit of it inverted.
///
/// The same keys sign files, and what they sign of a file is its digest as it is. An image may hold files that its
/// maker signs without having written them; were a manifest's digest signed as it is, such a file could be a manifest's
/// body, and its label the signature that makes it one. Nobody finds a file whose digest is another digest inverted.
///
/// `None` for algorithms that manifests are not signed over.
#[must_use]
pub fn to_be_signed(algo: HashAlgo, body: &[u8]) -> Option<Digest> {
    let digest = ima::hash(algo, body).ok().filter(|_| signs_manifests(algo))?;
    let inverted: Vec<u8> = digest.bytes().iter().map(|byte| !byte).collect();
    Digest::new(algo, &inverted).ok()
}

/// Puts the signature of [`to_be_signed`] behind a body.
///
/// # Errors
/// [`EncodeError::Algorithm`] and [`EncodeError::Signature`].
pub fn seal(
    mut body: Vec<u8>,
    algo: HashAlgo,
    keyid: KeyId,
    signature: &[u8],
) -> Result<Vec<u8>, EncodeError> {
    if !signs_manifests(algo) {
        return Err(EncodeError::Algorithm(algo));
    }
    let trailer = ima::encode_signature(LabelType::Signature, 2, algo, keyid, signature);
    body.extend(trailer.map_err(EncodeError::Signature)?);
    Ok(body)
}
