//! What is done about an access: first match per class, flags, and the conditions one by one.

mod common;

use common::{Gone, Known, decide, file, policy};
use ima::{Digest, HashAlgo};
use policy::{Actions, AppraiseClass, Class, Func, Mask, Query, RuleFlags, SubjectUnknown, Undecided};

#[test]
fn the_first_match_of_each_class_wins_and_classes_do_not_hide_each_other() {
    let text =
        "dont_appraise uid=5\naudit func=BPRM_CHECK\nmeasure pcr=11\nappraise\nmeasure pcr=12\naudit\n";
    let decision = decide(text, Func::FileCheck, Mask::READ);
    assert_eq!(decision.actions, Actions::MEASURE | Actions::APPRAISE | Actions::AUDIT);
    assert_eq!(decision.deciding, [Some(2), Some(3), Some(5), None]);
    assert_eq!(decision.pcr.unwrap().value(), 11);

    let text = "dont_measure fowner=0\nmeasure\nappraise\n";
    let decision = decide(text, Func::FileCheck, Mask::READ);
    assert_eq!(decision.actions, Actions::APPRAISE);
    assert_eq!((decision.deciding(Class::Measure), decision.deciding(Class::Appraise)), (Some(0), Some(2)));
}

#[test]
fn each_dont_rule_has_its_class() {
    let all = "measure\nappraise\naudit\nhash\n";
    for (dont, left) in [
        ("dont_measure", Actions::APPRAISE | Actions::AUDIT | Actions::HASH),
        ("dont_appraise", Actions::MEASURE | Actions::AUDIT | Actions::HASH),
        ("dont_audit", Actions::MEASURE | Actions::APPRAISE | Actions::HASH),
        ("dont_hash", Actions::MEASURE | Actions::APPRAISE | Actions::AUDIT),
    ] {
        assert_eq!(decide(&format!("{dont}\n{all}"), Func::FileCheck, Mask::READ).actions, left, "{dont}");
    }
}

#[test]
fn a_policy_of_dont_rules_alone_does_nothing() {
    let policy = policy("dont_measure\ndont_appraise\n");
    assert!(!policy.has_measure() && !policy.has_appraise() && !policy.uses_func(Func::FileCheck));
    assert_eq!(decide("dont_measure\n", Func::FileCheck, Mask::READ).deciding, [None; 4]);
}

#[test]
fn an_appraise_rule_drops_an_earlier_hash_but_not_a_later_one() {
    let (read, file) = (Mask::READ, Func::FileCheck);
    assert_eq!(decide("hash\nappraise\n", file, read).actions, Actions::APPRAISE);
    assert_eq!(decide("appraise\nhash\n", file, read).actions, Actions::APPRAISE | Actions::HASH);
    assert_eq!(decide("hash\ndont_appraise\nappraise\n", file, read).actions, Actions::HASH);
}

#[test]
fn an_appraise_rule_without_func_makes_any_occasion_an_open() {
    let table = [
        ("appraise", Func::BprmCheck, AppraiseClass::File, true),
        ("appraise func=FILE_CHECK", Func::FileCheck, AppraiseClass::File, true),
        ("appraise func=BPRM_CHECK", Func::BprmCheck, AppraiseClass::Bprm, false),
        ("appraise func=CREDS_CHECK", Func::CredsCheck, AppraiseClass::Creds, false),
        ("appraise func=MMAP_CHECK", Func::MmapCheck, AppraiseClass::Mmap, false),
        ("appraise func=MMAP_CHECK_REQPROT", Func::MmapCheckReqprot, AppraiseClass::Mmap, false),
        ("appraise func=POLICY_CHECK", Func::PolicyCheck, AppraiseClass::Read, false),
    ];
    for (text, func, class, as_file) in table {
        let decision = decide(text, func, Mask::EXEC);
        assert_eq!((decision.appraise_class, decision.treat_as_file_check), (class, as_file), "{text}");
    }
}

#[test]
fn flags_of_one_rule_do_not_weaken_another() {
    let text = "measure permit_directio\nappraise appraise_type=imasig\n";
    let decision = decide(text, Func::FileCheck, Mask::READ);
    assert_eq!(decision.flags, RuleFlags::SIGNATURE_REQUIRED | RuleFlags::CHECK_BLACKLIST);
    assert_eq!(decision.flags_of(Class::Measure), RuleFlags::PERMIT_DIRECTIO);
    assert_eq!(decision.all_flags(), decision.flags | RuleFlags::PERMIT_DIRECTIO);

    let decision = decide("dont_appraise permit_directio\nappraise\n", Func::FileCheck, Mask::READ);
    assert_eq!((decision.flags, decision.all_flags()), (RuleFlags::empty(), RuleFlags::PERMIT_DIRECTIO));

    let text = "appraise uid=5 appraise_type=imasig\nappraise permit_directio\n";
    assert_eq!(decide(text, Func::FileCheck, Mask::READ).flags, RuleFlags::PERMIT_DIRECTIO);
}

