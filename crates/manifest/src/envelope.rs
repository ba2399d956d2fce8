//! The outside of a manifest: header and signature. What is inside is looked at when the signature holds.

use ima::{Digest, HashAlgo, KeyId, LabelType};
use keyring::{Keyring, VerifyError};

use crate::encode::to_be_signed;
use crate::entries::{Entries, FormatError};
use crate::index::Manifest;
use crate::names::check_image;
use crate::{HEADER_LEN, LARGEST, MAGIC, VERSION};

/// What a manifest says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the image is called.
    pub image: String,
    /// Rises with each manifest of the same image.
    pub serial: u64,
    /// How many entries there are.
    pub entries: u32,
}

/// A manifest whose signature nobody has checked yet.
#[derive(Debug)]
pub struct Envelope {
    bytes: Vec<u8>,
    header: Header,
    /// Where the entries begin.
    entries_at: usize,
    /// Where they end and the signature begins.
    body_len: usize,
    keyid: KeyId,
    algo: HashAlgo,
    signed: Digest,
}

impl Envelope {
    /// Takes a manifest's header and signature apart; the entries are left alone. Never panics.
    ///
    /// # Errors
    /// [`FormatError`], saying what makes it none.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, FormatError> {
        if bytes.len() > LARGEST {
            return Err(FormatError::TooLarge(bytes.len()));
        }
        let outside = Outside::read(&bytes)?;
        let (body, trailer) =
            bytes.split_at_checked(outside.body_len).ok_or(FormatError::Truncated("entries"))?;
        let signature = ima::parse_signature(trailer).map_err(FormatError::Signature)?;
        let form = (signature.label_type, signature.version);
        let algo = signature.algo.filter(|algo| form == (LabelType::Signature, 2) && signs_manifests(*algo));
        let algo = algo.ok_or(FormatError::Algorithm)?;
        let signed = to_be_signed(algo, body).ok_or(FormatError::Algorithm)?;
        let (header, entries_at, body_len) = (outside.header, outside.entries_at, outside.body_len);
        let keyid = signature.keyid;
        Ok(Self { header, entries_at, body_len, keyid, algo, signed, bytes })
    }

    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The key that it says it is signed with.
    #[must_use]
    pub fn keyid(&self) -> KeyId {
        self.keyid
    }

    /// The hash algorithm of its signature.
    #[must_use]
    pub fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The SHA-256 digest of the whole file, by which people tell manifests apart.
    #[must_use]
    pub fn file_digest(&self) -> Option<Digest> {
        ima::hash(HashAlgo::Sha256, &self.bytes).ok()
    }

    /// The entries, whoever signed them. For people to look at: nothing may be let through by them.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        let bytes = self.bytes.get(self.entries_at..self.body_len).unwrap_or_default();
        Entries::new(bytes, self.entries_at, self.header.entries)
    }

    /// Checks the signature by a ring.
    ///
    /// # Errors
    /// [`VerifyError`] when no key on it made the signature.
    pub fn verify(self, ring: &Keyring) -> Result<Verified, VerifyError> {
        self.check(ring)?;
        Ok(Verified(self))
    }

    /// Whether the signature holds by what is on the ring now. Costs one verification, whatever the length.
    ///
    /// # Errors
    /// [`VerifyError`] when it does not.
    pub fn check(&self, ring: &Keyring) -> Result<(), VerifyError> {
        let trailer = self.bytes.get(self.body_len..).unwrap_or_default();
        // It was taken apart before and has not changed.
        let signature = ima::parse_signature(trailer).map_err(|_| VerifyError::BadSignature)?;
        ring.verify(self.keyid, &self.signed, signature.signature)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A manifest whose signature was made by a key on a ring.
#[derive(Debug)]
pub struct Verified(Envelope);

impl Verified {
    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.0.header()
    }

    /// As [`Envelope::file_digest`].
    #[must_use]
    pub fn file_digest(&self) -> Option<Digest> {
        self.0.file_digest()
    }

    /// Reads all entries and makes them ready to be looked up.
    ///
    /// # Errors
    /// [`FormatError`] at the first entry that is none: who signed it wrote nonsense, and none of it is believed.
    pub fn index(self) -> Result<Manifest, FormatError> {
        Manifest::new(self.0)
    }
}

/// Whether manifests are signed over digests of this algorithm. Signing the inverted digest keeps files and manifests
/// apart only as long as nobody finds collisions.
pub(crate) fn signs_manifests(algo: HashAlgo) -> bool {
    matches!(algo, HashAlgo::Sha256 | HashAlgo::Sha384 | HashAlgo::Sha512)
}

/// The header, and where the parts are.
struct Outside {
    header: Header,
    entries_at: usize,
    body_len: usize,
}

impl Outside {
    fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let short = || FormatError::Truncated("header");
        let rest = bytes.strip_prefix(&MAGIC).ok_or(FormatError::Magic)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let (image_len, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (entries, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (body_len, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (serial, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let image = rest.get(..usize::from(u16::from_le_bytes(*image_len))).ok_or_else(short)?;
        check_image(image).map_err(FormatError::Image)?;
        let entries_at = HEADER_LEN + image.len();
        let body_len = usize::try_from(u64::from_le_bytes(*body_len));
        let body_len = body_len.ok().filter(|len| (entries_at..=bytes.len()).contains(len));
        Ok(Self {
            header: Header {
                image: String::from_utf8_lossy(image).into_owned(),
                serial: u64::from_le_bytes(*serial),
                entries: u32::from_le_bytes(*entries),
            },
            entries_at,
            body_len: body_len.ok_or(FormatError::Truncated("entries"))?,
        })
    }
}
