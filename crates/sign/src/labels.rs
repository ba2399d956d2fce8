//! Makes labels, checks them against content and keys, and says what is in one.
//!
//! The signature form is type 03 version 2, the one every kernel since 3.7 verifies, or over fs-verity digests type 06
//! version 3, which kernels since 5.19 verify; hash labels are type 01 for sha1 and 04 for the rest, as the kernel writes
//! them itself. Judging here answers "would
//! this file be let through if a signature were required", and is stricter than a kernel in nothing.

use std::sync::atomic::AtomicBool;

use ima::verity::has_algo;
use ima::{Digest, HashAlgo, KeyId, LabelType, ParseError};
use keyring::{Keyring, VerifyError};

use crate::{
    file::{FileError, OpenFile, Version},
    key::{SigningError, SigningKey},
    walk::Skip,
};

/// What a signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The digest of the content.
    Content,
    /// The content's fs-verity digest.
    Verity,
}

impl Over {
    /// Type and version of the label.
    const fn form(self) -> (LabelType, u8) {
        match self {
            Self::Content => (LabelType::Signature, 2),
            Self::Verity => (LabelType::VeritySignature, 3),
        }
    }

    /// What the key signs to vouch for `digest`.
    fn signed(self, digest: &Digest) -> Result<Digest, FileError> {
        match self {
            Self::Content => Ok(*digest),
            Self::Verity => ima::file_id_digest(LabelType::VeritySignature, digest)
                .map_err(|_| FileError::Algorithm(digest.algo())),
        }
    }

    fn collect(
        self,
        file: &OpenFile,
        algo: HashAlgo,
        stop: &AtomicBool,
    ) -> Result<(Digest, Version), FileError> {
        match self {
            Self::Content => file.collect(algo, stop),
            Self::Verity => file.collect_verity(algo, stop),
        }
    }
}

/// What to label files with.
#[derive(Debug, Clone, Copy)]
pub enum Labelling<'a> {
    /// A signature of one of the file's digests.
    Signature {
        /// Signs.
        key: &'a SigningKey,
        /// Names the key in the label.
        keyid: KeyId,
        /// Which digest.
        over: Over,
    },
    /// The digest alone: shows damage, proves no origin.
    Hash,
}

impl Labelling<'_> {
    fn over(self) -> Over {
        match self {
            Self::Signature { over, .. } => over,
            Self::Hash => Over::Content,
        }
    }
}

/// How to go about labelling.
#[derive(Debug, Clone, Copy)]
pub struct LabelOptions {
    /// Hash algorithm of the digest.
    pub algo: HashAlgo,
    /// Write even where the right label, or a signature in place of a hash, is there already.
    pub force: bool,
    /// Do all but write.
    pub dry_run: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// It carries the label now, or would without `dry_run`.
    Written(Digest),
    /// It was left alone.
    Skipped(Skip),
}

/// Labels one file, unless it already carries the label it would get.
///
/// The content must hold still from before the digest to after the label; it is tried three times.
///
/// # Errors
/// [`FileError`]; the old label is then still there, whole.
pub fn label_file(
    file: &OpenFile,
    labelling: Labelling<'_>,
    options: LabelOptions,
    stop: &AtomicBool,
) -> Result<Labelled, FileError> {
    let present = file.label()?;
    if !options.force && matches!(labelling, Labelling::Hash) && is_signed(present.as_deref()) {
        return Ok(Labelled::Skipped(Skip::Signed));
    }
    for _ in 0..3 {
        let (digest, version) = labelling.over().collect(file, options.algo, stop)?;
        let current = |label: &[u8]| is_current(label, labelling, &digest);
        if !options.force && present.as_deref().is_some_and(current) {
            return Ok(Labelled::Skipped(Skip::UpToDate));
        }
        let label = make_label(labelling, &digest)?;
        if file.version()? != version {
            continue;
        }
        if !options.dry_run {
            file.set_label(&label)?;
        }
        if file.version()?.same_content(&version) {
            return Ok(Labelled::Written(digest));
        }
    }
    Err(FileError::Changing)
}

