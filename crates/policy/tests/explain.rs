//! Why a decision is what it is, in cases worked out by hand from the kernel's rules of matching.

#![expect(clippy::indexing_slicing, reason = "a test helper that fails fails its test")]

mod common;

use common::{Gone, Known, file, policy};
use ima::{Digest, HashAlgo};
use policy::{
    Actions, Class, Func, Mask, Mismatch, Missed, Object, Policy, Query, Subject, SubjectIds, Undecided,
    Verdict,
};

/// The verdict of a class and what was passed over on the way, as `(rule, condition)`.
fn explained(policy: &Policy, query: &Query<'_>, class: Class) -> (Verdict, Vec<(usize, Mismatch)>) {
    let explanation = policy.explain(query);
    let class = &explanation.classes[class as usize];
    (class.verdict, class.missed.iter().map(|Missed { rule, condition }| (*rule, *condition)).collect())
}

/// Asks about a read by `actor` of a file of `owner`.
fn read(text: &str, actor: &str, owner: u32, class: Class) -> (Verdict, Vec<(usize, Mismatch)>) {
    let object = file(owner, "/t/file");
    let subject = Known::actor(actor);
    let query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &subject, digest: None };
    explained(&policy(text), &query, class)
}

#[test]
fn the_first_rule_that_matches_decides_and_later_ones_are_not_looked_at() {
    let text = "measure func=BPRM_CHECK\nmeasure fowner=5\nmeasure fowner=0 pcr=11\nmeasure pcr=12\n";
    let passed_over = vec![(0, Mismatch::Func), (1, Mismatch::Fowner)];
    assert_eq!(read(text, "0", 0, Class::Measure), (Verdict::Decided(2), passed_over));
    // The denied sibling: another owner falls through to the last rule.
    let passed_over = vec![(0, Mismatch::Func), (1, Mismatch::Fowner), (2, Mismatch::Fowner)];
    assert_eq!(read(text, "0", 7, Class::Measure), (Verdict::Decided(3), passed_over));
}

#[test]
fn a_dont_rule_decides_its_class_and_no_other() {
    let text = "dont_measure fsmagic=0xef53\nmeasure\nappraise fowner=0\naudit uid=7\n";
    assert_eq!(read(text, "0", 0, Class::Measure), (Verdict::Decided(0), vec![]));
    assert_eq!(read(text, "0", 0, Class::Appraise), (Verdict::Decided(2), vec![]));
    assert_eq!(read(text, "0", 5, Class::Appraise), (Verdict::NoneMatches, vec![(2, Mismatch::Fowner)]));
    assert_eq!(read(text, "0", 0, Class::Audit), (Verdict::NoneMatches, vec![(3, Mismatch::User)]));
    assert_eq!(read(text, "0", 0, Class::Hash), (Verdict::NoneActs, vec![]));
    assert_eq!(read("dont_appraise\n", "0", 0, Class::Appraise), (Verdict::NoneActs, vec![]));
}

#[test]
fn operators_compare_as_they_read() {
    for (condition, owner, holds) in [
        ("fowner=1000", 1000, true),
        ("fowner=1000", 1001, false),
        ("fowner>1000", 1001, true),
        ("fowner>1000", 1000, false),
        ("fowner<1000", 999, true),
        ("fowner<1000", 1000, false),
        ("fowner>4294967293", 4_294_967_294, true),
    ] {
        let expected = if holds {
            (Verdict::Decided(0), vec![])
        } else {
            (Verdict::NoneMatches, vec![(0, Mismatch::Fowner)])
        };
        assert_eq!(
            read(&format!("measure {condition}"), "0", owner, Class::Measure),
            expected,
            "{condition}"
        );
    }
}

