//! A named ring of certificates that many threads verify against while one changes it.
//!
//! Readers take an immutable snapshot without locking; writers replace it under `writing`. Each
//! change that can alter an answer raises the generation, so a verdict remembered together with
//! the generation read *before* the verification is never older than it claims.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use ima::{Digest, HashAlgo, KeyId};
use parking_lot::Mutex;

use crate::{Blacklist, Certificate, KeyKind, SignatureError};

/// Why a signature does not verify against a ring.
///
/// All of these are the kernel's `invalid-signature`; telling them apart is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No certificate on the ring has this keyid.
    #[error("no key {keyid} on the keyring")]
    UnknownKey {
        /// The keyid asked for.
        keyid: KeyId,
    },
    /// The keyid has been revoked, whatever certificates carry it.
    #[error("key {keyid} is revoked")]
    Revoked {
        /// The keyid asked for.
        keyid: KeyId,
    },
    /// The key is never used with this hash algorithm.
    #[error("{kind} signatures over {} digests are not supported", algo.name())]
    Unsupported {
        /// The key.
        kind: KeyKind,
        /// The digest's algorithm.
        algo: HashAlgo,
    },
    /// The signature's length is not the RSA modulus's.
    #[error("signature of {found} bytes, the key makes {expected}")]
    SignatureLength {
        /// Modulus length in bytes.
        expected: usize,
        /// Signature length in bytes.
        found: usize,
    },
    /// The key did not sign this digest.
    #[error("the signature does not match")]
    BadSignature,
}

impl From<SignatureError> for VerifyError {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::UnsupportedHash { kind, algo } => Self::Unsupported { kind, algo },
            SignatureError::Length { expected, found } => Self::SignatureLength { expected, found },
            SignatureError::Mismatch => Self::BadSignature,
        }
    }
}

/// What adding a certificate did.
#[derive(Debug, Clone)]
#[must_use = "a shadowed certificate verifies nothing, and its owner should be told"]
pub enum Added {
    /// The certificate answers for its keyid from now on.
    New,
    /// The very same certificate was there already; nothing changed.
    Present,
    /// Another certificate with the same keyid came first and answers for it, as in the kernel,
    /// which tries only the first match. This one is listed and never asked.
    Shadowed {
        /// The certificate that answers.
        by: Arc<Certificate>,
    },
    /// The ring's blacklist names the certificate; it was not taken (the kernel answers `EKEYREJECTED`).
    Blacklisted,
}

/// A named set of trusted certificates. Thread-safe; keys are parsed once, when added.
#[derive(Debug)]
pub struct Keyring {
    name: String,
    blacklist: Arc<Blacklist>,
    contents: ArcSwap<Contents>,
    writing: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    generation: u64,
    in_order: Vec<Arc<Certificate>>,
    by_keyid: HashMap<KeyId, Arc<Certificate>>,
    revoked: BTreeSet<KeyId>,
}

impl Keyring {
    /// An empty ring; `name` is for messages and listings (the kernel's are `.ima`, `_ima`).
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_blacklist(name, Arc::default())
    }

    /// An empty ring that takes no certificate of this blacklist.
    pub fn with_blacklist(name: impl Into<String>, blacklist: Arc<Blacklist>) -> Self {
        Self { name: name.into(), blacklist, contents: ArcSwap::default(), writing: Mutex::new(()) }
    }

    /// The ring's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the ring refuses whoever vouches for it.
    pub fn blacklist(&self) -> &Arc<Blacklist> {
        &self.blacklist
    }

    /// Adds a certificate; on a keyid collision the first one added keeps answering.
    pub fn add(&self, certificate: Certificate) -> Added {
        if self.blacklist.has_certificate(&certificate) {
            return Added::Blacklisted;
        }
        self.change(|contents| contents.add(Arc::new(certificate)))
    }

    /// Takes every certificate with this keyid off the ring; says how many there were.
    pub fn remove(&self, keyid: KeyId) -> usize {
        self.change(|contents| {
            let before = contents.in_order.len();
            contents.in_order.retain(|certificate| certificate.keyid() != keyid);
            contents.by_keyid.remove(&keyid);
            let removed = before - contents.in_order.len();
            contents.generation += u64::from(removed > 0);
            removed
        })
    }

    /// Refuses this keyid from now on, also in certificates added later. `false`: it already was.
    ///
    /// Like the kernel's `.ima_blacklist`, which is asked before the ring is searched.
    pub fn revoke(&self, keyid: KeyId) -> bool {
        self.change(|contents| {
            let new = contents.revoked.insert(keyid);
            contents.generation += u64::from(new);
            new
        })
    }

    /// The certificates in the order they were added, shadowed ones included.
    pub fn list(&self) -> Vec<Arc<Certificate>> {
        self.contents.load().in_order.clone()
    }

    /// The certificate that answers for a keyid, revoked or not.
    pub fn find(&self, keyid: KeyId) -> Option<Arc<Certificate>> {
        self.contents.load().by_keyid.get(&keyid).cloned()
    }

    /// Whether a keyid is revoked.
    pub fn is_revoked(&self, keyid: KeyId) -> bool {
        self.contents.load().revoked.contains(&keyid)
    }

    /// Rises with each change that can alter an answer. Read it before [`Keyring::verify`].
    pub fn generation(&self) -> u64 {
        self.contents.load().generation
    }

    /// Checks that the key named `keyid` signed `digest`, which is never hashed again.
    ///
    /// # Errors
    /// [`VerifyError`] when it did not, or cannot be shown to have.
    pub fn verify(&self, keyid: KeyId, digest: &Digest, signature: &[u8]) -> Result<(), VerifyError> {
        let contents = self.contents.load();
        if contents.revoked.contains(&keyid) {
            return Err(VerifyError::Revoked { keyid });
        }
        let certificate = contents.by_keyid.get(&keyid).ok_or(VerifyError::UnknownKey { keyid })?;
        Ok(certificate.public_key().verify(digest, signature)?)
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Contents) -> T) -> T {
        let _writing = self.writing.lock();
        let mut contents = Contents::clone(&self.contents.load());
        let outcome = edit(&mut contents);
        self.contents.store(Arc::new(contents));
        outcome
    }
}

impl Contents {
    fn add(&mut self, certificate: Arc<Certificate>) -> Added {
        if self.in_order.iter().any(|known| known.der() == certificate.der()) {
            return Added::Present;
        }
        self.in_order.push(Arc::clone(&certificate));
        if let Some(first) = self.by_keyid.get(&certificate.keyid()) {
            return Added::Shadowed { by: Arc::clone(first) };
        }
        self.by_keyid.insert(certificate.keyid(), certificate);
        self.generation += 1;
        Added::New
    }
}