/// A label for a file as it is now, which is written nowhere.
///
/// # Errors
/// [`FileError`].
pub fn fresh_label(
    file: &OpenFile,
    labelling: Labelling<'_>,
    algo: HashAlgo,
    stop: &AtomicBool,
) -> Result<Vec<u8>, FileError> {
    let (digest, _) = labelling.over().collect(file, algo, stop)?;
    make_label(labelling, &digest)
}

/// The label for a digest.
///
/// # Errors
/// [`FileError::Sign`]; hash labels have none.
pub fn make_label(labelling: Labelling<'_>, digest: &Digest) -> Result<Vec<u8>, FileError> {
    match labelling {
        Labelling::Hash => Ok(ima::encode_digest(digest)),
        Labelling::Signature { key, keyid, over } => {
            let signature = key.sign(&over.signed(digest)?).map_err(FileError::Sign)?;
            let (label_type, version) = over.form();
            ima::encode_signature(label_type, version, digest.algo(), keyid, &signature)
                .map_err(|_| FileError::Sign(SigningError::Failed))
        }
    }
}

fn is_signed(label: Option<&[u8]>) -> bool {
    label.and_then(ima::label_type).is_some_and(LabelType::is_signature)
}

/// Whether `label` says the same as a new one would: same form, algorithm and key, and it holds.
fn is_current(label: &[u8], labelling: Labelling<'_>, digest: &Digest) -> bool {
    match labelling {
        Labelling::Hash => label == ima::encode_digest(digest),
        Labelling::Signature { key, keyid, over } => ima::parse_signature(label).is_ok_and(|signed| {
            (signed.label_type, signed.version) == over.form()
                && signed.algo == Some(digest.algo())
                && signed.keyid == keyid
                && over.signed(digest).is_ok_and(|what| key.public().verify(&what, signed.signature).is_ok())
        }),
    }
}

/// Why a file does not verify. Each is an answer, not a failure to find one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// There is none, or an empty one.
    #[error("no label")]
    NoLabel,
    /// What is there is no regular file.
    #[error("not a regular file")]
    NotRegular,
    /// The label is a hash where a signature was asked for.
    #[error("a hash label, no signature")]
    OnlyHash,
    /// The label is a signature where a hash was asked for.
    #[error("a signature, no hash label")]
    OnlySignature,
    /// The label is not one.
    #[error("malformed label: {0}")]
    Malformed(ParseError),
    /// A signature of a form only newer kernels know (type 03 version 3).
    #[error("a version 3 signature of the content, which is not supported")]
    Version3,
    /// The label is a signature of the fs-verity digest where one of the content was asked for.
    #[error("a signature of the fs-verity digest, which --verity checks")]
    OnlyVerity,
    /// The label is a signature of the content where one of the fs-verity digest was asked for.
    #[error("a signature of the content, none of the fs-verity digest")]
    NotVerity,
    /// The signature names a hash algorithm that does not exist or cannot be computed.
    #[error("unknown hash algorithm")]
    Algorithm,
    /// The signature does not hold.
    #[error("{0}")]
    Signature(VerifyError),
    /// The content does not have the digest in the label, or none of its algorithm.
    #[error("the content does not match the hash label")]
    Content,
}

