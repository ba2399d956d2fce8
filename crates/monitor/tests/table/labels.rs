//! Who may set which label: the same in every mode, for a label stands longer than a mode.

use std::ffi::OsStr;

use crate::common::{Bench, READ, Setting, access, hello_hash, hello_signature};
use crate::{MODES, vector};
use rustix::io::Errno;

/// What is set, how it is refused, and the cause in the record where there is one.
type Case = (&'static str, &'static str, Option<Vec<u8>>, Result<(), Errno>, Option<&'static str>);

fn play(policy: &str, cases: &[Case]) {
    for mode in MODES {
        let bench = Bench::with(policy, Setting { mode, ..Setting::default() });
        let file = bench.file("f", b"hello\n");
        for (what, name, value, expected, cause) in cases {
            let seen = bench.records().len();
            let asked =
                bench.monitor.check_label(file.as_ref(), &access(READ), OsStr::new(name), value.as_deref());
            assert_eq!(asked.map_err(|denial| denial.errno()), *expected, "{what} ({mode:?})");
            let records = bench.records().split_off(seen);
            assert_eq!(records.len(), usize::from(cause.is_some()), "{what} ({mode:?}): {records:?}");
            if let (Some(record), Some(cause)) = (records.first(), cause) {
                assert!(record.contains(&format!("\"cause\":\"{cause}\"")), "{what}: {record}");
                assert!(record.contains("\"op\":\"set_data\""), "{what}: {record}");
            }
        }
    }
}

fn any_policy() -> Vec<Case> {
    let ima = "security.ima";
    let of_type = |kind: u8| Some([vec![kind], vec![0; 20]].concat());
    vec![
        ("a hash", ima, Some(hello_hash()), Ok(()), None),
        ("a signature", ima, Some(hello_signature()), Ok(()), None),
        ("an fs-verity signature", ima, Some(vector("verity")), Ok(()), None),
        ("removal", ima, None, Ok(()), None),
        ("another attribute", "user.x", Some(Vec::new()), Ok(()), None),
        ("nothing", ima, Some(Vec::new()), Err(Errno::INVAL), None),
        ("type 0", ima, of_type(0), Ok(()), None),
        ("type 2", ima, of_type(2), Ok(()), None),
        ("type 5", ima, of_type(5), Ok(()), None),
        ("type 7", ima, of_type(7), Err(Errno::INVAL), None),
        ("type 255", ima, of_type(255), Err(Errno::INVAL), None),
        ("EVM's signature", "security.evm", Some(vec![5, 2]), Err(Errno::PERM), None),
        ("EVM's anything", "security.evm", Some(Vec::new()), Err(Errno::PERM), None),
        ("removal of EVM's", "security.evm", None, Err(Errno::PERM), None),
    ]
}

#[test]
fn labels_that_can_be_stored_under_any_policy() {
    let md4 = Some([vec![4, 0], vec![0; 16]].concat());
    let unavailable: Case =
        ("md4", "security.ima", md4, Err(Errno::ACCESS), Some("unavailable-hash-algorithm"));
    for policy in ["appraise func=FILE_CHECK\n", "measure func=FILE_CHECK\n"] {
        play(policy, &[any_policy(), vec![unavailable.clone()]].concat());
    }
}

#[test]
fn algorithms_that_a_setxattr_check_rule_does_not_list() {
    let policy = "appraise func=SETXATTR_CHECK appraise_algos=sha256,sha512\n";
    let sha1 = Some([vec![1], vec![7; 20]].concat());
    let signed_by_sha1 = Some([vec![3, 2, 2], vec![0; 7]].concat());
    let denied = Some("denied-hash-algorithm");
    play(
        policy,
        &[
            ("sha256", "security.ima", Some(hello_hash()), Ok(()), None),
            ("signed with sha256", "security.ima", Some(hello_signature()), Ok(()), None),
            ("fs-verity by sha256", "security.ima", Some(vector("verity")), Ok(()), None),
            ("sha1", "security.ima", sha1, Err(Errno::ACCESS), denied),
            ("signed with sha1", "security.ima", signed_by_sha1, Err(Errno::ACCESS), denied),
            ("removal", "security.ima", None, Ok(()), None),
        ],
    );
}
