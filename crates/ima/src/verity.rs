//! The fs-verity digest of a file: a Merkle tree over its blocks, and the digest of a descriptor with the tree's root.
//!
//! [`Shape`] hashes blocks, [`Tree`] takes their digests in order and keeps one unfinished block per level, so a tree
//! over any file needs a few kilobytes. Who reads the file, and with how many threads, is the caller's part.
//!
//! Source: Documentation/filesystems/fsverity.rst; `struct fsverity_descriptor`, include/uapi/linux/fsverity.h.

use crate::{Digest, HashAlgo, Hasher, UnavailableAlgo};

/// The block size that `fsverity` and the kernel take unless told otherwise.
pub const BLOCK_SIZE: usize = 4096;

/// Bytes of the descriptor's `salt`.
const MAX_SALT: usize = 32;

/// Bytes of `struct fsverity_descriptor`.
const DESCRIPTOR_LEN: usize = 256;

/// Bytes of the descriptor's `root_hash`.
const ROOT_LEN: usize = 64;

/// Bytes of the descriptor's reserved end.
const RESERVED_LEN: usize = 144;

/// The smallest block the kernel takes (since 6.3; before, only the page size).
const MIN_BLOCK: usize = 1024;

/// The largest block: what the largest pages of any Linux machine hold.
const MAX_BLOCK: usize = 65536;

/// A Merkle tree of these parameters does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// fs-verity knows SHA-256 and SHA-512.
    #[error("fs-verity has no {0} digests")]
    Algorithm(HashAlgo),
    /// The block size is no power of two from 1,024 to 65,536.
    #[error("fs-verity has no blocks of {0} bytes")]
    BlockSize(usize),
    /// The salt is longer than 32 bytes.
    #[error("an fs-verity salt has at most {MAX_SALT} bytes, not {0}")]
    Salt(usize),
}

impl From<UnavailableAlgo> for ShapeError {
    fn from(UnavailableAlgo(algo): UnavailableAlgo) -> Self {
        Self::Algorithm(algo)
    }
}

/// How a tree is built: algorithm, block size, salt.
#[derive(Debug, Clone)]
pub struct Shape {
    algo: HashAlgo,
    block_size: usize,
    salt: Vec<u8>,
    /// Has seen the salt, filled up with zeros to a whole block of the hash function.
    salted: Hasher,
}

/// Whether fs-verity has digests of this algorithm.
pub const fn has_algo(algo: HashAlgo) -> bool {
    number(algo).is_some()
}

/// `FS_VERITY_HASH_ALG_*`.
const fn number(algo: HashAlgo) -> Option<u8> {
    match algo {
        HashAlgo::Sha256 => Some(1),
        HashAlgo::Sha512 => Some(2),
        _ => None,
    }
}

/// The algorithm of an `FS_VERITY_HASH_ALG_*` number.
pub const fn algo_of(number: u16) -> Option<HashAlgo> {
    match number {
        1 => Some(HashAlgo::Sha256),
        2 => Some(HashAlgo::Sha512),
        _ => None,
    }
}

/// The algorithm of the fs-verity digest of a file with this label, where nothing has chosen one yet.
///
/// A version 3 signature over such a digest (type 06) names it. Whatever names no algorithm of fs-verity gives
/// `default`, or SHA-256 where that is none either.
pub fn digest_algo(label: Option<&[u8]>, default: HashAlgo) -> HashAlgo {
    let signed = label.filter(|label| label.first() == Some(&crate::label::TYPE_VERITY_SIGNATURE));
    [crate::collection_algo(signed, default), default]
        .into_iter()
        .find(|algo| has_algo(*algo))
        .unwrap_or(HashAlgo::Sha256)
}

impl Shape {
    /// Trees of this algorithm with blocks of 4,096 bytes and no salt: what a label's digest is of.
    ///
    /// # Errors
    /// [`ShapeError::Algorithm`].
    pub fn plain(algo: HashAlgo) -> Result<Self, ShapeError> {
        Self::new(algo, BLOCK_SIZE, &[])
    }

