//! What is refused whoever vouches for it: content by its digest, certificates by the digest of what was signed.
//!
//! The entries are the descriptions of the kernel's `.blacklist` keyring: `bin:` and the digest of a file, `tbs:` and
//! the digest of a certificate's TBSCertificate by the hash of the certificate's own signature; lowercase hex. Like
//! the kernel's they name no algorithm: any digest of these bytes is meant.
//!
//! A blacklist is read once and never changes; a ring keeps the one it was made with.
//!
//! Source: `blacklist_vet_description` and `is_hash_blacklisted`, certs/blacklist.c, Linux 6.1.

use std::collections::HashSet;

use ima::{Digest, MAX_DIGEST_LEN};

use crate::Certificate;

/// The digests of content and certificates that are revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blacklist {
    files: HashSet<Box<[u8]>>,
    certificates: HashSet<Box<[u8]>>,
}

/// A line that is no entry of a blacklist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}")]
pub struct BlacklistError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub source: EntryError,
}

/// Why a description is none the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It begins with neither `bin:` nor `tbs:`.
    #[error("neither bin:HEX nor tbs:HEX")]
    Kind,
    /// The digest is empty, or not of whole bytes in lowercase hex.
    #[error("the digest is not of whole bytes in lowercase hex")]
    Hex,
    /// The digest is longer than any hash's (the kernel answers `ENOPKG`).
    #[error("a digest of more than {MAX_DIGEST_LEN} bytes")]
    TooLong,
}

impl Blacklist {
    /// Reads a list: one description a line. Empty lines and lines that begin with `#` say nothing; one line that is
    /// neither voids all, for a revocation that is left out in silence is none.
    ///
    /// # Errors
    /// [`BlacklistError`] at the first line that is no description. Never panics.
    pub fn parse(text: &[u8]) -> Result<Self, BlacklistError> {
        let mut list = Self::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            list.add(line).map_err(|source| BlacklistError { line: index + 1, source })?;
        }
        Ok(list)
    }

    fn add(&mut self, description: &[u8]) -> Result<(), EntryError> {
        let (set, hex) = match description.split_at_checked(4) {
            Some((b"bin:", hex)) => (&mut self.files, hex),
            Some((b"tbs:", hex)) => (&mut self.certificates, hex),
            Some(_) | None => return Err(EntryError::Kind),
        };
        if !hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(EntryError::Hex);
        }
        if hex.len() > 2 * MAX_DIGEST_LEN {
            return Err(EntryError::TooLong);
        }
        let digest = hex::decode(hex).map_err(|_| EntryError::Hex)?;
        if digest.is_empty() {
            return Err(EntryError::Hex);
        }
        set.insert(digest.into());
        Ok(())
    }

    /// Adds the entries of another list.
    pub fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.certificates.extend(other.certificates);
    }

    /// Whether content of this digest is revoked.
    pub fn has_content(&self, digest: &Digest) -> bool {
        self.files.contains(digest.bytes())
    }

    /// Whether this certificate is revoked.
    pub fn has_certificate(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate.tbs_digest().bytes())
    }

    /// How many digests of content, and how many of certificates.
    pub fn counts(&self) -> (usize, usize) {
        (self.files.len(), self.certificates.len())
    }
}

#[cfg(test)]
mod tests {
    use ima::HashAlgo;

    use super::*;

    #[test]
    fn entries_are_read_and_asked_for_by_their_bytes() {
        let hello = ima::hash(HashAlgo::Sha256, b"hello\n").unwrap();
        let text = format!("# revoked\n\n bin:{} \r\nbin:00\ntbs:ff\n", hello.to_hex());
        let list = Blacklist::parse(text.as_bytes()).unwrap();
        assert_eq!(list.counts(), (2, 1));
        assert!(list.has_content(&hello));
        assert!(!list.has_content(&ima::hash(HashAlgo::Sha256, b"hello").unwrap()));
        assert!(!list.has_content(&ima::hash(HashAlgo::Sha512, b"hello\n").unwrap()));
    }

    #[test]
    fn what_the_kernel_refuses_voids_the_list_and_names_its_line() {
        let longest = format!("bin:{}", "ab".repeat(MAX_DIGEST_LEN));
        assert!(Blacklist::parse(longest.as_bytes()).is_ok());
        for (text, line, source) in [
            ("bin:", 1, EntryError::Hex),
            ("bin:abc", 1, EntryError::Hex),
            ("\n#\nbin:AB", 3, EntryError::Hex),
            ("bin:00\nbin:0g", 2, EntryError::Hex),
            ("tbs: 00", 1, EntryError::Hex),
            ("BIN:00", 1, EntryError::Kind),
            ("sha256:00", 1, EntryError::Kind),
            ("bin", 1, EntryError::Kind),
            ("00", 1, EntryError::Kind),
            (&format!("{longest}00"), 1, EntryError::TooLong),
        ] {
            assert_eq!(Blacklist::parse(text.as_bytes()), Err(BlacklistError { line, source }), "{text}");
        }
    }
}
