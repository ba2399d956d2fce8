//! fs-verity digests against those of `fsverity digest` (Debian package fsverity), and files that change meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use appraise::{CollectError, VerityDigests, collect_verity, compute_verity};
use ima::HashAlgo;
use ima::verity::Shape;

const ALGOS: [HashAlgo; 2] = [HashAlgo::Sha256, HashAlgo::Sha512];
const MIB: u64 = 1 << 20;

/// Whether the tool is there; with `CI` or `IMAFS_CI` set it has to be.
fn have_fsverity() -> bool {
    let found =
        Command::new("fsverity").arg("--version").output().is_ok_and(|output| output.status.success());
    let set = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
    assert!(found || !(set("IMAFS_CI", "1") || set("CI", "true")), "fsverity is not installed");
    if !found {
        eprintln!("skipped: fsverity is not installed");
    }
    found
}

/// What `fsverity digest` says, as `algorithm:hex`.
fn theirs(path: &Path, shape: &Shape, salt: &[u8]) -> String {
    let mut tool = Command::new("fsverity");
    tool.args(["digest", "--compact"]).arg(format!("--hash-alg={}", shape.algo()));
    tool.arg(format!("--block-size={}", shape.block_size()));
    if !salt.is_empty() {
        tool.arg(format!("--salt={}", hex::encode(salt)));
    }
    let output = tool.arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{}:{}", shape.algo(), String::from_utf8(output.stdout).unwrap().trim())
}

fn ours(file: &File, shape: &Shape) -> String {
    compute_verity(file, shape).unwrap().digest.to_string()
}

/// A file of `size` bytes, no two blocks of which are alike.
fn patterned(size: u64) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = size;
    let mut chunk = Vec::new();
    while left > 0 {
        chunk.clear();
        for _ in 0..8192 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunk.extend_from_slice(&state.to_be_bytes());
        }
        let length = usize::try_from(left).unwrap().min(chunk.len());
        file.write_all(chunk.get(..length).unwrap()).unwrap();
        left -= length as u64;
    }
    file.flush().unwrap();
    file
}

#[test]
fn digests_are_those_of_the_tool_for_every_size_about_a_block() {
    if !have_fsverity() {
        return;
    }
    for size in [0, 1, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, MIB + 1, 5 * MIB - 1] {
        let file = patterned(size);
        for algo in ALGOS {
            let shape = Shape::plain(algo).unwrap();
            assert_eq!(ours(file.as_file(), &shape), theirs(file.path(), &shape, &[]), "{size} bytes");
            let collected = collect_verity(file.as_file(), algo, VerityDigests::Computed).unwrap();
            assert_eq!(collected.digest.to_string(), ours(file.as_file(), &shape));
        }
    }
}

#[test]
fn a_gibibyte_has_the_digest_of_the_tool_with_data_and_holes_in_it() {
    if !have_fsverity() {
        return;
    }
    let mut file = patterned(3 * MIB);
    file.as_file_mut().set_len(1024 * MIB).unwrap();
    for at in [511 * MIB + 7, 700 * MIB - 2, 1024 * MIB - 5] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"here").unwrap();
    }
    for algo in ALGOS {
        let shape = Shape::plain(algo).unwrap();
        assert_eq!(ours(file.as_file(), &shape), theirs(file.path(), &shape, &[]));
    }
}

#[test]
fn other_blocks_and_salts_give_the_digests_of_the_tool() {
    if !have_fsverity() {
        return;
    }
    let file = patterned(MIB + 4097);
    let salts: [&[u8]; 4] = [&[], &[7], &[0xab; 31], &[0xcd; 32]];
    for algo in ALGOS {
        for block_size in [1024, 2048, 4096, 8192, 65536] {
            for salt in salts {
                let shape = Shape::new(algo, block_size, salt).unwrap();
                let what = format!("{algo}, {block_size} bytes, salt {salt:02x?}");
                assert_eq!(ours(file.as_file(), &shape), theirs(file.path(), &shape, salt), "{what}");
            }
        }
    }
}

#[test]
fn one_flipped_bit_anywhere_gives_another_digest() {
    let file = patterned(3 * MIB + 1);
    let shape = Shape::plain(HashAlgo::Sha256).unwrap();
    let good = ours(file.as_file(), &shape);
    for at in [0, 4095, 4096, MIB, 2 * MIB + 511, 3 * MIB] {
        let mut byte = [0];
        file.as_file().read_exact_at(&mut byte, at).unwrap();
        file.as_file().write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert_ne!(ours(file.as_file(), &shape), good, "byte {at}");
        file.as_file().write_all_at(&byte, at).unwrap();
        assert_eq!(ours(file.as_file(), &shape), good);
    }
    file.as_file().set_len(3 * MIB + 2).unwrap();
    assert_ne!(ours(file.as_file(), &shape), good, "one zero more");
}

/// Cut off and grown again under the readers: an error, or a digest that is not to be remembered, or the digest of a
/// content that the file has had; and never a hang.
#[test]
fn a_file_that_is_cut_off_while_it_is_read_gives_no_digest_of_what_it_never_was() {
    let file = patterned(8 * MIB);
    let shape = Shape::plain(HashAlgo::Sha256).unwrap();
    let mut real = vec![ours(file.as_file(), &shape)];
    for size in [3, 8 * MIB] {
        file.as_file().set_len(size).unwrap();
        real.push(ours(file.as_file(), &shape));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                file.as_file().set_len(3).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
                file.as_file().set_len(8 * MIB).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        for _ in 0..20 {
            match collect_verity(file.as_file(), HashAlgo::Sha256, VerityDigests::Computed) {
                Ok(collected) => {
                    assert!(!collected.stable || real.contains(&collected.digest.to_string()));
                }
                Err(CollectError::Short { read, expected }) => assert!(read < expected),
                Err(error) => panic!("{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn many_files_at_once_get_their_own_digests() {
    let shape = Shape::plain(HashAlgo::Sha256).unwrap();
    let files: Vec<_> = (1..=6).map(|n| patterned(n * 3 * MIB)).collect();
    let alone: Vec<_> = files.iter().map(|file| ours(file.as_file(), &shape)).collect();
    std::thread::scope(|scope| {
        for (file, alone) in files.iter().zip(&alone) {
            let shape = &shape;
            scope.spawn(move || assert_eq!(&ours(file.as_file(), shape), alone));
        }
    });
}

#[test]
fn a_file_without_fs_verity_has_no_digest_of_the_backing_s() {
    let file = patterned(10);
    let refused = collect_verity(file.as_file(), HashAlgo::Sha256, VerityDigests::Backing).unwrap_err();
    assert!(matches!(refused, CollectError::NoVerity));
    assert_eq!(refused.cause(), "no-verity-digest");
}

#[test]
fn algorithms_that_fs_verity_does_not_have_are_refused() {
    let file = patterned(10);
    let refused = collect_verity(file.as_file(), HashAlgo::Sha384, VerityDigests::Computed).unwrap_err();
    assert!(matches!(refused, CollectError::Unavailable("sha384")));
}
