//! The grammar in tables: what is taken and how it reads back, what is refused, where and why.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

use policy::{Func, ParseOptions, Policy, Reason, RuleErrno, parse_rule};

const IMAFS: ParseOptions = ParseOptions { kernel_only: false };
const KERNEL: ParseOptions = ParseOptions { kernel_only: true };

fn read_back(line: &str) -> String {
    parse_rule(line.as_bytes(), &IMAFS).unwrap().unwrap().to_string()
}

#[test]
fn blank_lines_and_comments_are_no_rules() {
    for line in ["", " ", "\t \t", "#", "# measure", "   #measure"] {
        assert!(parse_rule(line.as_bytes(), &IMAFS).unwrap().is_none(), "{line:?}");
    }
    assert!(parse_rule(b"# \xff not UTF-8", &IMAFS).unwrap().is_none());
}

#[test]
fn rules_read_back_in_the_kernels_order_and_spelling() {
    let table = [
        ("measure", "measure "),
        ("\tfunc=PATH_CHECK   measure # why", "measure func=FILE_CHECK "),
        ("measure mask=^MAY_READ func=FILE_MMAP", "measure func=MMAP_CHECK mask=^MAY_READ "),
        ("dont_audit fsmagic=0X01021994", "dont_audit fsmagic=0x1021994 "),
        ("dont_hash fsmagic=0 fsmagic=9fa0", "dont_hash fsmagic=0x9fa0 "),
        ("measure fsname=ext4 fsname=xfs", "measure fsname=xfs "),
        ("measure uid=+007", "measure uid=7 "),
        ("measure euid>1000 egid<5", "measure euid>1000 egid<5 "),
        ("measure fowner=4294967294 fgroup>2147483648", "measure fowner=-2 fgroup>-2147483648 "),
        (
            "measure fsuuid=01234567-89AB-CDEF-0123-456789ABCDEFtail",
            "measure fsuuid=01234567-89ab-cdef-0123-456789abcdef ",
        ),
        ("measure pcr=12 pcr=+11", "measure pcr=11 "),
        ("measure pcr=-0", "measure pcr=0 "),
        ("measure pcr=63", "measure pcr=63 "),
        ("measure template=d-ng|n-ng", "measure template=ima-ng "),
        ("measure template=ima-sigv2 pcr=11 uid=0", "measure pcr=11 uid=0 template=ima-sigv2 "),
        ("measure func=KEY_CHECK keyrings=.ima|.evm", "measure func=KEY_CHECK keyrings=.ima|.evm "),
        ("measure func=CRITICAL_DATA label=a|b gid=1", "measure func=CRITICAL_DATA label=a|b gid=1 "),
        ("appraise appraise_algos=sha512,sha1,sha256", "appraise appraise_algos=sha1,sha256,sha512 "),
        ("appraise permit_directio appraise_type=imasig", "appraise appraise_type=imasig permit_directio "),
        ("appraise appraise_type=imasig appraise_type=imasig", "appraise appraise_type=imasig "),
        (
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig appraise_flag=check_blacklist",
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig ",
        ),
        (
            "appraise func=FILE_CHECK digest_type=verity appraise_type=sigv3",
            "appraise func=FILE_CHECK appraise_type=sigv3 digest_type=verity ",
        ),
        (
            "dont_measure digest_type=verity permit_directio",
            "dont_measure digest_type=verity permit_directio ",
        ),
        (
            "appraise func=SETXATTR_CHECK appraise_algos=sha256",
            "appraise func=SETXATTR_CHECK appraise_algos=sha256 ",
        ),
        ("measure path=/usr/{bin,sbin}/* uid=0", "measure uid=0 path=/usr/{bin,sbin}/* "),
        ("appraise appraise_type=deny path=/tmp/**", "appraise appraise_type=deny path=/tmp/** "),
    ];
    for (line, expected) in table {
        assert_eq!(read_back(line), expected, "{line}");
    }
}

#[test]
fn all_parts_together_stand_in_the_order_of_the_kernel() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let expected = format!(
        "appraise func=FILE_CHECK mask=MAY_READ fsmagic=0xef53 fsname=ext4 fs_subtype=x \
         fsuuid=01234567-89ab-cdef-0123-456789abcdef uid=1 gid=2 fowner=3 fgroup=4 appraise_algos=sha256 \
         appraise_type=imasig permit_directio path=/a/** digest={digest} "
    );
    let mut parts: Vec<_> = expected.split_whitespace().collect();
    for _ in 0..parts.len() {
        parts.rotate_left(1);
        assert_eq!(read_back(&parts.join("\t ")), expected);
    }
}

