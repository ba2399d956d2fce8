//! Policies: `policy::parse_rule`, `policy::Policy::parse`.

use policy::{
    Func, Mask, Object, ParseOptions, Policy, Query, Reason, RuleError, Subject, SubjectIds, SubjectUnknown,
    parse_rule, parse_rule_recorded,
};

use crate::{Bound, within};

const OURS: ParseOptions = ParseOptions { kernel_only: false };
const KERNEL: ParseOptions = ParseOptions { kernel_only: true };

/// What a line without `path=` may hold.
const LINE: Bound = Bound { fixed: 16 << 10, per_byte: 64 };
/// What compiling the glob of `path=` may hold besides.
const GLOB: Bound = Bound { fixed: 24 << 20, per_byte: 64 };

/// Any bytes as a policy, and each line as a rule.
///
/// - A rule that is read, written and read again is the same rule, and its read-back is one line.
/// - What a kernel's language is read as, ours is read as too; and no addition of ours is in it.
/// - A refusal points into the line at the token it names; a line that is a rule or a refusal leaves a record.
/// - A policy is taken exactly when each line is (and its `digest=` rules agree), with a rule for each line that is one.
/// - Deciding by any policy ends, whatever the occasion, and is explained as it is decided.
pub fn policy(data: &[u8]) {
    let mut rules = Ok(Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        let by_kernel = rule(line, KERNEL);
        let by_us = rule(line, OURS);
        if let Ok(rule) = &by_kernel {
            assert!(rule.as_ref().is_none_or(|rule| !rule.is_extended()));
            assert_eq!(by_us.as_ref(), Ok(rule));
        }
        if let Ok(so_far) = &mut rules {
            match by_us {
                Ok(rule) => so_far.extend(rule),
                Err(refusal) => rules = Err(refusal),
            }
        }
    }
    whole(data, rules);
}

fn rule(line: &[u8], options: ParseOptions) -> Result<Option<policy::Rule>, RuleError> {
    let bound = if line.windows(5).any(|word| word == b"path=") { GLOB } else { LINE };
    let read = within(bound, line, || parse_rule_recorded(line, &options));
    assert_eq!(read.record.is_some(), !matches!(read.outcome, Ok(None)));
    match &read.outcome {
        Ok(Some(rule)) => {
            let again = parse_rule(rule.to_source().as_bytes(), &options);
            assert_eq!(again.as_ref(), Ok(&Some(rule.clone())));
            let shown = rule.to_string();
            assert!(shown.ends_with(' ') && !shown.contains('\n'), "{shown:?}");
        }
        Ok(None) => {
            let text = line.trim_ascii_start();
            assert!(text.is_empty() || text.starts_with(b"#"));
        }
        Err(refusal) => {
            let at = refusal.column.checked_sub(1).and_then(|start| line.get(start..));
            let at = at.map(String::from_utf8_lossy);
            assert!(at.is_some_and(|text| text.starts_with(&refusal.token)), "{refusal:?}");
        }
    }
    read.outcome
}

fn whole(data: &[u8], rules: Result<Vec<policy::Rule>, RuleError>) {
    match (Policy::parse(data, &OURS), rules) {
        (Ok(policy), Ok(rules)) => {
            assert_eq!(policy.rules(), rules);
            assert_eq!(policy.to_string().lines().count(), rules.len());
            assert!(policy.warnings().iter().all(|warning| warning.rule < rules.len()));
            decide(&policy);
        }
        (Err(refusal), Err(line)) => assert_eq!(refusal.source, line),
        (Err(refusal), Ok(_)) => assert_eq!(refusal.source.reason, Reason::MixedDigestAlgos),
        (Ok(policy), Err(line)) => {
            assert_eq!(None, Some(line), "a line that is refused is in a policy that is taken: {policy}");
        }
    }
}

struct Nobody;

impl Subject for Nobody {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        Ok(SubjectIds::default())
    }
}

fn decide(policy: &Policy) {
    let object = Object {
        fsmagic: 0xef53,
        fsname: "ext4",
        fs_subtype: None,
        fsuuid: [0; 16],
        owner: 0,
        group: 0,
        path: b"/usr/bin/id",
    };
    for func in Func::ALL {
        let query = Query { func, mask: Mask::READ, object: &object, subject: &Nobody, digest: None };
        let explanation = policy.explain(&query);
        let decision = policy.decide(&query);
        assert_eq!(
            explanation.outcome.map(|explained| explained.deciding),
            decision.as_ref().map(|it| it.deciding).map_err(|it| *it)
        );
        if let Ok(decision) = decision {
            let decided = decision.deciding.iter().flatten();
            assert!(decided.clone().all(|rule| *rule < policy.rules().len()));
            assert!(policy.active().contains(decision.actions));
            assert!(decision.actions.is_empty() || decided.count() > 0);
        }
    }
}
