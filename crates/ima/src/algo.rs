//! The hash algorithms IMA can name, with the numbers and spellings the kernel gives them.
//!
//! Source: `enum hash_algo`, `hash_algo_name`, `hash_digest_size` (include/uapi/linux/hash_info.h, crypto/hash_info.c).
//! Ids 0 to 19 are Linux 6.1's; 20 to 22 (SHA-3) came with 6.7.

use std::fmt;

/// Generates the enum and its tables from one list, so that a row cannot be half there.
macro_rules! algorithms {
    ($($variant:ident = $id:literal, $name:literal, $len:literal, $doc:literal;)*) => {
        /// A hash algorithm of the kernel's `hash_info`, by its id (the one byte in labels and signature headers).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum HashAlgo {
            $(#[doc = $doc] $variant = $id,)*
        }

        impl HashAlgo {
            /// All algorithms, in order of their ids.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The algorithm of an id, or `None` where the kernel would call the id invalid.
            pub const fn from_id(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The kernel's spelling: in measurement lists, in policies (`appraise_algos=`) and in audit records.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Digest size in bytes, at most [`MAX_DIGEST_LEN`](crate::MAX_DIGEST_LEN).
            pub const fn digest_len(self) -> usize {
                match self {
                    $(Self::$variant => $len,)*
                }
            }
        }
    };
}

algorithms! {
    Md4 = 0, "md4", 16, "MD4; cannot be computed here.";
    Md5 = 1, "md5", 16, "MD5.";
    Sha1 = 2, "sha1", 20, "SHA-1, the algorithm of the template digests in the unsuffixed measurement lists.";
    Rmd160 = 3, "rmd160", 20, "RIPEMD-160.";
    Sha256 = 4, "sha256", 32, "SHA-256.";
    Sha384 = 5, "sha384", 48, "SHA-384.";
    Sha512 = 6, "sha512", 64, "SHA-512.";
    Sha224 = 7, "sha224", 28, "SHA-224.";
    Rmd128 = 8, "rmd128", 16, "RIPEMD-128.";
    Rmd256 = 9, "rmd256", 32, "RIPEMD-256.";
    Rmd320 = 10, "rmd320", 40, "RIPEMD-320.";
    Wp256 = 11, "wp256", 32, "Whirlpool cut to 256 bits.";
    Wp384 = 12, "wp384", 48, "Whirlpool cut to 384 bits.";
    Wp512 = 13, "wp512", 64, "Whirlpool.";
    Tgr128 = 14, "tgr128", 16, "Tiger cut to 128 bits.";
    Tgr160 = 15, "tgr160", 20, "Tiger cut to 160 bits.";
    Tgr192 = 16, "tgr192", 24, "Tiger.";
    Sm3 = 17, "sm3", 32, "SM3 (GB/T 32905-2016).";
    Streebog256 = 18, "streebog256", 32, "Streebog (GOST R 34.11-2012), 256 bits.";
    Streebog512 = 19, "streebog512", 64, "Streebog (GOST R 34.11-2012), 512 bits.";
    Sha3_256 = 20, "sha3-256", 32, "SHA3-256.";
    Sha3_384 = 21, "sha3-384", 48, "SHA3-384.";
    Sha3_512 = 22, "sha3-512", 64, "SHA3-512.";
}

impl HashAlgo {
    /// The kernel's id.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The algorithm of this exact spelling; there are no aliases (`SHA256`, `sm3-256` are refused).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algo| algo.name() == name)
    }

    /// The TPM 2.0 `TPM_ALG_ID` of the bank the kernel maps to this algorithm, if there is one.
    ///
    /// Source: `tpm2_hash_map`, drivers/char/tpm/tpm2-cmd.c.
    pub const fn tpm_id(self) -> Option<u16> {
        match self {
            Self::Sha1 => Some(0x0004),
            Self::Sha256 => Some(0x000b),
            Self::Sha384 => Some(0x000c),
            Self::Sha512 => Some(0x000d),
            Self::Sm3 => Some(0x0012),
            _ => None,
        }
    }

    /// The algorithm of a TPM 2.0 `TPM_ALG_ID`; `None` for a bank the kernel calls unmapped.
    pub fn from_tpm_id(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|algo| algo.tpm_id() == Some(id))
    }

    /// Whether this crate can compute it: what [`Hasher::new`](crate::Hasher::new) refuses is `false` here.
    ///
    /// All but MD4, which protects nothing: anybody makes a second file with the digest of a first.
    pub const fn is_available(self) -> bool {
        !matches!(self, Self::Md4)
    }

    /// Whether kernels of today compute it. RIPEMD-128/256/320 and Tiger left Linux with 5.12, MD4 is absent from
    /// Debian's.
    ///
    /// Where a kernel would not, a label must not have its way either, or what a kernel denies would pass here: the
    /// others are for mounts that name them.
    pub const fn is_in_kernels(self) -> bool {
        !matches!(
            self,
            Self::Md4
                | Self::Rmd128
                | Self::Rmd256
                | Self::Rmd320
                | Self::Tgr128
                | Self::Tgr160
                | Self::Tgr192
        )
    }
}

impl fmt::Display for HashAlgo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_from_zero_and_names_are_unique() {
        for (position, algo) in HashAlgo::ALL.iter().enumerate() {
            assert_eq!(usize::from(algo.id()), position);
            assert_eq!(HashAlgo::from_id(algo.id()), Some(*algo));
            assert_eq!(HashAlgo::from_name(algo.name()), Some(*algo));
            assert!(algo.digest_len() <= crate::MAX_DIGEST_LEN);
        }
        assert_eq!(HashAlgo::ALL.len(), 23);
        assert_eq!(HashAlgo::from_id(23), None);
    }

    #[test]
    fn spellings_are_exact() {
        for refused in ["SHA256", "sha-256", "sm3-256", "sha3_256", "", " sha256", "sha256 "] {
            assert_eq!(HashAlgo::from_name(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn tpm_banks_map_both_ways() {
        assert_eq!(HashAlgo::from_tpm_id(0x000b), Some(HashAlgo::Sha256));
        assert_eq!(HashAlgo::from_tpm_id(0x0027), None);
        assert_eq!(HashAlgo::Sha224.tpm_id(), None);
    }
}
