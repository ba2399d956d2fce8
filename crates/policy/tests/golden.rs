//! What a Linux 6.1 kernel said to the same lines, and what it did by the same policies.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

mod common;

use common::{Known, file, golden, policy, recorded};
use policy::{Actions, Func, Mask, ParseOptions, Policy, Query, parse_rule_recorded};

/// Lines that 6.1, as Debian builds it, refuses and newer kernels take; imafs speaks the newest form.
const NEWER: [(&str, &str); 8] = [
    ("measure func=FILE_CHECK # comment at the end", "a token beginning with # ends the rule since 6.19"),
    ("dont_audit", "since 6.19"),
    ("measure func=MMAP_CHECK_REQPROT", "since 6.3"),
    ("measure func=FILE_CHECK fs_subtype=x", "since 6.19"),
    (
        "appraise func=MODULE_CHECK appraise_type=imasig|modsig",
        "needs CONFIG_IMA_APPRAISE_MODSIG, which Debian leaves out",
    ),
    ("appraise func=FILE_CHECK appraise_flag=check_blacklist", "taken and ignored since 6.19"),
    (
        "appraise func=FILE_CHECK appraise_type=imasig appraise_flag=check_blacklist",
        "taken and ignored since 6.19",
    ),
    ("appraise func=FILE_CHECK appraise_algos=sha1,md5,sha3-256", "sha3 has an id since 6.7"),
];

/// The line between the quotes of a recorded `rule "LINE"`, with `\"`, `\\` and `\xNN` undone.
fn unquoted(quoted: &str) -> Vec<u8> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    let mut bytes = inner.bytes();
    let mut line = Vec::new();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, false) => line.push(byte),
            (_, true) => match bytes.next().unwrap() {
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    line.extend(hex::decode(digits).unwrap());
                }
                escaped => line.push(escaped),
            },
        }
    }
    line
}

