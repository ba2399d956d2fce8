//! The labels of what is written: what the last writer's close leaves, in every mode.

use std::sync::Arc;

use crate::common::{
    Bench, READ, Setting, TestFile, WRITE, access, finish, granted, hello_hash, hello_signature, rewrite,
};
use crate::{MODES, label, vector};
use ima::{HashAlgo, encode_digest, hash};
use monitor::{Access, Change, Mode, Object};

fn sha256(content: &[u8]) -> Option<Vec<u8>> {
    Some(encode_digest(&hash(HashAlgo::Sha256, content).unwrap()))
}

fn digest(algo: HashAlgo, content: &[u8]) -> Vec<u8> {
    encode_digest(&hash(algo, content).unwrap())
}

/// Plays `steps` in every mode on a file with this label, and holds the label afterwards against `expected`.
fn each_mode(
    policy: &str,
    before: Option<Vec<u8>>,
    steps: impl Fn(&Bench, &Arc<TestFile>),
    expected: impl Fn(Mode) -> Option<Vec<u8>>,
) {
    for mode in MODES {
        let bench = Bench::with(policy, Setting { mode, ..Setting::default() });
        bench.trust("ec");
        let file = bench.file("f", b"hello\n");
        if let Some(before) = &before {
            bench.label(&file, before);
        }
        steps(&bench, &file);
        assert_eq!(label(&file), expected(mode), "{mode:?}");
    }
}

fn write(bench: &Bench, file: &Arc<TestFile>) {
    bench.hold(file, WRITE);
    rewrite(file, b"other\n");
    bench.close(file, WRITE);
}

fn create(bench: &Bench, file: &Arc<TestFile>) {
    rewrite(file, b"");
    let object: Arc<dyn Object> = Arc::<TestFile>::clone(file);
    granted(bench.monitor.begin_open(object, Access { created: true, ..access(WRITE) }));
}

const ANY: &str = "appraise func=FILE_CHECK\n";
const SIGNED: &str = "appraise func=FILE_CHECK appraise_type=imasig\n";
const VERITY: &str = "appraise func=FILE_CHECK digest_type=verity appraise_type=sigv3\n";

#[test]
fn what_was_written_gets_a_label_by_the_default_algorithm() {
    for algo in [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        let before = digest(algo, b"hello\n");
        each_mode(ANY, Some(before.clone()), write, |mode| match mode {
            Mode::Enforce | Mode::Log | Mode::Fix => sha256(b"other\n"),
            Mode::Off => Some(before.clone()),
        });
    }
}

#[test]
fn what_was_opened_and_not_written_keeps_its_label() {
    let before = digest(HashAlgo::Sha512, b"hello\n");
    each_mode(ANY, Some(before.clone()), |bench, file| bench.pass(file, WRITE), |_| Some(before.clone()));
}

#[test]
fn a_new_file_gets_a_hash_label_whatever_the_rule_requires() {
    for policy in [ANY, SIGNED, VERITY] {
        let made = |bench: &Bench, file: &Arc<TestFile>| {
            create(bench, file);
            rewrite(file, b"other\n");
            bench.close(file, WRITE);
        };
        each_mode(policy, None, made, |mode| match mode {
            Mode::Enforce | Mode::Log | Mode::Fix => sha256(b"other\n"),
            Mode::Off => None,
        });
    }
}

#[test]
fn what_failed_when_it_was_opened_is_labelled_by_fix_mode_alone() {
    let anyway = |bench: &Bench, file: &Arc<TestFile>| {
        if finish(bench.begin(file, WRITE)).is_ok() {
            rewrite(file, b"other\n");
            bench.close(file, WRITE);
        }
    };
    each_mode(ANY, None, anyway, |mode| match mode {
        Mode::Enforce | Mode::Log | Mode::Off => None,
        Mode::Fix => sha256(b"other\n"),
    });
}

#[test]
fn a_failure_in_between_leaves_the_label_alone_unless_it_was_fixed() {
    let wrong = digest(HashAlgo::Sha256, b"wrong\n");
    let in_between = |bench: &Bench, file: &Arc<TestFile>| {
        bench.hold(file, WRITE);
        rewrite(file, b"other\n");
        bench.label(file, &wrong);
        bench.monitor.changed(file.as_ref(), Change::Label(Some(4)));
        if finish(bench.begin(file, READ)).is_ok() {
            bench.close(file, READ);
        }
        bench.close(file, WRITE);
    };
    each_mode(ANY, Some(hello_hash()), in_between, |mode| match mode {
        Mode::Enforce | Mode::Log | Mode::Off => Some(wrong.clone()),
        Mode::Fix => sha256(b"other\n"),
    });
}

#[test]
fn a_signature_is_never_replaced_at_the_close() {
    // Refused in enforce mode, so there nothing is written at all.
    let anyway = |bench: &Bench, file: &Arc<TestFile>| {
        if finish(bench.begin(file, WRITE)).is_ok() {
            rewrite(file, b"other\n");
            bench.close(file, WRITE);
        }
    };
    each_mode(ANY, Some(hello_signature()), anyway, |_| Some(hello_signature()));
    // Set while it is being written, as an archiver does.
    let meanwhile = |bench: &Bench, file: &Arc<TestFile>| {
        create(bench, file);
        bench.label(file, &hello_signature());
        bench.monitor.changed(file.as_ref(), Change::Label(Some(3)));
        rewrite(file, b"hello\n");
        bench.close(file, WRITE);
        bench.pass(file, READ);
    };
    each_mode(SIGNED, None, meanwhile, |_| Some(hello_signature()));
    let of_verity = |bench: &Bench, file: &Arc<TestFile>| {
        bench.trust("verity");
        create(bench, file);
        bench.label(file, &vector("verity"));
        bench.monitor.changed(file.as_ref(), Change::Label(Some(6)));
        rewrite(file, b"hello\n");
        bench.close(file, WRITE);
        bench.pass(file, READ);
        assert!(bench.records().is_empty());
    };
    each_mode(VERITY, None, of_verity, |_| Some(vector("verity")));
}
