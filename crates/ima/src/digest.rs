//! A digest: the algorithm and the bytes together.

use std::{fmt, str::FromStr};

use crate::HashAlgo;

/// The largest digest of any [`HashAlgo`], in bytes (`IMA_MAX_DIGEST_SIZE`).
pub const MAX_DIGEST_LEN: usize = 64;

/// An algorithm and a digest of exactly that algorithm's length. Plain data: it does not say what was hashed.
///
/// Displays as `sha256:5891b5…`, the spelling of measurement lists and audit records, and parses from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algo: HashAlgo,
    /// Zero beyond the algorithm's length, so that the derived comparisons are right.
    bytes: [u8; MAX_DIGEST_LEN],
}

/// Why bytes or text are not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The bytes are not as many as the algorithm makes.
    #[error("a {algo} digest has {} bytes, not {found}", .algo.digest_len())]
    Length {
        /// The algorithm named.
        algo: HashAlgo,
        /// The number of bytes given.
        found: usize,
    },
    /// The text has no colon between algorithm and digest.
    #[error("not of the form algorithm:hex")]
    Form,
    /// The text names no known algorithm.
    #[error("unknown hash algorithm {0:?}")]
    UnknownAlgo(String),
    /// What follows the colon is not hexadecimal.
    #[error("digest is not hexadecimal")]
    Hex,
}

impl Digest {
    /// A digest of `algo` from its bytes.
    ///
    /// # Errors
    /// [`DigestError::Length`] unless there are exactly [`HashAlgo::digest_len`] bytes.
    pub fn new(algo: HashAlgo, bytes: &[u8]) -> Result<Self, DigestError> {
        if bytes.len() != algo.digest_len() {
            return Err(DigestError::Length { algo, found: bytes.len() });
        }
        Ok(Self::cut_from(algo, bytes))
    }

    /// The leading bytes of `output`, as many as `algo` has; an output that is shorter is filled up with zeros.
    pub(crate) fn cut_from(algo: HashAlgo, output: &[u8]) -> Self {
        let mut bytes = [0; MAX_DIGEST_LEN];
        bytes.iter_mut().zip(output).take(algo.digest_len()).for_each(|(to, from)| *to = *from);
        Self { algo, bytes }
    }

    /// All bits zero: what the list shows for a violation, and a PCR's value at start.
    pub const fn zero(algo: HashAlgo) -> Self {
        Self { algo, bytes: [0; MAX_DIGEST_LEN] }
    }

    /// All bits one: what a violation extends a PCR with.
    pub fn ones(algo: HashAlgo) -> Self {
        let mut ones = Self::zero(algo);
        ones.bytes.iter_mut().take(algo.digest_len()).for_each(|byte| *byte = 0xff);
        ones
    }

    /// The algorithm.
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The digest's bytes, [`HashAlgo::digest_len`] of them.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.algo.digest_len()).unwrap_or(&self.bytes)
    }

    /// Whether all bits are zero.
    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    /// The bytes in lowercase hex, without the algorithm.
    pub fn to_hex(&self) -> String {
        hex::encode(self.bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algo)?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// Reads `algorithm:hex`, either case of hex.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, digits) = text.split_once(':').ok_or(DigestError::Form)?;
        let algo = HashAlgo::from_name(name).ok_or_else(|| DigestError::UnknownAlgo(name.to_owned()))?;
        if digits.len() > 2 * MAX_DIGEST_LEN {
            return Err(DigestError::Length { algo, found: digits.len() / 2 });
        }
        Self::new(algo, &hex::decode(digits).map_err(|_| DigestError::Hex)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_length_is_a_digest() {
        for algo in HashAlgo::ALL {
            let len = algo.digest_len();
            assert_eq!(Digest::new(*algo, &vec![7; len]).unwrap().bytes(), vec![7; len]);
            for found in [0, len - 1, len + 1, 1000] {
                assert_eq!(
                    Digest::new(*algo, &vec![7; found]),
                    Err(DigestError::Length { algo: *algo, found }),
                );
            }
            assert_eq!(Digest::ones(*algo).bytes(), vec![0xff; len]);
            assert!(Digest::zero(*algo).is_zero());
        }
    }

    #[test]
    fn text_round_trips() {
        let text = "sha1:f572d396fae9206628714fb2ce00f72e94f2258f";
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(format!("{digest:?}"), format!("Digest({text})"));
    }

    #[test]
    fn text_that_is_no_digest_is_refused() {
        assert_eq!("5891".parse::<Digest>(), Err(DigestError::Form));
        assert_eq!("sha9:58".parse::<Digest>(), Err(DigestError::UnknownAlgo("sha9".into())));
        assert_eq!("md5:xx".parse::<Digest>(), Err(DigestError::Hex));
        assert_eq!("md5:58".parse::<Digest>(), Err(DigestError::Length { algo: HashAlgo::Md5, found: 1 }));
    }
}