#[test]
fn fail_securely_marks_every_appraisal_and_nothing_else() {
    let object = file(0, "/t/file");
    let subject = Known::actor("0");
    let query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &subject, digest: None };
    let flags = |text: &str| policy(text).with_fail_securely().decide(&query).unwrap().all_flags();
    assert_eq!(flags("appraise\n"), RuleFlags::FAIL_UNVERIFIABLE);
    assert_eq!(flags("measure\ndont_appraise\nappraise\n"), RuleFlags::empty());
}

#[test]
fn conditions_on_the_object_hold_or_do_not() {
    let table = [
        ("fsmagic=0xef53", true),
        ("fsmagic=0x65735546", false),
        ("fsname=ext4", true),
        ("fsname=ext", false),
        ("fs_subtype=x", false),
        ("fsuuid=01234567-89ab-cdef-0123-456789abcdef", true),
        ("fsuuid=01234567-89ab-cdef-0123-456789abcdee", false),
        ("fowner=0", true),
        ("fowner>0", false),
        ("fowner<1", true),
        ("fgroup=0", true),
        ("fgroup>5", false),
        ("path=/t/*", true),
        ("path=/*", false),
        ("path=/**", true),
        ("uid=0 gid=0 fowner=0 path=/t/file", true),
        ("uid=0 gid=1 fowner=0 path=/t/file", false),
    ];
    for (conditions, expected) in table {
        let decision = decide(&format!("measure {conditions}"), Func::FileCheck, Mask::READ);
        assert_eq!(!decision.actions.is_empty(), expected, "{conditions}");
    }
}

#[test]
fn a_subtype_is_that_of_the_file_system() {
    let mut object = file(0, "/t/file");
    object.fs_subtype = Some("imafs");
    let subject = Gone;
    let query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &subject, digest: None };
    assert_eq!(policy("measure fs_subtype=imafs").decide(&query).unwrap().actions, Actions::MEASURE);
    assert_eq!(policy("measure fs_subtype=sshfs").decide(&query).unwrap().actions, Actions::empty());
}

#[test]
fn func_and_mask_hold_exactly_unless_the_attributes_changed() {
    let table = [
        ("measure func=FILE_CHECK mask=MAY_READ", Func::FileCheck, Mask::READ | Mask::WRITE, false),
        ("measure func=FILE_CHECK mask=^MAY_READ", Func::FileCheck, Mask::READ | Mask::WRITE, true),
        ("measure func=FILE_CHECK mask=^MAY_READ", Func::FileCheck, Mask::ACCESS, false),
        ("measure func=FILE_CHECK", Func::FileCheck, Mask::ACCESS, true),
        ("measure func=FILE_CHECK", Func::BprmCheck, Mask::EXEC, false),
        ("measure", Func::BprmCheck, Mask::EXEC, true),
        ("measure", Func::KexecCmdline, Mask::empty(), true),
        ("measure", Func::KeyCheck, Mask::empty(), false),
        ("measure", Func::CriticalData, Mask::empty(), false),
        ("measure func=BPRM_CHECK mask=MAY_EXEC", Func::PostSetattr, Mask::empty(), true),
    ];
    for (text, func, mask, expected) in table {
        assert_eq!(!decide(text, func, mask).actions.is_empty(), expected, "{text} {func} {mask:?}");
    }
}

#[test]
fn the_subject_is_asked_once_and_only_when_all_else_matches() {
    let object = file(0, "/t/file");
    let text = "measure fowner=5 uid=0\naudit func=BPRM_CHECK uid=0\nmeasure uid=1\nmeasure euid=2\naudit gid=3\nmeasure uid=0\n";
    let policy = policy(text);
    let subject = Known::actor("0");
    let mut query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &subject, digest: None };
    assert_eq!(policy.decide(&query).unwrap().deciding, [Some(5), None, None, None]);
    assert_eq!(subject.asked.get(), 1);

    query.func = Func::MmapCheck;
    let other = common::policy("measure fowner=5 uid=0\nmeasure\n");
    let subject = Known::actor("0");
    query.subject = &subject;
    assert_eq!(other.decide(&query).unwrap().actions, Actions::MEASURE);
    assert_eq!(subject.asked.get(), 0);
    assert!(!other.needs_path() && common::policy("measure path=/a").needs_path());
    assert!(other.needs_subject() && !common::policy("measure fowner=5").needs_subject());
}