/// Checks a file by its label against a ring, where that is a signature. The file is hashed only when the label is worth
/// it.
///
/// # Errors
/// [`FileError`] when no answer could be found.
pub fn verify_signature(
    file: &OpenFile,
    label: &[u8],
    ring: &Keyring,
    over: Over,
    stop: &AtomicBool,
) -> Result<Result<KeyId, Unverified>, FileError> {
    let signed = match ima::parse_signature(label) {
        Ok(signed) => signed,
        Err(ParseError::Empty) => return Ok(Err(Unverified::NoLabel)),
        Err(ParseError::NotASignature(LabelType::Digest | LabelType::DigestNg)) => {
            return Ok(Err(Unverified::OnlyHash));
        }
        Err(error) => return Ok(Err(Unverified::Malformed(error))),
    };
    if (signed.label_type, signed.version) != over.form() {
        return Ok(Err(match (over, signed.label_type) {
            (Over::Verity, _) => Unverified::NotVerity,
            (Over::Content, LabelType::VeritySignature) => Unverified::OnlyVerity,
            (Over::Content, _) => Unverified::Version3,
        }));
    }
    let known = |algo: &HashAlgo| algo.is_in_kernels() && (over == Over::Content || has_algo(*algo));
    let Some(algo) = signed.algo.filter(known) else {
        return Ok(Err(Unverified::Algorithm));
    };
    // An unknown key needs no digest, and an untrusted image must not make us read it all for nothing.
    if ring.find(signed.keyid).is_none() {
        return Ok(Err(Unverified::Signature(VerifyError::UnknownKey { keyid: signed.keyid })));
    }
    let (digest, _) = over.collect(file, algo, stop)?;
    if digest.algo() != algo {
        // The filesystem has an fs-verity digest of its own, by the other algorithm.
        return Ok(Err(Unverified::Content));
    }
    Ok(ring
        .verify(signed.keyid, &over.signed(&digest)?, signed.signature)
        .map(|()| signed.keyid)
        .map_err(Unverified::Signature))
}

/// Checks a file's content by its label, where that is a hash.
///
/// # Errors
/// [`FileError`] when no answer could be found.
pub fn verify_hash(
    file: &OpenFile,
    label: &[u8],
    stop: &AtomicBool,
) -> Result<Result<HashAlgo, Unverified>, FileError> {
    match ima::label_type(label) {
        None => return Ok(Err(Unverified::NoLabel)),
        Some(LabelType::Digest | LabelType::DigestNg) => {}
        Some(kind) if kind.is_signature() => return Ok(Err(Unverified::OnlySignature)),
        Some(kind) => return Ok(Err(Unverified::Malformed(ParseError::NotASignature(kind)))),
    }
    let algo = ima::collection_algo(Some(label), HashAlgo::Sha256);
    if !algo.is_in_kernels() {
        return Ok(Err(Unverified::Algorithm));
    }
    let (digest, _) = file.collect(algo, stop)?;
    Ok(if ima::digest_matches(label, &digest) { Ok(algo) } else { Err(Unverified::Content) })
}

/// What a label holds, for people and for JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    /// A digest; the kernel compares as many bytes as the algorithm has.
    Digest {
        /// Algorithm, `None` when the id is unknown or the length fits none.
        algo: Option<HashAlgo>,
        /// The bytes stored.
        bytes: Vec<u8>,
    },
    /// A signature.
    Signature {
        /// Type byte of the label.
        label_type: LabelType,
        /// 2 or 3.
        version: u8,
        /// Hash algorithm, `None` when unknown.
        algo: Option<HashAlgo>,
        /// The key named.
        keyid: KeyId,
        /// Length of the signature in bytes.
        length: usize,
    },
    /// Nothing that can be understood.
    Unknown {
        /// Why.
        reason: ParseError,
        /// Length of the label in bytes.
        length: usize,
    },
}

/// Takes a label apart. Never panics; what makes no sense is [`Description::Unknown`].
pub fn describe(label: &[u8]) -> Description {
    match (ima::parse_signature(label), label) {
        (Ok(signed), _) => Description::Signature {
            label_type: signed.label_type,
            version: signed.version,
            algo: signed.algo,
            keyid: signed.keyid,
            length: signed.signature.len(),
        },
        (Err(ParseError::NotASignature(LabelType::DigestNg)), [_, id, bytes @ ..]) => {
            Description::Digest { algo: HashAlgo::from_id(*id), bytes: bytes.to_vec() }
        }
        (Err(ParseError::NotASignature(LabelType::Digest)), [_, bytes @ ..]) => {
            let algo =
                matches!(bytes.len(), 16 | 20).then(|| ima::collection_algo(Some(label), HashAlgo::Sha1));
            Description::Digest { algo, bytes: bytes.to_vec() }
        }
        (Err(reason), _) => Description::Unknown { reason, length: label.len() },
    }
}
