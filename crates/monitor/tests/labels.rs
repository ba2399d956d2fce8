//! Labels that go by path: what is remembered of an inode belongs to the label it was judged by.
//!
//! The manifest has a hash of the text `a shell` for `/bin/sh` and for `/bin/bash`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::sync::Arc;

use common::{Bench, Setting, TestFile};

const POLICY: &str = "appraise func=FILE_CHECK\n";
const CONTENT: &[u8] = b"a shell";
/// `O_RDONLY` and `O_WRONLY`.
const READ: i32 = 0;
const WRITE: i32 = 1;

fn bench() -> Bench {
    Bench::with(POLICY, Setting { manifest: true, ..Setting::default() })
}

fn called(file: &Arc<TestFile>, path: &str) {
    *file.path.lock().unwrap() = Some(path.as_bytes().to_vec());
}

#[test]
fn content_passes_by_the_label_of_its_path_and_no_other() {
    let bench = bench();
    let (good, bad) = (bench.file("good", CONTENT), bench.file("bad", b"a shelf"));
    called(&good, "/bin/sh");
    called(&bad, "/bin/sh");
    bench.pass(&good, READ);
    bench.refuse(&bad, READ, "invalid-hash");
    called(&good, "/bin/bash");
    bench.pass(&good, READ);
    // No name, and a name without a place.
    for path in ["/bin/zsh", "sh", "/bin/sh/", "bin/sh", ""] {
        called(&good, path);
        bench.refuse(&good, READ, "missing-hash");
    }
    // A label nobody can make sense of.
    called(&good, "/etc/.hidden");
    bench.refuse(&good, READ, "unknown-ima-data");
    called(&good, "/bin/sh");
    bench.pass(&good, READ);
}

#[test]
fn what_passed_by_one_name_is_not_remembered_for_another() {
    let bench = bench();
    let file = bench.file("sh", CONTENT);
    for _ in 0..3 {
        called(&file, "/bin/sh");
        bench.pass(&file, READ);
        bench.pass(&file, READ);
        called(&file, "/bin/zsh");
        bench.refuse(&file, READ, "missing-hash");
    }
}

/// An open by one name that is judged after one by another has begun: neither is taken for the other's.
#[test]
fn work_that_is_overtaken_by_another_name_is_not_remembered_for_it() {
    let bench = bench();
    let file = bench.file("sh", CONTENT);
    called(&file, "/bin/sh");
    let first = bench.begin(&file, READ);
    called(&file, "/bin/zsh");
    let second = bench.begin(&file, READ);
    common::granted(first);
    assert!(common::finish(second).is_err());
    bench.refuse(&file, READ, "missing-hash");
    called(&file, "/bin/sh");
    bench.pass(&file, READ);
}

#[test]
fn a_key_that_is_revoked_voids_all_labels_of_its_manifest() {
    for revoked in [true, false] {
        let bench = bench();
        let file = bench.file("sh", CONTENT);
        called(&file, "/bin/sh");
        bench.pass(&file, READ);
        let labels = &bench.monitor.options().labels;
        assert_eq!(labels.void(), None);
        let keyid = labels.manifest().unwrap().keyid();
        if revoked {
            assert!(bench.ring.revoke(keyid));
        } else {
            assert_eq!(bench.ring.remove(keyid), 1);
        }
        bench.refuse(&file, READ, "missing-hash");
        assert!(labels.void().is_some());
        let other = bench.file("other", CONTENT);
        called(&other, "/bin/bash");
        bench.refuse(&other, READ, "missing-hash");
    }
}

/// With attributes a hash label is redone at the last close, and until then the last verdict stands. Here none will be.
#[test]
fn no_verdict_stands_under_a_writer_and_no_label_is_renewed() {
    let bench = bench();
    let file = bench.file("sh", CONTENT);
    called(&file, "/bin/sh");
    bench.pass(&file, READ);
    bench.hold(&file, WRITE);
    std::fs::write(&file.disk, b"a shelf").unwrap();
    assert!(bench.open(&file, READ).is_err());
    bench.close(&file, WRITE);
    bench.refuse(&file, READ, "invalid-hash");
    let kept = rustix::fs::getxattr(&file.disk, "security.ima", &mut [0_u8; 100][..]);
    assert_eq!(kept, Err(rustix::io::Errno::NODATA));
}