#[test]
fn a_subject_that_cannot_be_told_leaves_the_access_undecided() {
    let object = file(0, "/t/file");
    let query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &Gone, digest: None };
    let err = policy("dont_appraise uid=0\nappraise\n").decide(&query).unwrap_err();
    assert_eq!(err, Undecided::Subject(SubjectUnknown { tid: 7, errno: 3 }));
    assert_eq!(policy("appraise\n").decide(&query).unwrap().actions, Actions::APPRAISE);
}

#[test]
fn digests_allow_and_deny() {
    let bad = Digest::ones(HashAlgo::Sha256);
    let good = Digest::zero(HashAlgo::Sha256);
    let text = format!(
        "dont_appraise func=BPRM_CHECK digest={good}\nappraise func=BPRM_CHECK digest={bad} appraise_type=deny\n\
         appraise func=BPRM_CHECK\n"
    );
    let policy = policy(&text);
    assert_eq!(policy.digest_algo(), Some(HashAlgo::Sha256));
    let object = file(0, "/t/file");
    let ask = |digest: Option<&Digest>| {
        let query =
            Query { func: Func::BprmCheck, mask: Mask::EXEC, object: &object, subject: &Gone, digest };
        policy.decide(&query).map(|decision| (decision.actions, decision.flags))
    };
    let denied = RuleFlags::DENY | RuleFlags::SIGNATURE_REQUIRED | RuleFlags::CHECK_BLACKLIST;
    assert_eq!(ask(Some(&good)), Ok((Actions::empty(), RuleFlags::empty())));
    assert_eq!(ask(Some(&bad)), Ok((Actions::APPRAISE, denied)));
    let query = Query {
        func: Func::BprmCheck,
        mask: Mask::EXEC,
        object: &object,
        subject: &Gone,
        digest: Some(&bad),
    };
    assert!(policy.decide(&query).unwrap().algos.is_some_and(policy::AlgoSet::is_empty));
    let third = ima::hash(HashAlgo::Sha256, b"third").unwrap();
    assert_eq!(ask(Some(&third)), Ok((Actions::APPRAISE, RuleFlags::empty())));
    assert_eq!(ask(None), Err(Undecided::Digest(HashAlgo::Sha256)));
    assert_eq!(ask(Some(&Digest::zero(HashAlgo::Sha512))), Err(Undecided::Digest(HashAlgo::Sha256)));
}

#[test]
fn keys_and_data_are_told_apart_by_name_and_user() {
    let policy = policy(
        "measure func=KEY_CHECK keyrings=.ima|.evm uid=0 gid=99 pcr=11\nmeasure func=CRITICAL_DATA label=kernel_info\n",
    );
    let root = Known::actor("0");
    let user = Known::actor("1000");
    let pcr = |func, name: &str, subject: &Known| {
        let decision = policy.decide_data(func, name, subject).unwrap();
        decision.actions.contains(Actions::MEASURE).then_some(decision.pcr.unwrap_or_default().value())
    };
    assert_eq!(pcr(Func::KeyCheck, ".evm", &root), Some(11));
    assert_eq!(pcr(Func::KeyCheck, ".evm", &user), None);
    assert_eq!(pcr(Func::KeyCheck, ".other", &root), None);
    assert_eq!(pcr(Func::CriticalData, "kernel_info", &user), Some(10));
    assert_eq!(pcr(Func::CriticalData, ".ima", &user), None);
}

#[test]
fn the_first_setxattr_rule_counts_and_decides_no_access() {
    let policy = policy(
        "appraise func=SETXATTR_CHECK appraise_algos=sha512,sha256\nappraise func=SETXATTR_CHECK appraise_algos=sha1\n",
    );
    assert_eq!(policy.setxattr_algos().unwrap().to_string(), "sha256,sha512");
    assert!(policy.uses_func(Func::SetxattrCheck));
    assert!(!policy.has_appraise());
    assert_eq!(common::policy("appraise").setxattr_algos(), None);
}

#[test]
fn only_the_wanted_classes_are_decided() {
    let object = file(0, "/t/file");
    let query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &Gone, digest: None };
    let decision = policy("measure uid=0\nappraise\n").decide_among(&query, Actions::APPRAISE).unwrap();
    assert_eq!(decision.deciding, [None, Some(1), None, None]);
}

#[test]
fn a_func_nobody_asks_about_needs_no_query() {
    let policy =
        policy("dont_measure\nmeasure func=BPRM_CHECK\nappraise func=SETXATTR_CHECK appraise_algos=sha256\n");
    for func in Func::ALL {
        let expected = matches!(func, Func::BprmCheck | Func::SetxattrCheck | Func::PostSetattr);
        assert_eq!(policy.uses_func(func), expected, "{func}");
    }
}
