//! Properties of the parser: what it prints it reads, and no line makes it panic.

mod common;

use common::{Gone, file};
use policy::{Class, Func, Mask, ParseOptions, Policy, Query, parse_rule, parse_rule_recorded};
use proptest::prelude::*;

const IMAFS: ParseOptions = ParseOptions { kernel_only: false };

/// Words that make rules, and words that spoil them. What the kernel prints and does not read back
/// (ids above 2^31, verity signatures, long file system names) is left out.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "measure",
            "dont_measure",
            "appraise",
            "dont_appraise",
            "audit",
            "dont_audit",
            "hash",
            "dont_hash",
            "permit_directio",
            "appraise_type=imasig",
            "appraise_type=imasig|modsig",
            "appraise_type=deny",
            "appraise_flag=x",
            "template=ima-sig",
            "template=d-ng|n-ng",
            "digest_type=verity",
            "#",
            "nosuch",
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec![
            "FILE_CHECK",
            "PATH_CHECK",
            "MMAP_CHECK",
            "FILE_MMAP",
            "MMAP_CHECK_REQPROT",
            "BPRM_CHECK",
            "CREDS_CHECK",
            "MODULE_CHECK",
            "FIRMWARE_CHECK",
            "KEXEC_KERNEL_CHECK",
            "KEXEC_INITRAMFS_CHECK",
            "POLICY_CHECK",
            "KEXEC_CMDLINE",
            "KEY_CHECK",
            "CRITICAL_DATA",
            "SETXATTR_CHECK",
        ])
        .prop_map(|func| format!("func={func}")),
        (any::<bool>(), prop::sample::select(vec!["EXEC", "WRITE", "READ", "APPEND"]))
            .prop_map(|(any_of, bit)| format!("mask={}MAY_{bit}", if any_of { "^" } else { "" })),
        any::<u64>().prop_map(|magic| format!("fsmagic={magic:#x}")),
        "[a-z0-9.=#-]{1,63}".prop_map(|name| format!("fsname={name}")),
        "[a-z0-9]{1,63}".prop_map(|name| format!("fs_subtype={name}")),
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
            .prop_map(|uuid| format!("fsuuid={uuid}")),
        (
            prop::sample::select(vec!["uid", "euid", "gid", "egid", "fowner", "fgroup"]),
            prop::sample::select(vec!['=', '<', '>']),
            0..=i32::MAX,
        )
            .prop_map(|(key, operator, id)| format!("{key}{operator}{id}")),
        (-2i64..70).prop_map(|pcr| format!("pcr={pcr}")),
        "[.a-z]{1,8}(\\|[.a-z]{1,8}){0,3}".prop_map(|names| format!("keyrings={names}")),
        "[.a-z]{1,8}(\\|[.a-z]{1,8}){0,3}".prop_map(|names| format!("label={names}")),
        prop::sample::subsequence(vec!["sha1", "sha256", "sha384", "sha512", "md5"], 1..=5)
            .prop_map(|algos| format!("appraise_algos={}", algos.join(","))),
        "(/[a-z*?]{1,5}){1,4}(/\\*\\*)?".prop_map(|glob| format!("path={glob}")),
        "[0-9a-f]{64}".prop_map(|digest| format!("digest=sha256:{digest}")),
    ]
}

/// A rule that is likely to be valid: an action first, then a few words.
fn line() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["measure", "appraise", "dont_measure", "audit"]),
        prop::collection::vec(word(), 0..5),
    )
        .prop_map(|(action, words)| {
            std::iter::once(action.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
        })
}