#[test]
fn file_system_names_are_cut_where_the_kernel_cuts_them() {
    let name = "x".repeat(70);
    assert_eq!(read_back(&format!("measure fsname={name}")), format!("measure fsname={} ", "x".repeat(63)));
}

#[test]
fn a_policy_reads_back_one_rule_a_line() {
    let policy = Policy::parse(b"# first\nmeasure\n\naudit uid=0", &IMAFS).unwrap();
    assert_eq!(policy.to_string(), "measure \naudit uid=0 \n");
    assert_eq!((policy.line(0), policy.line(1), policy.line(2)), (Some(2), Some(4), None));
}

#[test]
fn refusals_name_the_token_its_column_and_the_reason() {
    use Reason::*;
    let file_check = Some(Func::FileCheck);
    let measure = policy::Action::Measure;
    let appraise = policy::Action::Appraise;
    let pcr = "0 to 63";
    let id = "at most 4294967294";
    let table = [
        ("measure nosuch", 9, "nosuch", UnknownWord),
        ("Measure", 1, "Measure", UnknownWord),
        ("measure  func=", 10, "func=", MissingValue),
        ("measure mask>MAY_READ", 9, "mask>MAY_READ", UnknownWord),
        ("measure permit_directio=1", 9, "permit_directio=1", UnknownWord),
        ("measure audit", 9, "audit", SecondAction),
        ("uid=0", 1, "", NoAction),
        ("measure uid=0 euid=0", 15, "euid=0", Repeated),
        ("measure gid=0 egid=0", 15, "egid=0", Repeated),
        ("measure fowner>6 fowner<8", 18, "fowner<8", Repeated),
        ("measure uid=0 uid=x", 15, "uid=x", Repeated),
        ("measure mask=MAY_READ mask=MAY_READ", 23, "mask=MAY_READ", Repeated),
        ("measure func=FILE_CHECK func=nosuch", 25, "func=nosuch", Repeated),
        ("measure fsmagic=1 fsmagic=1", 19, "fsmagic=1", Repeated),
        ("measure fs_subtype=a fs_subtype=a", 22, "fs_subtype=a", Repeated),
        ("measure template=ima template=ima", 22, "template=ima", Repeated),
        ("measure path=/a path=/b", 17, "path=/b", Repeated),
        ("measure uid>=5", 9, "uid>=5", NotANumber { form: "decimal" }),
        ("measure fsmagic=zz", 9, "fsmagic=zz", NotANumber { form: "hexadecimal" }),
        ("measure uid=4294967295", 9, "uid=4294967295", OutOfRange { expected: id }),
        ("measure uid=18446744073709551615", 9, "uid=18446744073709551615", OutOfRange { expected: id }),
        ("measure uid=18446744073709551616", 9, "uid=18446744073709551616", Overflow),
        ("measure fsmagic=10000000000000000", 9, "fsmagic=10000000000000000", Overflow),
        ("measure pcr=64", 9, "pcr=64", OutOfRange { expected: pcr }),
        ("measure pcr=-1", 9, "pcr=-1", OutOfRange { expected: pcr }),
        ("measure pcr=18446744073709551616", 9, "pcr=18446744073709551616", NotANumber { form: "decimal" }),
        ("measure fsuuid=0123", 9, "fsuuid=0123", BadUuid),
        ("measure func=KEY_CHECK keyrings=.ima|", 24, "keyrings=.ima|", EmptyItem),
        ("measure func=CRITICAL_DATA label=|a", 28, "label=|a", EmptyItem),
        ("appraise appraise_algos=sha256,", 10, "appraise_algos=sha256,", EmptyItem),
        (
            "appraise appraise_algos=sha257",
            10,
            "appraise_algos=sha257",
            UnknownAlgo { name: "sha257".into() },
        ),
        (
            "appraise appraise_algos=tgr192",
            10,
            "appraise_algos=tgr192",
            UnavailableAlgo { name: "tgr192".into() },
        ),
        ("measure template=ima-sigv3", 9, "template=ima-sigv3", UnknownTemplate),
        ("template=ima measure", 1, "template=ima", TemplateBeforeMeasure),
        ("dont_measure template=ima", 14, "template=ima", TemplateBeforeMeasure),
        ("audit pcr=10", 7, "pcr=10", WrongAction { action: measure }),
        ("pcr=10 dont_measure", 1, "pcr=10", WrongAction { action: measure }),
        ("dont_appraise appraise_type=imasig", 15, "appraise_type=imasig", WrongAction { action: appraise }),
        ("hash appraise_algos=sha256", 6, "appraise_algos=sha256", WrongAction { action: appraise }),
        ("measure keyrings=.ima", 9, "keyrings=.ima", NotForFunc { func: None }),
        ("measure label=x func=FILE_CHECK", 9, "label=x", NotForFunc { func: file_check }),
        (
            "measure func=KEXEC_CMDLINE mask=MAY_READ",
            28,
            "mask=MAY_READ",
            NotForFunc { func: Some(Func::KexecCmdline) },
        ),
        ("measure func=KEY_CHECK euid=0", 24, "euid=0", NotForFunc { func: Some(Func::KeyCheck) }),
        (
            "measure func=MODULE_CHECK digest_type=verity",
            27,
            "digest_type=verity",
            NotForFunc { func: Some(Func::ModuleCheck) },
        ),
        (
            "appraise func=FILE_CHECK appraise_type=imasig|modsig",
            26,
            "appraise_type=imasig|modsig",
            NotForFunc { func: file_check },
        ),
        ("audit func=KEY_CHECK", 1, "audit", ActionNotForFunc { func: Func::KeyCheck }),
        ("measure func=SETXATTR_CHECK", 1, "measure", ActionNotForFunc { func: Func::SetxattrCheck }),
        ("appraise func=SETXATTR_CHECK", 10, "func=SETXATTR_CHECK", AlgosMissing),
        ("appraise digest_type=verity", 10, "digest_type=verity", Sigv3Missing),
        ("appraise digest_type=verity appraise_type=imasig", 29, "appraise_type=imasig", NotWithVerity),
        ("appraise appraise_type=sigv3", 10, "appraise_type=sigv3", VerityMissing),
        ("appraise appraise_type=imasig digest_type=verity", 31, "digest_type=verity", DigestTypeTooLate),
        ("appraise digest_type=verity appraise_type=deny", 29, "appraise_type=deny", NotWithVerity),
        ("appraise appraise_type=deny appraise_type=imasig", 29, "appraise_type=imasig", NotWithDeny),
        ("appraise appraise_type=imasig appraise_type=deny", 31, "appraise_type=deny", NotWithDeny),
        ("appraise appraise_type=deny permit_directio", 29, "permit_directio", NotWithDeny),
        ("measure obj_type=bin_t", 9, "obj_type=bin_t", SecurityModule),
        ("measure subj_role=r", 9, "subj_role=r", SecurityModule),
        ("measure uid=0\r", 9, "uid=0\r", CarriageReturn),
        ("measure fsname=a\0b", 9, "fsname=a\0b", NulByte),
    ];
    for (line, column, token, reason) in table {
        let err = parse_rule(line.as_bytes(), &IMAFS).unwrap_err();
        let errno = if reason == Overflow { RuleErrno::Erange } else { RuleErrno::Einval };
        assert_eq!(
            (err.column, err.token.as_str(), &err.reason, err.errno),
            (column, token, &reason, errno),
            "{line}"
        );
    }
    assert_eq!(parse_rule(b"measure fsname=\xff", &IMAFS).unwrap_err().reason, NotUtf8);
}

