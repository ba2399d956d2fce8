//! The kernel's built-in policies, as the policy file would show them.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

mod common;

use common::{Known, file};
use policy::{Actions, BuiltinError, Func, Mask, Object, Policy, Query};

/// Each line really ends in a space.
fn shown(names: &str) -> Vec<String> {
    let text = Policy::builtin(names).unwrap().to_string();
    text.lines().map(|line| line.strip_suffix(' ').unwrap().to_owned()).collect()
}

const MAGICS: [&str; 13] = [
    "0x9fa0",
    "0x62656572",
    "0x64626720",
    "0x1021994",
    "0x1cd1",
    "0x42494e4d",
    "0x73636673",
    "0xf97cff8c",
    "0x43415d53",
    "0x27e0eb",
    "0x63677270",
    "0x6e736673",
    "0xde5e81e4",
];

#[test]
fn tcb_is_the_exemptions_and_seven_rules() {
    let lines = shown("tcb");
    for (line, magic) in lines.iter().zip(MAGICS) {
        let func = if magic == "0x1021994" { "func=FILE_CHECK " } else { "" };
        assert_eq!(*line, format!("dont_measure {func}fsmagic={magic}"));
    }
    let rules = [
        "measure func=MMAP_CHECK mask=MAY_EXEC",
        "measure func=BPRM_CHECK mask=MAY_EXEC",
        "measure func=FILE_CHECK mask=^MAY_READ euid=0",
        "measure func=FILE_CHECK mask=^MAY_READ uid=0",
        "measure func=MODULE_CHECK",
        "measure func=FIRMWARE_CHECK",
        "measure func=POLICY_CHECK",
    ];
    assert_eq!(lines[MAGICS.len()..], rules);
}

#[test]
fn the_original_tcb_has_its_own_rules() {
    let lines = shown("ima_tcb");
    let rules = [
        "measure func=MMAP_CHECK mask=MAY_EXEC",
        "measure func=BPRM_CHECK mask=MAY_EXEC",
        "measure func=FILE_CHECK mask=MAY_READ uid=0",
        "measure func=MODULE_CHECK",
        "measure func=FIRMWARE_CHECK",
    ];
    assert_eq!(lines[MAGICS.len()..], rules);
    assert_eq!(lines[..MAGICS.len()], shown("tcb")[..MAGICS.len()]);
    assert_eq!(shown("ima_tcb tcb"), shown("tcb"));
}

#[test]
fn appraise_tcb_exempts_ramfs_too_and_appraises_what_root_owns() {
    let magics = [
        "0x9fa0",
        "0x62656572",
        "0x64626720",
        "0x1021994",
        "0x858458f6",
        "0x1cd1",
        "0x42494e4d",
        "0x73636673",
        "0xf97cff8c",
        "0x43415d53",
        "0x6e736673",
        "0xde5e81e4",
        "0x27e0eb",
        "0x63677270",
    ];
    let exemptions = magics.map(|magic| format!("dont_appraise fsmagic={magic}"));
    let lines = shown("appraise_tcb");
    assert_eq!(lines.split_last().unwrap(), (&"appraise fowner=0".to_owned(), &exemptions[..]));
    assert_eq!(shown("ima_appraise_tcb"), lines);
}

#[test]
fn names_combine_in_the_kernels_order() {
    let together = shown("critical_data|appraise_tcb\nsecure_boot tcb");
    let apart: Vec<_> =
        ["tcb", "secure_boot", "appraise_tcb", "critical_data"].into_iter().flat_map(shown).collect();
    assert_eq!(together, apart);
    assert_eq!(
        shown("secure_boot"),
        [
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
            "appraise func=FIRMWARE_CHECK appraise_type=imasig",
            "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig",
            "appraise func=POLICY_CHECK appraise_type=imasig",
        ]
    );
    assert_eq!(shown("critical_data"), ["measure func=CRITICAL_DATA"]);
}

#[test]
fn fail_securely_is_a_switch_and_no_rule() {
    let policy = Policy::builtin("fail_securely|appraise_tcb").unwrap();
    assert!(policy.fails_securely());
    assert_eq!(policy.to_string(), Policy::builtin("appraise_tcb").unwrap().to_string());
    assert!(Policy::builtin("fail_securely").unwrap().is_empty());
    assert!(!Policy::builtin("tcb").unwrap().fails_securely());
}

#[test]
fn other_names_are_refused() {
    for name in ["TCB", "exec", "tcb,appraise_tcb"] {
        assert_eq!(Policy::builtin(name).unwrap_err(), BuiltinError::Unknown { name: name.to_owned() });
    }
    assert!(Policy::builtin("").unwrap().is_empty());
}

#[test]
fn tcb_measures_what_root_reads_but_not_on_procfs() {
    let policy = Policy::builtin("tcb").unwrap();
    let disk = file(1000, "/t/file");
    let proc = Object { fsmagic: 0x9fa0, ..disk };
    let measures = |object: &Object<'_>, actor: &str, func, mask| {
        let subject = Known::actor(actor);
        let query = Query { func, mask, object, subject: &subject, digest: None };
        policy.decide(&query).unwrap().actions == Actions::MEASURE
    };
    assert!(measures(&disk, "0", Func::FileCheck, Mask::READ | Mask::WRITE));
    assert!(!measures(&proc, "0", Func::FileCheck, Mask::READ));
    assert!(!measures(&disk, "1000", Func::FileCheck, Mask::READ));
    assert!(!measures(&disk, "0", Func::FileCheck, Mask::WRITE));
    assert!(measures(&disk, "1000", Func::BprmCheck, Mask::EXEC));
}
