//! Computing digests, piece by piece or at once.
//!
//! The algorithm is looked at once per [`Hasher::update`], not once per block, so large buffers cost what the
//! implementation itself costs; use buffers of 64 KiB and more for files.

use std::fmt;

use ::digest::{FixedOutput, Update};

use crate::{Digest, HashAlgo};

/// The algorithm can be named but not computed; see [`HashAlgo::is_available`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hash algorithm {0} is not available")]
pub struct UnavailableAlgo(
    /// The algorithm asked for.
    pub HashAlgo,
);

/// A digest being computed.
#[derive(Clone)]
pub struct Hasher {
    algo: HashAlgo,
    state: State,
}

/// Generates the state enum with its three operations from one table of implementations.
macro_rules! states {
    ($($state:ident($implementation:ty): $($algo:ident)|+;)*) => {
        /// One implementation's state. Whirlpool and Tiger serve three algorithms each, which are cuts of the same digest.
        #[derive(Clone)]
        enum State {
            $($state($implementation),)*
        }

        impl State {
            fn new(algo: HashAlgo) -> Option<Self> {
                match algo {
                    $($(HashAlgo::$algo)|+ => Some(Self::$state(<$implementation>::default())),)*
                    HashAlgo::Md4 => None,
                }
            }

            #[inline]
            fn update(&mut self, data: &[u8]) {
                match self {
                    $(Self::$state(state) => Update::update(state, data),)*
                }
            }

            fn finish(self, algo: HashAlgo) -> Digest {
                match self {
                    $(Self::$state(state) => Digest::cut_from(algo, &state.finalize_fixed()),)*
                }
            }
        }
    };
}

states! {
    Md5(md5::Md5): Md5;
    Sha1(sha1::Sha1): Sha1;
    Rmd128(ripemd::Ripemd128): Rmd128;
    Rmd160(ripemd::Ripemd160): Rmd160;
    Rmd256(ripemd::Ripemd256): Rmd256;
    Rmd320(ripemd::Ripemd320): Rmd320;
    Sha224(sha2::Sha224): Sha224;
    Sha256(sha2::Sha256): Sha256;
    Sha384(sha2::Sha384): Sha384;
    Sha512(sha2::Sha512): Sha512;
    Whirlpool(whirlpool::Whirlpool): Wp256 | Wp384 | Wp512;
    Tiger(tiger::Tiger): Tgr128 | Tgr160 | Tgr192;
    Sm3(sm3::Sm3): Sm3;
    Streebog256(streebog::Streebog256): Streebog256;
    Streebog512(streebog::Streebog512): Streebog512;
    Sha3_256(sha3::Sha3_256): Sha3_256;
    Sha3_384(sha3::Sha3_384): Sha3_384;
    Sha3_512(sha3::Sha3_512): Sha3_512;
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    ///
    /// # Errors
    /// [`UnavailableAlgo`] where [`HashAlgo::is_available`] is false.
    pub fn new(algo: HashAlgo) -> Result<Self, UnavailableAlgo> {
        let state = State::new(algo).ok_or(UnavailableAlgo(algo))?;
        Ok(Self { algo, state })
    }

    /// The algorithm.
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// Appends `data` to what is hashed.
    #[inline]
    pub fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    /// The digest of all that was appended.
    pub fn finish(self) -> Digest {
        self.state.finish(self.algo)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algo", &self.algo).finish_non_exhaustive()
    }
}