/// A rule about paths, or about everything.
fn path_rule() -> impl Strategy<Value = String> {
    const ACTIONS: &[&str] = &[
        "measure",
        "measure pcr=11",
        "dont_measure",
        "appraise",
        "appraise appraise_type=imasig",
        "dont_appraise",
        "audit",
        "dont_audit",
        "hash",
        "dont_hash",
    ];
    const PATHS: &[&str] =
        &["", " path=/a", " path=/b", " path=/*", " path=/d/**", " path=/a func=MMAP_CHECK"];
    (prop::sample::select(ACTIONS), prop::sample::select(PATHS))
        .prop_map(|(action, path)| format!("{action}{path}\n"))
}

proptest! {
    /// What any path would have asked of the access is among what is asked where the path cannot be told.
    #[test]
    fn no_path_asks_for_more_than_an_unknown_one(rules in prop::collection::vec(path_rule(), 1..8)) {
        let policy = Policy::parse(rules.concat().as_bytes(), &IMAFS).unwrap();
        for path in ["/a", "/b", "/c", "/d/e"] {
            let object = file(0, path);
            let (func, mask) = (Func::FileCheck, Mask::READ);
            let query = Query { func, mask, object: &object, subject: &Gone, digest: None };
            let decision = policy.decide(&query).unwrap();
            let supposed = policy.decide_whatever_path(&query).unwrap();
            for class in Class::ALL.into_iter().filter(|class| decision.actions.contains(class.bit())) {
                let asked = supposed.iter().any(|supposed| {
                    supposed.actions.contains(class.bit())
                        && supposed.flags_of(class) == decision.flags_of(class)
                        && (class != Class::Measure || supposed.pcr == decision.pcr)
                });
                // An appraise rule drops an earlier hash, of a rule without a path as of one with it.
                prop_assert!(asked || class == Class::Hash, "{path} {class:?}");
            }
        }
    }
}

#[test]
fn an_unknown_path_is_decided_in_one_walk_over_any_number_of_rules() {
    let rules: String = (0..5000).map(|n| format!("appraise path=/{n} appraise_type=imasig\n")).collect();
    let policy = Policy::parse(rules.as_bytes(), &IMAFS).unwrap();
    let object = file(0, "/a");
    let (func, mask) = (Func::FileCheck, Mask::READ);
    let query = Query { func, mask, object: &object, subject: &Gone, digest: None };
    let decisions = policy.decide_whatever_path(&query).unwrap();
    assert_eq!(decisions.len(), 2, "nothing, and a signature");
    assert_eq!(decisions[1].deciding(Class::Appraise), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_the_same(line in line()) {
        if let Ok(Some(rule)) = parse_rule(line.as_bytes(), &IMAFS) {
            let shown = rule.to_string();
            let again = parse_rule(shown.as_bytes(), &IMAFS).unwrap().unwrap();
            prop_assert_eq!(again.to_string(), shown);
            prop_assert_eq!(again.flags(), rule.flags());
            prop_assert_eq!((again.action(), again.func(), again.pcr()), (rule.action(), rule.func(), rule.pcr()));
        }
    }

    #[test]
    fn the_kernels_language_is_a_part_of_ours(line in line()) {
        if let Ok(rule) = parse_rule(line.as_bytes(), &ParseOptions { kernel_only: true }) {
            let ours = parse_rule(line.as_bytes(), &IMAFS).unwrap();
            prop_assert_eq!(ours.as_ref().map(ToString::to_string), rule.as_ref().map(ToString::to_string));
            prop_assert!(rule.is_none_or(|rule| !rule.is_extended()));
        }
    }

    #[test]
    fn mutated_lines_never_panic_and_errors_point_into_the_line(
        line in line(),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..4),
        cut in 0usize..4,
    ) {
        let mut bytes = line.into_bytes();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        let read = parse_rule_recorded(&bytes, &IMAFS);
        if let Err(err) = read.outcome {
            prop_assert!(err.column >= 1 && err.column <= bytes.len());
            prop_assert!(read.record.is_some());
        }
        let _: Option<Policy> = Policy::parse(&bytes, &IMAFS).ok();
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _: Option<Policy> = Policy::parse(&bytes, &IMAFS).ok();
    }
}