    /// Trees of any parameters.
    ///
    /// # Errors
    /// [`ShapeError`] for what fs-verity does not know.
    pub fn new(algo: HashAlgo, block_size: usize, salt: &[u8]) -> Result<Self, ShapeError> {
        let input_block = match algo {
            HashAlgo::Sha256 => 64_usize,
            HashAlgo::Sha512 => 128,
            _ => return Err(ShapeError::Algorithm(algo)),
        };
        if !block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block_size) {
            return Err(ShapeError::BlockSize(block_size));
        }
        if salt.len() > MAX_SALT {
            return Err(ShapeError::Salt(salt.len()));
        }
        let mut salted = Hasher::new(algo)?;
        if !salt.is_empty() {
            let mut padded = salt.to_vec();
            padded.resize(input_block, 0);
            salted.update(&padded);
        }
        Ok(Self { algo, block_size, salt: salt.to_vec(), salted })
    }

    /// The algorithm.
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// Bytes of a block.
    pub const fn block_size(&self) -> usize {
        self.block_size
    }

    /// The digest of one block of data or of the tree. What is missing to a whole block is zeros.
    pub fn hash_block(&self, data: &[u8]) -> Digest {
        const ZEROS: [u8; 512] = [0; 512];
        let mut hasher = self.salted.clone();
        hasher.update(data);
        let mut missing = self.block_size.saturating_sub(data.len());
        while let Some(zeros) = ZEROS.get(..missing.min(ZEROS.len())).filter(|zeros| !zeros.is_empty()) {
            hasher.update(zeros);
            missing -= zeros.len();
        }
        hasher.finish()
    }

    /// The digest of the descriptor: version, algorithm, block size as a power of two, salt length, four zeros, data
    /// size (little-endian), root, salt, zeros. It is not salted.
    fn descriptor_digest(&self, data_size: u64, root: &[u8]) -> Result<Digest, UnavailableAlgo> {
        let mut descriptor = Vec::with_capacity(DESCRIPTOR_LEN);
        let log = u8::try_from(self.block_size.ilog2()).unwrap_or_default();
        let salt_len = u8::try_from(self.salt.len()).unwrap_or_default();
        descriptor.extend_from_slice(&[1, number(self.algo).unwrap_or_default(), log, salt_len, 0, 0, 0, 0]);
        descriptor.extend_from_slice(&data_size.to_le_bytes());
        let mut field = |bytes: &[u8], len: usize| {
            let end = descriptor.len() + len;
            descriptor.extend_from_slice(bytes);
            descriptor.resize(end, 0);
        };
        field(root, ROOT_LEN);
        field(&self.salt, MAX_SALT);
        field(&[], RESERVED_LEN);
        crate::hash(self.algo, &descriptor)
    }
}

/// One level of a tree being built: the block that is not full yet.
#[derive(Debug, Default)]
struct Level {
    block: Vec<u8>,
    /// Whether a digest has gone up from here.
    passed: bool,
}

/// A Merkle tree being built, from the digests of the data's blocks in their order.
#[derive(Debug)]
pub struct Tree<'a> {
    shape: &'a Shape,
    levels: Vec<Level>,
}

impl<'a> Tree<'a> {
    /// A tree over nothing yet.
    pub const fn new(shape: &'a Shape) -> Self {
        Self { shape, levels: Vec::new() }
    }

    /// Appends the digest of the next block of data, made by [`Shape::hash_block`].
    pub fn push(&mut self, digest: &Digest) {
        self.push_at(0, *digest);
    }

    fn push_at(&mut self, mut level: usize, mut digest: Digest) {
        loop {
            if self.levels.len() <= level {
                self.levels.push(Level::default());
            }
            let Some(Level { block, passed }) = self.levels.get_mut(level) else { return };
            block.extend_from_slice(digest.bytes());
            if block.len() + digest.bytes().len() <= self.shape.block_size {
                return;
            }
            digest = self.shape.hash_block(block);
            block.clear();
            *passed = true;
            level += 1;
        }
    }