#[test]
fn of_several_conditions_the_first_that_fails_is_named() {
    let text = "measure mask=MAY_READ fsmagic=0xef53 fsname=ext4 fsuuid=01234567-89ab-cdef-0123-456789abcdef \
                fowner=0 fgroup=0 path=/t/* uid=0 gid=0\n";
    let policy = policy(text);
    let object = file(0, "/t/file");
    let root = Known::actor("0");
    let other = Known::actor("5");
    let group = Known { ids: SubjectIds { gid: 9, ..root.ids }, asked: std::cell::Cell::new(0) };
    let table: [(Object<'_>, &dyn Subject, Mask, Option<Mismatch>); 11] = [
        (object, &root, Mask::READ, None),
        (object, &root, Mask::READ | Mask::WRITE, Some(Mismatch::Mask)),
        (Object { fsmagic: 1, ..object }, &root, Mask::READ, Some(Mismatch::FsMagic)),
        (Object { fsname: "ext3", ..object }, &root, Mask::READ, Some(Mismatch::FsName)),
        (Object { fsuuid: [0; 16], ..object }, &root, Mask::READ, Some(Mismatch::FsUuid)),
        (Object { owner: 1, ..object }, &root, Mask::READ, Some(Mismatch::Fowner)),
        (Object { group: 1, ..object }, &root, Mask::READ, Some(Mismatch::Fgroup)),
        (Object { path: b"/s", ..object }, &root, Mask::READ, Some(Mismatch::Path)),
        (object, &other, Mask::READ, Some(Mismatch::User)),
        (object, &group, Mask::READ, Some(Mismatch::Group)),
        (Object { fsmagic: 1, owner: 1, ..object }, &other, Mask::READ, Some(Mismatch::FsMagic)),
    ];
    for (object, subject, mask, failed) in table {
        let query = Query { func: Func::FileCheck, mask, object: &object, subject, digest: None };
        let (verdict, missed) = explained(&policy, &query, Class::Measure);
        assert_eq!(missed, failed.map(|condition| (0, condition)).into_iter().collect::<Vec<_>>());
        assert_eq!(verdict == Verdict::Decided(0), failed.is_none());
    }
}

#[test]
fn a_condition_is_named_in_the_words_of_the_rule() {
    let policy =
        policy("appraise func=FILE_CHECK euid>5 fowner<4294967294 digest_type=verity appraise_type=sigv3\n");
    let rule = &policy.rules()[0];
    assert_eq!(rule.condition(Mismatch::User).as_deref(), Some("euid>5"));
    assert_eq!(rule.condition(Mismatch::Fowner).as_deref(), Some("fowner<4294967294"));
    assert_eq!(rule.condition(Mismatch::Func).as_deref(), Some("func=FILE_CHECK"));
    assert_eq!(rule.condition(Mismatch::Digest), None);
}

#[test]
fn what_cannot_be_told_is_named_and_stays_undecided() {
    let digest = Digest::zero(HashAlgo::Sha256);
    let policy = policy(&format!("measure\nappraise digest={digest} appraise_type=deny\naudit\n"));
    let object = file(0, "/t/file");
    let mut query =
        Query { func: Func::FileCheck, mask: Mask::READ, object: &object, subject: &Gone, digest: None };
    let explanation = policy.explain(&query);
    assert_eq!(explanation.outcome.unwrap_err(), Undecided::Digest(HashAlgo::Sha256));
    let verdicts = explanation.classes.map(|class| class.verdict);
    assert_eq!(verdicts, [Verdict::Decided(0), Verdict::Unknown(1), Verdict::NotReached, Verdict::NoneActs]);

    query.digest = Some(&digest);
    assert_eq!(explained(&policy, &query, Class::Appraise), (Verdict::Decided(1), vec![]));
    let other = Digest::ones(HashAlgo::Sha256);
    query.digest = Some(&other);
    assert_eq!(
        explained(&policy, &query, Class::Appraise),
        (Verdict::NoneMatches, vec![(1, Mismatch::Digest)])
    );
}

#[test]
fn keys_and_data_are_measured_only() {
    let policy = policy("measure\nmeasure func=KEY_CHECK keyrings=.ima\nappraise\n");
    let root = Known::actor("0");
    let explanation = policy.explain_data(Func::KeyCheck, ".ima", &root);
    let [measure, appraise, ..] = explanation.classes;
    assert_eq!((measure.verdict, appraise.verdict), (Verdict::Decided(1), Verdict::NotAsked));
    assert_eq!(measure.missed, [Missed { rule: 0, condition: Mismatch::Func }]);
    let explanation = policy.explain_data(Func::KeyCheck, ".evm", &root);
    assert_eq!(explanation.classes[0].verdict, Verdict::NoneMatches);
    assert_eq!(explanation.classes[0].missed[1], Missed { rule: 1, condition: Mismatch::Keyrings });
}

/// Both give the same for every shipped and built-in policy, every func and several actors: there is one decision.
#[test]
fn the_explanation_is_the_decision() {
    let policies = ["measure", "exec", "immutable"].map(|name| Policy::shipped(name).unwrap());
    let builtin = ["tcb", "ima_tcb", "appraise_tcb|secure_boot|critical_data"];
    for policy in policies.into_iter().chain(builtin.map(|name| Policy::builtin(name).unwrap())) {
        for (func, mask, actor, owner) in Func::ALL.into_iter().flat_map(|func| {
            let masks = [Mask::READ, Mask::EXEC, Mask::READ | Mask::WRITE, Mask::ACCESS];
            masks.into_iter().flat_map(move |mask| {
                [("0", 0), ("1000", 0), ("1000/0", 1000)].map(|(actor, owner)| (func, mask, actor, owner))
            })
        }) {
            let object = file(owner, "/usr/bin/id");
            let subject = Known::actor(actor);
            let query = Query { func, mask, object: &object, subject: &subject, digest: None };
            let decided = policy.decide(&query).unwrap();
            let explanation = policy.explain(&query);
            assert_eq!(explanation.outcome.unwrap().deciding, decided.deciding);
            for class in explanation.classes {
                let by = match class.verdict {
                    Verdict::Decided(rule) => Some(rule),
                    _ => None,
                };
                assert_eq!(by, decided.deciding(class.class), "{func} {mask:?} {actor}");
                let before = by.unwrap_or(policy.rules().len());
                let of_class = |rule: usize| policy.rules()[rule].action().class() == class.class;
                let all: Vec<_> = (0..before).filter(|rule| of_class(*rule)).collect();
                let looked_for = policy.active().contains(class.class.bit())
                    && (!func.is_data() || class.class.bit() == Actions::MEASURE);
                let missed: Vec<_> = class.missed.iter().map(|missed| missed.rule).collect();
                assert_eq!(missed, if looked_for { all } else { vec![] });
            }
        }
    }
}
