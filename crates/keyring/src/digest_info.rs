//! The DER bytes that stand before the digest in a PKCS#1 v1.5 signature.
//!
//! Source: RFC 8017 section 9.2 note 1; `crypto/rsa-pkcs1pad.c` (Linux 6.1), `crypto/rsassa-pkcs1.c`
//! (6.19) for the sha3 family. Compared byte for byte, parameters always an explicit NULL.

use ima::HashAlgo;

/// The `DigestInfo` prefix of `algo`, or `None` for an algorithm RSA signatures are not checked with.
///
/// md5 has a prefix in the kernel and none here: chosen-prefix collisions on it cost minutes, so a
/// signature over an md5 digest proves nothing about the file.
pub fn digest_info_prefix(algo: HashAlgo) -> Option<&'static [u8]> {
    match algo {
        HashAlgo::Sha1 => {
            Some(&[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14])
        }
        HashAlgo::Rmd160 => {
            Some(&[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x24, 0x03, 0x02, 0x01, 0x05, 0x00, 0x04, 0x14])
        }
        HashAlgo::Sha224 => Some(const { &nist(0x04, 28) }),
        HashAlgo::Sha256 => Some(const { &nist(0x01, 32) }),
        HashAlgo::Sha384 => Some(const { &nist(0x02, 48) }),
        HashAlgo::Sha512 => Some(const { &nist(0x03, 64) }),
        HashAlgo::Sha3_256 => Some(const { &nist(0x08, 32) }),
        HashAlgo::Sha3_384 => Some(const { &nist(0x09, 48) }),
        HashAlgo::Sha3_512 => Some(const { &nist(0x0a, 64) }),
        _ => None,
    }
}

/// The prefix for the hash at 2.16.840.1.101.3.4.2.`arc`, whose digests are `len` bytes.
const fn nist(arc: u8, len: u8) -> [u8; 19] {
    [
        0x30,
        0x11 + len,
        0x30,
        0x0d,
        0x06,
        0x09,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        arc,
        0x05,
        0x00,
        0x04,
        len,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_the_published_ones() {
        for (algo, prefix) in [
            (HashAlgo::Sha1, "3021300906052b0e03021a05000414"),
            (HashAlgo::Rmd160, "3021300906052b2403020105000414"),
            (HashAlgo::Sha224, "302d300d06096086480165030402040500041c"),
            (HashAlgo::Sha256, "3031300d060960864801650304020105000420"),
            (HashAlgo::Sha384, "3041300d060960864801650304020205000430"),
            (HashAlgo::Sha512, "3051300d060960864801650304020305000440"),
        ] {
            assert_eq!(digest_info_prefix(algo).map(hex::encode).as_deref(), Some(prefix), "{algo:?}");
        }
    }

    #[test]
    fn md5_and_the_exotic_hashes_have_none() {
        for algo in [HashAlgo::Md4, HashAlgo::Md5, HashAlgo::Sm3, HashAlgo::Streebog256] {
            assert_eq!(digest_info_prefix(algo), None);
        }
    }
}