    /// The file's digest, once all blocks of its `data_size` bytes are there.
    ///
    /// The root is the digest on the first level that has but one; of an empty file it is zeros.
    ///
    /// # Errors
    /// [`UnavailableAlgo`]; not for a shape that exists.
    pub fn finish(mut self, data_size: u64) -> Result<Digest, UnavailableAlgo> {
        let digest_len = self.shape.algo.digest_len();
        let mut level = 0;
        let root = loop {
            let Some(Level { block, passed }) = self.levels.get_mut(level) else { break Vec::new() };
            if !*passed && block.len() == digest_len {
                break std::mem::take(block);
            }
            if !block.is_empty() {
                let digest = self.shape.hash_block(block);
                self.push_at(level + 1, digest);
            }
            level += 1;
        };
        self.shape.descriptor_digest(data_size, &root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of `size` zero bytes.
    fn digest_of_zeros(shape: &Shape, size: u64) -> String {
        let mut tree = Tree::new(shape);
        let block = shape.hash_block(&[]);
        for _ in 0..size.div_ceil(shape.block_size() as u64) {
            tree.push(&block);
        }
        tree.finish(size).unwrap().to_string()
    }

    /// What a 6.1 kernel recorded of files with fs-verity: `integration/golden/verity-measure`.
    #[test]
    fn digests_are_those_that_a_kernel_measured() {
        let of = |algo: HashAlgo, content: &[u8]| {
            let shape = Shape::plain(algo).unwrap();
            let mut tree = Tree::new(&shape);
            content.chunks(BLOCK_SIZE).for_each(|block| tree.push(&shape.hash_block(block)));
            tree.finish(content.len() as u64).unwrap().to_hex()
        };
        let numbers: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        let sha512 = "6772788fcc57cdc27d7627fbebbe0bebc70e9dfdd18362c5604eeb9af893064d\
                      eed6ec004783b7c509f8a1ee343d26f6dc1ea2b1b755bfd3c51ebb3602869da4";
        for (content, expected) in [
            ("", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
            ("small\n", "1025126569ef8b3bb08f4a9a25f2bdf43c0da66e2cc7b8f6f2abc95f842836b4"),
            (&numbers, "daf471aa939bd07796cc73bb8cec3f5ce59b8c43fe969d9bae5c253fc29ee10f"),
        ] {
            assert_eq!(of(HashAlgo::Sha256, content.as_bytes()), expected);
        }
        assert_eq!(of(HashAlgo::Sha512, b"small\n"), sha512);
    }

    #[test]
    fn only_what_fs_verity_knows_is_a_shape() {
        for algo in HashAlgo::ALL {
            assert_eq!(Shape::plain(*algo).is_ok(), has_algo(*algo), "{algo}");
            assert!(!has_algo(*algo) || algo_of(u16::from(number(*algo).unwrap())) == Some(*algo));
        }
        for size in [0, 512, 1023, 4095, 4097, 131_072] {
            let refused = Shape::new(HashAlgo::Sha256, size, &[]).unwrap_err();
            assert_eq!(refused, ShapeError::BlockSize(size));
        }
        assert!(Shape::new(HashAlgo::Sha256, 1024, &[1; 32]).is_ok());
        assert_eq!(Shape::new(HashAlgo::Sha256, 4096, &[1; 33]).unwrap_err(), ShapeError::Salt(33));
        assert_eq!(algo_of(0), None);
        assert_eq!(algo_of(3), None);
    }

    /// Sizes about the edges of each level, so that a tree that is exactly full and one that is one block over are
    /// both there: with 1,024-byte blocks of SHA-512 a tree block has 16 digests.
    #[test]
    fn a_full_level_and_the_next_block_give_other_roots() {
        let shape = Shape::new(HashAlgo::Sha512, 1024, &[]).unwrap();
        let sizes = [1, 15, 16, 17, 255, 256, 257, 4096, 4097].map(|blocks| blocks * 1024);
        let mut seen: Vec<_> = sizes.iter().map(|size| digest_of_zeros(&shape, *size)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), sizes.len());
    }

    #[test]
    fn a_label_chooses_the_algorithm_only_where_it_signs_such_a_digest() {
        let (sha256, sha512) = (HashAlgo::Sha256, HashAlgo::Sha512);
        let signature = |kind, algo: HashAlgo| [&[kind, 3, algo.id(), 0, 0, 0, 0, 0, 1][..], &[0]].concat();
        assert_eq!(digest_algo(Some(&signature(6, sha512)), sha256), sha512);
        assert_eq!(digest_algo(Some(&signature(6, HashAlgo::Sha384)), sha512), sha512);
        assert_eq!(digest_algo(Some(&signature(6, HashAlgo::Sha384)), HashAlgo::Sha1), sha256);
        assert_eq!(digest_algo(Some(&signature(3, sha512)), sha256), sha256);
        assert_eq!(digest_algo(Some(&[4, sha512.id(), 0]), sha256), sha256);
        assert_eq!(digest_algo(None, sha512), sha512);
    }
}
