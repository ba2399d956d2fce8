//! The evidence file: a quote, the registers it is over, the key that made it, and the list.
//!
//! A container of sections, described byte by byte in docs/attestation.md. Each section stands there once, in the order
//! of [`Section`], so that there is one way to write the same evidence; the list comes last, so that it can be
//! written from where it lies without being held twice.
//!
//! Reading copies nothing but the small tables, and allocates no more than a few times the size of what it reads.

use ima::{Digest, HashAlgo, PcrIndex};

/// What the file begins with.
pub const MAGIC: [u8; 8] = *b"imafs-ev";

/// The version of the format.
pub const VERSION: u32 = 1;

/// The most certificates that are handed on.
pub const MAX_CERTIFICATES: usize = 8;

/// The longest certificate.
const MAX_CERTIFICATE: usize = 64 * 1024;

/// The parts of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What was signed (`TPMS_ATTEST`).
    Attest,
    /// The signature (`TPMT_SIGNATURE`).
    Signature,
    /// The key's public part (`TPMT_PUBLIC`).
    Public,
    /// The registers.
    Registers,
    /// Certificates of the key, the key's own first.
    Certificates,
    /// The measurement list, binary.
    List,
}

impl Section {
    /// In the order in which they stand in the file.
    const ALL: [Self; 6] =
        [Self::Attest, Self::Signature, Self::Public, Self::Registers, Self::Certificates, Self::List];

    const fn tag(self) -> u32 {
        match self {
            Self::Attest => 1,
            Self::Signature => 2,
            Self::Public => 3,
            Self::Registers => 4,
            Self::Certificates => 5,
            Self::List => 6,
        }
    }

    /// The most bytes it may have.
    const fn limit(self) -> u64 {
        match self {
            Self::Attest | Self::Signature | Self::Public => 4096,
            Self::Registers => 64 * 1024,
            Self::Certificates => (MAX_CERTIFICATES * (MAX_CERTIFICATE + 4)) as u64,
            Self::List => u64::MAX,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Attest => "quote",
            Self::Signature => "signature",
            Self::Public => "public key",
            Self::Registers => "registers",
            Self::Certificates => "certificates",
            Self::List => "list",
        }
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why bytes are no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It begins with something else.
    #[error("not an evidence file")]
    Magic,
    /// Another version than [`VERSION`].
    #[error("evidence of version {0}, and only version {VERSION} is known here")]
    Version(u32),
    /// It ends too early.
    #[error("the {0} section is cut off")]
    Truncated(Section),
    /// Another section stands there.
    #[error("section {found} stands where the {expected} section belongs")]
    Order {
        /// The section that belongs there.
        expected: Section,
        /// The tag that is there.
        found: u32,
    },
    /// More bytes than a section may have.
    #[error("a {section} section of {found} bytes is too long")]
    TooLong {
        /// The section.
        section: Section,
        /// Its length.
        found: u64,
    },
    /// Something follows the last section.
    #[error("{0} bytes follow the evidence")]
    Trailing(usize),
    /// A section's content is not of its form.
    #[error("the {0} section is malformed")]
    Malformed(Section),
}

/// Evidence, taken apart. What the sections say is not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    /// `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// `TPMT_PUBLIC`.
    pub public: &'a [u8],
    /// The registers, in the order in which the quote hashes them.
    pub registers: Vec<(PcrIndex, Digest)>,
    /// The key's certificates, DER, its own first.
    pub certificates: Vec<&'a [u8]>,
    /// The binary list, its template digests SHA-1.
    pub list: &'a [u8],
}