/// The digest of `data`.
///
/// # Errors
/// [`UnavailableAlgo`] where [`HashAlgo::is_available`] is false.
pub fn hash(algo: HashAlgo, data: &[u8]) -> Result<Digest, UnavailableAlgo> {
    let mut hasher = Hasher::new(algo)?;
    hasher.update(data);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of `hello\n` by OpenSSL 3.0.19 (`openssl dgst -provider default -provider legacy`), cut for wp256/wp384.
    const HELLO: &[&str] = &[
        "md5:b1946ac92492d2347c6235b4d2611184",
        "sha1:f572d396fae9206628714fb2ce00f72e94f2258f",
        "rmd160:0057b0dc5aac7c215a9a458d6c3c85cd21089af8",
        "sha224:2d6d67d91d0badcdd06cbbba1fe11538a68a37ec9c2e26457ceff12b",
        "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "sha384:1d0f284efe3edea4b9ca3bd514fa134b17eae361ccc7a1eefeff801b9bd6604e01f21f6bf249ef030599f0c218f2ba8c",
        "sha512:e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54\
         878f5b316e7ce3b6bc019629",
        "wp256:63f8341c1720d76087bb66a8f3fc9ea21a279edeae866a3611ba425cbd9ac9a4",
        "wp384:63f8341c1720d76087bb66a8f3fc9ea21a279edeae866a3611ba425cbd9ac9a4e39b97066b492fed6037988a72a04534",
        "wp512:63f8341c1720d76087bb66a8f3fc9ea21a279edeae866a3611ba425cbd9ac9a4e39b97066b492fed6037988a72a045344c8675107\
         e6bb569276c2f597ea9cbb7",
        "sm3:f7a87a195b0cc0052b9d598482212ceb07e4ea60e8d139a5dfeff36c24abf2b3",
        "sha3-256:b314e28493eae9dab57ac4f0c6d887bddbbeb810e900d818395ace558e96516d",
        "sha3-384:459b2844fea6e3a937a8397c0d69c06d9c6c943e155da454c638f5424296e994fd0339ea234367ff014493b51adb9d2e",
        "sha3-512:ac766ba623301e0ad63c48cb2fc469d10145f65c9f1f28fe761c78c386ed295a1fda1b05e280354e620757d8a83e05a45f66438d\
         d734278668c1c27ac6f27150",
    ];

    /// Digests of `hello\n` by PHP 8.2.36 (`hash("ripemd128", ...)`, `hash("tiger192,3", ...)`).
    const HELLO_BY_PHP: &[&str] = &[
        "rmd128:0ebeb2b8bcd69da162b60816ca120f26",
        "rmd256:4be48b8063d0b485126e5d84a1cf51b670ceafded98c589d835724cea5294adf",
        "rmd320:07c08d33ae47ae465b9d4ed5f2c53b57db5054b2e7e961e2917b6a2767d1243e15734590e526852b",
        "tgr128:b529747e5337b97818c401dd266799a6",
        "tgr160:b529747e5337b97818c401dd266799a693165013",
        "tgr192:b529747e5337b97818c401dd266799a693165013ce146cac",
    ];

    /// RFC 6986, section 10.1: message M1.
    const STREEBOG_M1: &[u8] = b"012345678901234567890123456789012345678901234567890123456789012";
    const STREEBOG: &[&str] = &[
        "streebog256:9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500",
        "streebog512:1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa00ad30f8767b3a82384c6574f024c311\
         e2a481332b08ef7f41797891c1646f48",
    ];

    fn check(message: &[u8], known: &str) {
        let known: Digest = known.parse().unwrap();
        assert_eq!(hash(known.algo(), message).unwrap(), known);
        let mut pieces = Hasher::new(known.algo()).unwrap();
        message.chunks(3).for_each(|piece| pieces.update(piece));
        assert_eq!(pieces.finish(), known);
    }

    #[test]
    fn known_digests_are_computed() {
        HELLO.iter().for_each(|known| check(b"hello\n", known));
        HELLO_BY_PHP.iter().for_each(|known| check(b"hello\n", known));
        STREEBOG.iter().for_each(|known| check(STREEBOG_M1, known));
    }

    #[test]
    fn every_available_algorithm_has_a_known_answer_here() {
        let known = HELLO.len() + HELLO_BY_PHP.len() + STREEBOG.len();
        assert_eq!(HashAlgo::ALL.iter().filter(|algo| algo.is_available()).count(), known);
    }

    #[test]
    fn what_is_not_available_is_refused_by_name() {
        for algo in HashAlgo::ALL.iter().filter(|algo| !algo.is_available()) {
            let refusal = Hasher::new(*algo).unwrap_err();
            assert_eq!(refusal.to_string(), format!("hash algorithm {algo} is not available"));
        }
    }
}
