//! Every rule that the kernel refuses, by the words of its specification, with the errno of `write(2)`.
//!
//! The words are those of a description of `ima_parse_rule` and `ima_validate_rule` (Linux 6.1 to 6.19, in the newest
//! form where they differ), in its order: lines and tokens, each token, the rule as a whole, each func.

use policy::{Func, ParseOptions, Policy, RuleErrno, parse_rule};

const KERNEL: ParseOptions = ParseOptions { kernel_only: true };
const IMAFS: ParseOptions = ParseOptions { kernel_only: false };

use RuleErrno::{Einval, Erange};

/// The case in the specification's words, lines that it refuses, the errno, and a sibling that is taken.
type Case = (&'static str, &'static [&'static str], RuleErrno, &'static str);

const TOKENS: &[Case] = &[
    (
        "everything is case-sensitive",
        &["MEASURE", "measure FUNC=FILE_CHECK", "measure func=file_check"],
        Einval,
        "measure func=FILE_CHECK",
    ),
    (
        "no quoting, no escapes, no line continuation",
        &["measure fsname=\"a b\"", "measure \\", "'measure'"],
        Einval,
        "measure fsname=\"ab\"",
    ),
    (
        "\\r is not a separator (a CRLF file fails)",
        &["measure\r", "measure uid=0\r"],
        Einval,
        "measure uid=0",
    ),
    (
        "a token must match one keyword exactly",
        &["measured", "measure permit_directio=1", "measure permit_directi", "measure uid"],
        Einval,
        "measure permit_directio",
    ),
    (
        "key<op>value with a non-empty value",
        &[
            "measure fsname=",
            "measure func=",
            "measure uid=",
            "measure uid>",
            "measure keyrings=",
            "appraise appraise_flag=",
        ],
        Einval,
        "measure fsname=x",
    ),
    (
        "no >=, <=, !=",
        &["measure uid>=5", "measure uid<=5", "measure uid!=5", "measure fowner==5"],
        Einval,
        "measure uid>5",
    ),
    (
        "operators > and < for uid, euid, gid, egid, fowner, fgroup only",
        &[
            "measure func>FILE_CHECK",
            "measure mask<MAY_READ",
            "measure fsmagic>0x1",
            "measure pcr>10",
            "measure template>ima",
        ],
        Einval,
        "measure fgroup<5",
    ),
    (
        "a token starting with # ends the rule, and what is left must be one",
        &["uid=0 # measure"],
        Einval,
        "measure # uid=x",
    ),
];

const VALUES: &[Case] = &[
    (
        "action: exactly one, required",
        &["uid=0", "func=FILE_CHECK", "permit_directio"],
        Einval,
        "uid=0 measure",
    ),
    (
        "action again",
        &["measure measure", "measure dont_measure", "measure appraise", "audit uid=0 hash"],
        Einval,
        "audit uid=0",
    ),
    (
        "func=: others, also POST_SETATTR and NONE",
        &[
            "measure func=POST_SETATTR",
            "measure func=NONE",
            "measure func=FILE_CHECK,BPRM_CHECK",
            "measure func=MAX_CHECK",
        ],
        Einval,
        "measure func=PATH_CHECK",
    ),
    (
        "func= again",
        &["measure func=FILE_CHECK func=FILE_CHECK", "measure func=FILE_CHECK func=BPRM_CHECK"],
        Einval,
        "measure func=BPRM_CHECK",
    ),
    (
        "mask=: MAY_EXEC, MAY_WRITE, MAY_READ, MAY_APPEND; prefix ^",
        &[
            "measure mask=MAY_ACCESS",
            "measure mask=READ",
            "measure mask=^^MAY_READ",
            "measure mask=^",
            "measure mask=MAY_READ|MAY_WRITE",
            "measure mask=4",
        ],
        Einval,
        "measure mask=^MAY_APPEND",
    ),
    (
        "mask= again",
        &["measure mask=MAY_READ mask=MAY_READ", "measure mask=MAY_READ mask=^MAY_EXEC"],
        Einval,
        "measure mask=MAY_EXEC",
    ),
    (
        "fsmagic=: hexadecimal",
        &["measure fsmagic=ext4", "measure fsmagic=0x", "measure fsmagic=-1", "measure fsmagic=0xg"],
        Einval,
        "measure fsmagic=EF53",
    ),
    (
        "fsmagic=: overflow",
        &["measure fsmagic=0x10000000000000000", "measure fsmagic=fffffffffffffffff"],
        Erange,
        "measure fsmagic=0xffffffffffffffff",
    ),
    (
        "fsmagic= again, unless the first was 0",
        &["measure fsmagic=0xef53 fsmagic=0xef53", "measure fsmagic=1 fsmagic=0"],
        Einval,
        "measure fsmagic=0 fsmagic=0xef53",
    ),
    ("fs_subtype= again", &["measure fs_subtype=a fs_subtype=b"], Einval, "measure fs_subtype=a"),
    (
        "fsuuid=: 36 characters 8-4-4-4-12 hex",
        &[
            "measure fsuuid=0123",
            "measure fsuuid=0123456789abcdef0123456789abcdef",
            "measure fsuuid=01234567-89ab-cdef-0123-456789abcdeg",
            "measure fsuuid=01234567-89ab-cdef-01234-56789abcdef",
        ],
        Einval,
        "measure fsuuid=01234567-89AB-cdef-0123-456789abcdefgh",
    ),
    (
        "fsuuid= again, unless first was all-zero",
        &["measure fsuuid=01234567-89ab-cdef-0123-456789abcdef fsuuid=01234567-89ab-cdef-0123-456789abcdef"],
        Einval,
        "measure fsuuid=00000000-0000-0000-0000-000000000000 fsuuid=01234567-89ab-cdef-0123-456789abcdef",
    ),
    (
        "uid, euid: decimal",
        &[
            "measure uid=root",
            "measure uid=0x0",
            "measure uid=-1",
            "measure euid=1.0",
            "measure uid=+",
            "measure uid=++1",
        ],
        Einval,
        "measure uid=+007",
    ),
    (
        "uid, euid: 4294967295 and 2^32..2^64-1",
        &["measure uid=4294967295", "measure uid=4294967296", "measure euid>18446744073709551615"],
        Einval,
        "measure uid=4294967294",
    ),
    (
        "uid, euid: beyond",
        &["measure uid=18446744073709551616", "measure euid<99999999999999999999"],
        Erange,
        "measure euid<99",
    ),
    (
        "uid and euid share one slot, so only one of all six forms per rule",
        &[
            "measure uid=0 uid=0",
            "measure uid=0 euid=0",
            "measure euid>5 uid<9",
            "measure uid>5 uid<9",
            "measure euid=0 euid=0",
        ],
        Einval,
        "measure uid>5",
    ),
    (
        "gid, egid: same numbers",
        &["measure gid=wheel", "measure egid=4294967295"],
        Einval,
        "measure egid=4294967294",
    ),
    ("gid, egid: beyond", &["measure gid=18446744073709551616"], Erange, "measure gid=0"),
    (
        "one of both together",
        &["measure gid=0 gid=0", "measure gid=0 egid=0", "measure egid<5 gid>9"],
        Einval,
        "measure gid=0 uid=0",
    ),
    (
        "fowner / fgroup: same numbers",
        &["measure fowner=root", "measure fgroup=4294967295", "measure fowner>4294967296"],
        Einval,
        "measure fowner>4294967294",
    ),
    (
        "fowner / fgroup: beyond",
        &["measure fowner=18446744073709551616", "measure fgroup>18446744073709551616"],
        Erange,
        "measure fgroup>1",
    ),
    (
        "fowner / fgroup again: each",
        &["measure fowner=0 fowner=1", "measure fowner>6 fowner<8", "measure fgroup=0 fgroup=0"],
        Einval,
        "measure fowner>6 fgroup<8",
    ),
    (
        "obj_*, subj_*: no matching LSM label",
        &[
            "measure obj_user=u",
            "measure obj_role=r",
            "measure obj_type=t",
            "measure subj_user=u",
            "measure subj_role=r",
            "measure subj_type=t",
            "appraise func=KEY_CHECK obj_type=t",
        ],
        Einval,
        "measure fowner=0",
    ),
    (
        "keyrings=: |-separated, no empty item",
        &[
            "measure func=KEY_CHECK keyrings=|",
            "measure func=KEY_CHECK keyrings=.ima|",
            "measure func=KEY_CHECK keyrings=|.ima",
            "measure func=KEY_CHECK keyrings=.a||.b",
        ],
        Einval,
        "measure func=KEY_CHECK keyrings=.a|.b",
    ),
    (
        "keyrings= again",
        &["measure func=KEY_CHECK keyrings=.ima keyrings=.evm"],
        Einval,
        "measure func=KEY_CHECK keyrings=.ima",
    ),
    (
        "label=: |-separated, no empty item",
        &["measure func=CRITICAL_DATA label=a|", "measure func=CRITICAL_DATA label=||"],
        Einval,
        "measure func=CRITICAL_DATA label=a|b",
    ),
    (
        "label= again",
        &["measure func=CRITICAL_DATA label=a label=b"],
        Einval,
        "measure func=CRITICAL_DATA label=a",
    ),
    (
        "appraise_type=: imasig; sigv3; imasig|modsig",
        &[
            "appraise appraise_type=modsig",
            "appraise appraise_type=imasig,modsig",
            "appraise appraise_type=sigv2",
            "appraise func=MODULE_CHECK appraise_type=modsig|imasig",
        ],
        Einval,
        "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
    ),
    (
        "digest_type=: verity",
        &["measure digest_type=ima", "measure digest_type=sha256"],
        Einval,
        "measure digest_type=verity",
    ),
    (
        "appraise_algos=: each must exist and be available; an empty item or unknown name",
        &[
            "appraise appraise_algos=sha257",
            "appraise appraise_algos=,",
            "appraise appraise_algos=sha256,",
            "appraise appraise_algos=sha256,,sha512",
            "appraise appraise_algos=SHA256",
            "appraise appraise_algos=tgr192",
        ],
        Einval,
        "appraise appraise_algos=sha256,sha512",
    ),
    (
        "appraise_algos= again",
        &["appraise appraise_algos=sha256 appraise_algos=sha512"],
        Einval,
        "appraise appraise_algos=sha512",
    ),
    (
        "pcr=: decimal int 0..63; else EINVAL",
        &[
            "measure pcr=64",
            "measure pcr=-1",
            "measure pcr=0x0a",
            "measure pcr=ten",
            "measure pcr=2147483648",
            "measure pcr=18446744073709551616",
        ],
        Einval,
        "measure pcr=63",
    ),
    (
        "template=: name or format string of a known template",
        &[
            "measure template=ima-sigv3",
            "measure template=d-ng|sig",
            "measure template=none",
            "measure template=IMA",
        ],
        Einval,
        "measure template=d-ng|n-ng",
    ),
    (
        "template=: measure must already have been seen in this line",
        &["template=ima measure", "appraise template=ima", "dont_measure template=ima", "audit template=ima"],
        Einval,
        "measure template=ima",
    ),
    (
        "template= again",
        &["measure template=ima template=ima-ng", "measure template=ima template=ima"],
        Einval,
        "measure template=ima-ng",
    ),
    (
        "appraise_type=imasig or imasig|modsig after digest_type=verity",
        &[
            "appraise digest_type=verity appraise_type=imasig",
            "appraise digest_type=verity appraise_type=imasig|modsig",
        ],
        Einval,
        "appraise digest_type=verity appraise_type=sigv3",
    ),
    (
        "digest_type=verity after any appraise_type",
        &[
            "appraise appraise_type=imasig digest_type=verity",
            "appraise func=MODULE_CHECK appraise_type=imasig|modsig digest_type=verity",
            "appraise digest_type=verity appraise_type=sigv3 digest_type=verity",
        ],
        Einval,
        "appraise appraise_type=imasig",
    ),
    (
        "appraise_type=sigv3 without an earlier digest_type=verity",
        &["appraise appraise_type=sigv3", "appraise appraise_type=sigv3 digest_type=verity"],
        Einval,
        "appraise digest_type=verity appraise_type=sigv3 uid=0",
    ),
];

const WHOLE: &[Case] = &[
    (
        "pcr= only with measure (not dont_measure)",
        &[
            "dont_measure pcr=10",
            "appraise pcr=10",
            "dont_appraise pcr=10",
            "audit pcr=10",
            "dont_audit pcr=10",
            "hash pcr=10",
            "dont_hash pcr=10",
        ],
        Einval,
        "pcr=10 measure",
    ),
    (
        "appraise_type= only with appraise (not dont_appraise)",
        &[
            "dont_appraise appraise_type=imasig",
            "measure appraise_type=imasig",
            "audit appraise_type=imasig",
            "hash appraise_type=imasig",
            "measure digest_type=verity appraise_type=sigv3",
            "dont_measure func=MODULE_CHECK appraise_type=imasig|modsig",
        ],
        Einval,
        "appraise_type=imasig appraise",
    ),
    (
        "appraise_algos= only with appraise (not dont_appraise)",
        &[
            "dont_appraise appraise_algos=sha256",
            "measure appraise_algos=sha256",
            "hash appraise_algos=sha256",
            "audit appraise_algos=sha256",
        ],
        Einval,
        "appraise_algos=sha256 appraise",
    ),
    (
        "appraise + digest_type=verity without appraise_type=sigv3",
        &["appraise digest_type=verity", "appraise func=FILE_CHECK digest_type=verity"],
        Einval,
        "dont_appraise digest_type=verity",
    ),
    (
        "keyrings= only with KEY_CHECK",
        &[
            "measure keyrings=.ima",
            "measure func=FILE_CHECK keyrings=.ima",
            "measure func=CRITICAL_DATA keyrings=.ima",
        ],
        Einval,
        "measure func=KEY_CHECK keyrings=.ima",
    ),
    (
        "label= only with CRITICAL_DATA",
        &["measure label=x", "measure func=FILE_CHECK label=x", "measure func=KEY_CHECK label=x"],
        Einval,
        "measure func=CRITICAL_DATA label=x",
    ),
    (
        "imasig|modsig never on FILE/MMAP/BPRM",
        &[
            "appraise appraise_type=imasig|modsig",
            "appraise func=FILE_CHECK appraise_type=imasig|modsig",
            "appraise func=MMAP_CHECK appraise_type=imasig|modsig",
            "appraise func=BPRM_CHECK appraise_type=imasig|modsig",
        ],
        Einval,
        "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig|modsig",
    ),
    (
        "SETXATTR_CHECK: appraise_algos, which is mandatory",
        &["appraise func=SETXATTR_CHECK"],
        Einval,
        "appraise func=SETXATTR_CHECK appraise_algos=sha256",
    ),
];

#[test]
fn every_rule_the_kernel_refuses_is_refused_with_its_errno() {
    let mut lines = 0;
    for (words, refused, errno, taken) in [TOKENS, VALUES, WHOLE].concat() {
        for line in refused {
            for options in [KERNEL, IMAFS] {
                let refusal =
                    parse_rule(line.as_bytes(), &options).map(|rule| rule.map(|rule| rule.to_string()));
                assert_eq!(refusal.map_err(|refusal| refusal.errno), Err(errno), "{words}: {line:?}");
            }
            lines += 1;
        }
        for options in [KERNEL, IMAFS] {
            assert!(matches!(parse_rule(taken.as_bytes(), &options), Ok(Some(_))), "{words}: {taken:?}");
        }
    }
    assert!(lines > 170, "only {lines} lines");
}

/// A row of the table "per func, only these items are allowed".
struct Row {
    funcs: &'static str,
    actions: &'static str,
    items: &'static str,
}

const FILE_ITEMS: &str = "mask fsmagic fsname fs_subtype fsuuid uid euid gid egid fowner fgroup pcr imasig sigv3 appraise_algos \
                          digest_type permit_directio";
const MODULE_ITEMS: &str = "mask fsmagic fsname fs_subtype fsuuid uid euid gid egid fowner fgroup pcr imasig imasig|modsig \
                            appraise_algos permit_directio";
const ALL_ACTIONS: &str = "measure dont_measure appraise dont_appraise audit dont_audit hash dont_hash";

const TABLE: [Row; 6] = [
    Row {
        funcs: "none FILE_CHECK MMAP_CHECK MMAP_CHECK_REQPROT BPRM_CHECK CREDS_CHECK FIRMWARE_CHECK POLICY_CHECK",
        actions: ALL_ACTIONS,
        items: FILE_ITEMS,
    },
    Row {
        funcs: "MODULE_CHECK KEXEC_KERNEL_CHECK KEXEC_INITRAMFS_CHECK",
        actions: ALL_ACTIONS,
        items: MODULE_ITEMS,
    },
    Row {
        funcs: "KEXEC_CMDLINE",
        actions: "measure dont_measure",
        items: "fsmagic fsname fs_subtype fsuuid uid euid gid egid fowner fgroup pcr",
    },
    Row { funcs: "KEY_CHECK", actions: "measure dont_measure", items: "uid gid pcr keyrings" },
    Row { funcs: "CRITICAL_DATA", actions: "measure dont_measure", items: "uid gid pcr label" },
    Row { funcs: "SETXATTR_CHECK", actions: "appraise", items: "appraise_algos" },
];

/// Each item with its words, and the one action that takes it where there is one.
const ITEMS: [(&str, &str, &str); 20] = [
    ("mask", "mask=^MAY_READ", ""),
    ("fsmagic", "fsmagic=0xef53", ""),
    ("fsname", "fsname=ext4", ""),
    ("fs_subtype", "fs_subtype=x", ""),
    ("fsuuid", "fsuuid=01234567-89ab-cdef-0123-456789abcdef", ""),
    ("uid", "uid=0", ""),
    ("euid", "euid>0", ""),
    ("gid", "gid<5", ""),
    ("egid", "egid=0", ""),
    ("fowner", "fowner=0", ""),
    ("fgroup", "fgroup>0", ""),
    ("pcr", "pcr=11", "measure"),
    ("keyrings", "keyrings=.ima", ""),
    ("label", "label=x", ""),
    ("imasig", "appraise_type=imasig", "appraise"),
    ("imasig|modsig", "appraise_type=imasig|modsig", "appraise"),
    ("sigv3", "digest_type=verity appraise_type=sigv3", "appraise"),
    ("appraise_algos", "appraise_algos=sha256", "appraise"),
    ("digest_type", "digest_type=verity", ""),
    ("permit_directio", "permit_directio", ""),
];

#[test]
fn each_func_takes_the_actions_and_items_of_its_row_and_no_others() {
    let (mut taken, mut refused) = (0, 0);
    let mut funcs = Vec::new();
    for row in &TABLE {
        for func in row.funcs.split_whitespace() {
            funcs.push(func);
            for action in ALL_ACTIONS.split_whitespace() {
                for (item, words, needs) in ITEMS {
                    let setxattr = func == "SETXATTR_CHECK";
                    let mut line = action.to_owned();
                    if func != "none" {
                        line = format!("{line} func={func}");
                    }
                    // What is mandatory is there whatever else is tried.
                    if setxattr && item != "appraise_algos" {
                        line.push_str(" appraise_algos=sha256");
                    }
                    line = format!("{line} {words}");
                    let lone_verity = action == "appraise" && item == "digest_type";
                    let expected = row.actions.split_whitespace().any(|known| known == action)
                        && row.items.split_whitespace().any(|known| known == item)
                        && (needs.is_empty() || needs == action)
                        && !lone_verity;
                    let read = parse_rule(line.as_bytes(), &KERNEL);
                    assert_eq!(read.is_ok(), expected, "{line}: {read:?}");
                    match read {
                        Ok(_) => taken += 1,
                        Err(refusal) => {
                            assert_eq!(refusal.errno, Einval, "{line}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(funcs.len(), Func::ALL.len(), "every func, none in the place of the internal one");
    assert_eq!(taken + refused, funcs.len() * 8 * ITEMS.len());
}

#[test]
fn template_is_not_checked_against_the_func() {
    for func in ["FILE_CHECK", "KEXEC_CMDLINE", "KEY_CHECK", "CRITICAL_DATA"] {
        let line = format!("measure func={func} template=ima-buf");
        assert!(parse_rule(line.as_bytes(), &KERNEL).is_ok(), "{line}");
    }
}

/// Taken since 6.19 whatever the rule: the flag it set is set by every signature now.
#[test]
fn appraise_flag_is_taken_and_ignored() {
    for line in [
        "appraise appraise_flag=x",
        "appraise appraise_type=imasig appraise_flag=check_blacklist",
        "measure appraise_flag=x",
    ] {
        let rule = parse_rule(line.as_bytes(), &KERNEL).unwrap().unwrap();
        assert!(!rule.to_string().contains("appraise_flag"), "{line}");
    }
}

#[test]
fn one_bad_line_voids_the_load_wherever_it_stands() {
    let good = "# a comment\n\nmeasure func=FILE_CHECK\n   \t\n  audit uid=0\n";
    assert_eq!(Policy::parse(good.as_bytes(), &KERNEL).unwrap().rules().len(), 2);
    let lines: Vec<&str> = good.lines().collect();
    for at in 0..=lines.len() {
        let mut with = lines.clone();
        with.insert(at, "measure func=NO_SUCH_CHECK");
        let refusal = Policy::parse(with.join("\n").as_bytes(), &KERNEL).unwrap_err();
        assert_eq!((refusal.line, refusal.source.column), (at + 1, 9));
    }
    assert!(Policy::parse(b"# nothing\n\n", &KERNEL).unwrap().is_empty());
}

#[test]
fn more_rules_than_allowed_are_refused_at_the_first_too_many() {
    let text = "# rules\n".to_owned() + &"measure func=FILE_CHECK\n".repeat(1024);
    let policy = |text: &str| Policy::parse(text.as_bytes(), &KERNEL).unwrap();
    assert_eq!(policy(&text).at_most(policy::NAMESPACE_RULES).unwrap().rules().len(), 1024);
    let refusal = policy(&(text + "\n# more\naudit\nhash\n")).at_most(1024).unwrap_err();
    assert_eq!((refusal.line, refusal.source.errno.code()), (1028, 28));
    assert_eq!(refusal.source.to_string(), "column 1: the policy has more than 1024 rules");
    assert_eq!(Policy::builtin("tcb").unwrap().at_most(19).unwrap_err().line, 20);
    assert!(Policy::builtin("tcb").unwrap().at_most(20).is_ok());
}

#[test]
fn each_addition_of_imafs_is_refused_where_a_kernel_is_meant_and_taken_elsewhere() {
    let digest = format!("digest=sha256:{}", "0".repeat(64));
    for (line, token) in [
        ("measure path=/usr/bin/*".to_owned(), "path=/usr/bin/*"),
        (format!("dont_appraise {digest}"), digest.as_str()),
        ("appraise appraise_type=deny".to_owned(), "appraise_type=deny"),
    ] {
        assert!(parse_rule(line.as_bytes(), &IMAFS).unwrap().unwrap().is_extended(), "{line}");
        let refusal = parse_rule(line.as_bytes(), &KERNEL).unwrap_err();
        assert_eq!((refusal.token.as_str(), refusal.errno), (token, Einval), "{line}");
        assert_eq!(refusal.reason.to_string(), "is an extension of imafs that no kernel takes", "{line}");
    }
}