impl<'a> Evidence<'a> {
    /// Reads a file that was read whole.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn parse(file: &'a [u8]) -> Result<Self, EvidenceError> {
        let Some((magic, rest)) = file.split_first_chunk() else { return Err(EvidenceError::Magic) };
        if *magic != MAGIC {
            return Err(EvidenceError::Magic);
        }
        let Some((version, mut rest)) = rest.split_first_chunk() else { return Err(EvidenceError::Magic) };
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(EvidenceError::Version(version));
        }
        let mut next = |expected| section(&mut rest, expected);
        let evidence = Self {
            attest: next(Section::Attest)?,
            signature: next(Section::Signature)?,
            public: next(Section::Public)?,
            registers: registers(next(Section::Registers)?)
                .ok_or(EvidenceError::Malformed(Section::Registers))?,
            certificates: certificates(next(Section::Certificates)?)
                .ok_or(EvidenceError::Malformed(Section::Certificates))?,
            list: next(Section::List)?,
        };
        if rest.is_empty() { Ok(evidence) } else { Err(EvidenceError::Trailing(rest.len())) }
    }

    /// All that comes before the list, which has `list` bytes; the list follows as it is.
    ///
    /// # Errors
    /// [`EvidenceError::TooLong`], or [`EvidenceError::Malformed`] for a register without a TPM's number.
    pub fn head(&self, list: u64) -> Result<Vec<u8>, EvidenceError> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let mut registers = Vec::new();
        for (pcr, value) in &self.registers {
            let malformed = EvidenceError::Malformed(Section::Registers);
            let algo = value.algo().tpm_id().ok_or(malformed.clone())?;
            registers.extend_from_slice(&algo.to_le_bytes());
            registers.push(u8::try_from(pcr.value()).map_err(|_| malformed)?);
            registers.extend_from_slice(value.bytes());
        }
        let mut certificates = Vec::new();
        for der in &self.certificates {
            let too_long = EvidenceError::Malformed(Section::Certificates);
            let length = u32::try_from(der.len()).map_err(|_| too_long)?;
            certificates.extend_from_slice(&length.to_le_bytes());
            certificates.extend_from_slice(der);
        }
        for section in Section::ALL {
            let content = match section {
                Section::Attest => self.attest,
                Section::Signature => self.signature,
                Section::Public => self.public,
                Section::Registers => &registers,
                Section::Certificates => &certificates,
                Section::List => &[],
            };
            let length = if section == Section::List { list } else { content.len() as u64 };
            if length > section.limit() {
                return Err(EvidenceError::TooLong { section, found: length });
            }
            out.extend_from_slice(&section.tag().to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(content);
        }
        Ok(out)
    }

    /// The whole file.
    ///
    /// # Errors
    /// As [`Evidence::head`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        let mut out = self.head(self.list.len() as u64)?;
        out.extend_from_slice(self.list);
        Ok(out)
    }
}

/// Takes the next section, which must be this one.
fn section<'a>(rest: &mut &'a [u8], expected: Section) -> Result<&'a [u8], EvidenceError> {
    let cut = EvidenceError::Truncated(expected);
    let (tag, after) = rest.split_first_chunk().ok_or(cut.clone())?;
    let tag = u32::from_le_bytes(*tag);
    if tag != expected.tag() {
        return Err(EvidenceError::Order { expected, found: tag });
    }
    let (length, after) = after.split_first_chunk().ok_or(cut.clone())?;
    let found = u64::from_le_bytes(*length);
    if found > expected.limit() {
        return Err(EvidenceError::TooLong { section: expected, found });
    }
    let length = usize::try_from(found).map_err(|_| cut.clone())?;
    let (content, after) = after.split_at_checked(length).ok_or(cut)?;
    *rest = after;
    Ok(content)
}

fn registers(mut rest: &[u8]) -> Option<Vec<(PcrIndex, Digest)>> {
    let mut registers = Vec::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_first_chunk()?;
        let [low, high, pcr] = *head;
        let algo = HashAlgo::from_tpm_id(u16::from_le_bytes([low, high]))?;
        let (value, after) = after.split_at_checked(algo.digest_len())?;
        registers.push((PcrIndex::new(u32::from(pcr))?, Digest::new(algo, value).ok()?));
        rest = after;
    }
    Some(registers)
}

fn certificates(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (der, after) = after.split_at_checked(length)?;
        if der.is_empty() || length > MAX_CERTIFICATE || certificates.len() == MAX_CERTIFICATES {
            return None;
        }
        certificates.push(der);
        rest = after;
    }
    Some(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Evidence<'static> {
        Evidence {
            attest: b"attest",
            signature: b"signature",
            public: b"public",
            registers: vec![
                (PcrIndex::DEFAULT, Digest::ones(HashAlgo::Sha1)),
                (PcrIndex::DEFAULT, Digest::zero(HashAlgo::Sha512)),
            ],
            certificates: vec![b"one", b"other"],
            list: b"the list",
        }
    }

    #[test]
    fn evidence_round_trips() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(Evidence::parse(&bytes), Ok(sample()));
    }

    #[test]
    fn every_truncation_is_refused_and_so_is_anything_behind() {
        let mut bytes = sample().to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(Evidence::parse(&bytes[..end]).is_err(), "{end}");
        }
        bytes.push(0);
        assert_eq!(Evidence::parse(&bytes), Err(EvidenceError::Trailing(1)));
    }

    #[test]
    fn sections_have_one_order_and_a_limit() {
        let mut bytes = sample().to_bytes().unwrap();
        bytes[12] = 2;
        assert_eq!(
            Evidence::parse(&bytes),
            Err(EvidenceError::Order { expected: Section::Attest, found: 2 })
        );
        bytes[12] = 1;
        bytes[22] = 1;
        let found = 6 + (1 << 48);
        assert_eq!(Evidence::parse(&bytes), Err(EvidenceError::TooLong { section: Section::Attest, found }));
        bytes[8] = 2;
        assert_eq!(Evidence::parse(&bytes), Err(EvidenceError::Version(2)));
        bytes[0] = b'I';
        assert_eq!(Evidence::parse(&bytes), Err(EvidenceError::Magic));
    }
}