#[test]
fn extensions_are_refused_where_only_the_kernels_language_is_wanted() {
    let digest = format!("measure digest=sha256:{}", "0".repeat(64));
    for line in ["measure path=/a", digest.as_str(), "appraise appraise_type=deny"] {
        assert!(parse_rule(line.as_bytes(), &IMAFS).unwrap().unwrap().is_extended(), "{line}");
        assert_eq!(parse_rule(line.as_bytes(), &KERNEL).unwrap_err().reason, Reason::Extension, "{line}");
    }
    assert!(!parse_rule(b"measure uid=0", &IMAFS).unwrap().unwrap().is_extended());
}

#[test]
fn digest_lists_of_a_policy_use_one_algorithm() {
    let (sha1, sha256) = ("0".repeat(40), "0".repeat(64));
    let text = format!("measure\nmeasure digest=sha1:{sha1}\nmeasure digest=sha256:{sha256}\n");
    let err = Policy::parse(text.as_bytes(), &IMAFS).unwrap_err();
    assert_eq!((err.line, err.source.reason), (3, Reason::MixedDigestAlgos));
    assert!(
        Policy::parse(text.replace("sha1:", "sha256:000000000000000000000000").as_bytes(), &IMAFS).is_ok()
    );
}

#[test]
fn an_error_reads_as_a_sentence_with_its_cause_apart() {
    let err = Policy::parse(b"measure\nmeasure mask=read\n", &IMAFS).unwrap_err();
    assert_eq!(err.to_string(), "policy line 2");
    assert_eq!(
        std::error::Error::source(&err).unwrap().to_string(),
        "column 9: \"mask=read\" is not a known value: expected MAY_EXEC, MAY_WRITE, MAY_READ or MAY_APPEND, \
         with or without ^"
    );
    let err = Policy::parse(b"uid=0", &IMAFS).unwrap_err();
    assert_eq!(err.source.to_string(), "column 1: the line has no action");
}