/// Number of the operation, the line, what write(2) gave.
fn offered_lines() -> Vec<(String, Vec<u8>, String)> {
    recorded("policy-syntax", "kernel/ops.tsv")
        .lines()
        .map(|row| {
            let mut fields = row.split('\t');
            let number = fields.next().unwrap().to_owned();
            let quoted = fields.next().unwrap().strip_prefix("0 rule ").unwrap();
            (number, unquoted(quoted), fields.next().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn every_line_is_taken_or_refused_with_the_kernels_errno() {
    let lines = offered_lines();
    assert!(lines.len() > 150, "only {} lines", lines.len());
    let mut newer = 0;
    for (number, line, kernel) in lines {
        let text = String::from_utf8_lossy(&line).into_owned();
        let ours = match parse_rule_recorded(&line, &ParseOptions { kernel_only: true }).outcome {
            Ok(_) => format!("ok {}", line.len() + 1),
            Err(err) => err.errno.name().to_owned(),
        };
        if let Some((_, reason)) = NEWER.iter().find(|(known, _)| *known == text) {
            newer += 1;
            assert_eq!((kernel.as_str(), ours.starts_with("ok")), ("EINVAL", true), "{text}: {reason}");
        } else {
            assert_eq!(ours, kernel, "line {number}: {text}");
        }
    }
    assert_eq!(newer, NEWER.len());
}

#[test]
fn every_line_leaves_the_kernels_audit_record() {
    let records = recorded("policy-syntax", "kernel/audit.tsv");
    for (number, line, _) in offered_lines() {
        let text = String::from_utf8_lossy(&line).into_owned();
        if NEWER.iter().any(|(known, _)| *known == text) {
            continue;
        }
        let read = parse_rule_recorded(&line, &ParseOptions { kernel_only: true });
        let res = u8::from(read.outcome.is_ok());
        let ours = read.record.map(|record| {
            let record = String::from_utf8(record).unwrap();
            format!("{number}\ttype=1807 {record} res={res}").replace("1807  res", "1807 res")
        });
        let kernel = records.lines().find(|row| row.split('\t').next() == Some(number.as_str()));
        // The harness's own line that spoils a load leaves its record out.
        if text != "spoil" {
            assert_eq!(ours.as_deref(), kernel, "{text}");
        }
    }
}

#[test]
fn every_recorded_policy_load_goes_the_same_way() {
    let mut loads = 0;
    for scenario in std::fs::read_dir(golden()).unwrap() {
        let directory = scenario.unwrap().path();
        let Ok(rows) = std::fs::read_to_string(directory.join("kernel/policy.tsv")) else { continue };
        loads += 1;
        for row in rows.lines().filter(|row| row.contains('\t')) {
            let (line, kernel) = row.split_once('\t').unwrap();
            let read = parse_rule_recorded(line.as_bytes(), &ParseOptions { kernel_only: true });
            let rule = read.outcome.unwrap_or_else(|err| panic!("{}: {line}: {err}", directory.display()));
            assert_eq!(format!("ok {}", line.len() + 1), kernel, "{}: {line}", directory.display());
            // All these lines were written in canonical spelling, so they read back in the same words;
            // but for one id above 2^31, which the kernel shows as a signed number.
            let shown = rule.unwrap().to_string().replace("fowner>-294967296", "fowner>4000000000");
            assert_eq!(sorted_words(&shown), sorted_words(line));
        }
        let text = std::fs::read(directory.join("policy")).unwrap();
        assert!(Policy::parse(&text, &ParseOptions { kernel_only: true }).is_ok());
    }
    assert!(loads >= 15, "only {loads} loads");
}

fn sorted_words(line: &str) -> Vec<&str> {
    let mut words: Vec<_> = line.split_whitespace().collect();
    words.sort_unstable();
    words
}

#[test]
fn a_bad_line_refuses_the_policy_and_names_itself() {
    for (name, line) in [("bad-middle.policy", 12), ("bad-last.policy", 12)] {
        let text = recorded("policy-load-errors", name);
        let err = Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap_err();
        assert_eq!((err.line, err.source.errno.name()), (line, "EINVAL"), "{name}");
    }
    for (name, rules) in [("good.policy", 11), ("comment.policy", 0), ("empty.policy", 0)] {
        let text = recorded("policy-load-errors", name);
        let policy = Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap();
        assert_eq!(policy.rules().len(), rules, "{name}");
    }
}

#[test]
fn users_and_owners_pick_the_rules_they_pick_in_the_kernel() {
    let policy = policy(&recorded("rules-uid-fowner", "policy"));
    let ops = recorded("rules-uid-fowner", "kernel/ops.tsv");
    for row in ops.lines() {
        let fields: Vec<_> = row.split('\t').collect();
        let words: Vec<_> = fields[1].split(' ').collect();
        let [actor, "cat", name] = words[..] else { panic!("{row}") };
        let object = file(name[1..].parse().unwrap(), name);
        let subject = Known::actor(actor);
        let query = Query {
            func: Func::FileCheck,
            mask: Mask::READ,
            object: &object,
            subject: &subject,
            digest: None,
        };
        let decision = policy.decide(&query).unwrap();
        let measured = decision.actions.contains(Actions::MEASURE);
        assert_eq!(measured, fields[3] == "+1", "{row}");
        assert!(subject.asked.get() <= 1, "{row}");
    }
}

#[test]
fn rules_pick_the_template_and_pcr_they_pick_in_the_kernel() {
    let policy = policy(&recorded("template-and-pcr-per-rule", "policy"));
    let list = recorded("template-and-pcr-per-rule", "kernel/ascii_runtime_measurements");
    let mut entries = list.lines().skip(1);
    let ops = recorded("template-and-pcr-per-rule", "kernel/ops.tsv");
    // The first fourteen operations are plain reads; after them, writers bring violations in.
    for row in ops.lines().take(14) {
        let fields: Vec<_> = row.split('\t').collect();
        let words: Vec<_> = fields[1].split(' ').collect();
        let [actor, "cat", name] = words[..] else { panic!("{row}") };
        let object = file(name[1..].parse().unwrap(), name);
        let subject = Known::actor(actor);
        let query = Query {
            func: Func::FileCheck,
            mask: Mask::READ,
            object: &object,
            subject: &subject,
            digest: None,
        };
        let decision = policy.decide(&query).unwrap();
        if name == "f1010" {
            assert!(decision.actions.is_empty());
        }
        if fields[3] == "+1" {
            let entry: Vec<_> = entries.next().unwrap().split(' ').collect();
            let template = decision.template.as_ref().map_or("ima-ng", |template| template.name());
            assert_eq!(
                (decision.pcr.unwrap_or_default().to_string().as_str(), template),
                (entry[0], entry[2]),
                "{row}"
            );
        }
    }
}
