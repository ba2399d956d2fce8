//! The answer as a person reads it, and as a program does.

use std::fmt::{Display, Write as _};

use policy::{
    Actions, Class, ClassExplanation, Decision, Explanation, Func, Mask, Mismatch, Policy, Verdict,
};
use serde_json::{Map, Value, json};

use super::Access;
use super::facts::{Fact, Origin};

/// A question with its answer.
pub(super) struct Explained<'a> {
    pub policy: &'a Policy,
    pub access: &'a Access,
    pub explanation: &'a Explanation,
}

impl Explained<'_> {
    /// Several lines: the access, what is known of it, then each class.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        lines.extend(self.known().into_iter().map(|line| format!("  {line}")));
        lines.push(String::new());
        if self.access.func == Func::SetxattrCheck {
            lines.push(self.setxattr());
            return lines.join("\n");
        }
        for class in &self.explanation.classes {
            lines.push(format!("{}: {}", name(class.class), self.verdict(class)));
            for missed in &class.missed {
                let rule = self.policy.rules().get(missed.rule);
                let condition = rule.and_then(|rule| rule.condition(missed.condition));
                let why = match condition {
                    Some(condition) => {
                        format!("{condition} is not met: {}", self.found(missed.condition, &condition))
                    }
                    None => format!("it does not name func={}", self.access.func),
                };
                lines.push(format!("  {} does not match, {why}", self.place(missed.rule)));
            }
        }
        lines.join("\n")
    }

    /// One object.
    pub(super) fn json(&self) -> Value {
        let classes: Vec<_> = self.explanation.classes.iter().map(|class| self.class_json(class)).collect();
        let facts = &self.access.facts;
        let ids = facts.subject.0;
        let mut answer = json!({
            "func": self.access.func.name(),
            "mask": mask_names(self.access.mask),
            "subject": {
                "uid": ids.uid, "euid": ids.euid, "suid": ids.suid, "gid": ids.gid, "egid": ids.egid, "sgid": ids.sgid,
                "setid": ids.cap_setuid,
            },
        });
        if let Some(answer) = answer.as_object_mut() {
            match &self.access.data {
                Some(name) => {
                    answer.insert("name".to_owned(), json!(name));
                }
                None => {
                    answer.insert("path".to_owned(), json!(String::from_utf8_lossy(&self.access.path)));
                    answer.insert("facts".to_owned(), self.facts_json());
                }
            }
            if self.access.func == Func::SetxattrCheck {
                let rule = self.policy.setxattr_rule();
                let algos = self.policy.setxattr_algos().map(ToString::to_string);
                let value = json!({ "algos": algos, "rule": rule.map(|rule| self.rule_json(rule)) });
                answer.insert("setxattr".to_owned(), value);
            } else {
                answer.insert("classes".to_owned(), Value::Array(classes));
            }
        }
        answer
    }

    fn headline(&self) -> String {
        let func = self.access.func;
        if let Some(name) = &self.access.data {
            return format!("{func} of {name}");
        }
        let path = String::from_utf8_lossy(&self.access.path);
        let mask = mask_names(self.access.mask).join("|");
        if mask.is_empty() { format!("{func} of {path}") } else { format!("{func} of {path}, {mask}") }
    }

    fn known(&self) -> Vec<String> {
        let facts = &self.access.facts;
        let ids = facts.subject.0;
        let free = if ids.cap_setuid { "with" } else { "without" };
        let subject = format!(
            "subject: uid={} euid={} suid={} gid={} egid={} sgid={}, {free} CAP_SETUID and CAP_SETGID",
            ids.uid, ids.euid, ids.suid, ids.gid, ids.egid, ids.sgid
        );
        if self.access.data.is_some() {
            return vec![subject];
        }
        let file = [
            told("fowner", &facts.owner, facts.owner.value),
            told("fgroup", &facts.group, facts.group.value),
        ];
        let mut system = vec![
            told("fsmagic", &facts.fsmagic, format!("{:#x}", facts.fsmagic.value)),
            told("fsname", &facts.fsname, &facts.fsname.value),
        ];
        if let Some(subtype) = &facts.fs_subtype.value {
            system.push(told("fs_subtype", &facts.fs_subtype, subtype));
        }
        system.push(told("fsuuid", &facts.fsuuid, uuid(&facts.fsuuid.value)));
        vec![format!("file: {}", file.join(" ")), format!("filesystem: {}", system.join(" ")), subject]
    }

    fn verdict(&self, class: &ClassExplanation) -> String {
        let kind = name(class.class);
        match class.verdict {
            Verdict::Decided(rule) => {
                let does = self.does(class.class, rule);
                format!("{does}, by {}: {}", self.place(rule), self.words(rule))
            }
            Verdict::NoneMatches => "no, no rule matches".to_owned(),
            Verdict::NoneActs => format!("no, the policy has no {kind} rule"),
            Verdict::NotAsked => "no, keys and data are measured only".to_owned(),
            // An answer is printed only where the policy gave one.
            Verdict::Unknown(_) | Verdict::NotReached => "not decided".to_owned(),
        }
    }

    /// `yes`, `no`, and how.
    fn does(&self, class: Class, rule: usize) -> String {
        let Ok(decision) = &self.explanation.outcome else { return "not decided".to_owned() };
        if decision.actions.contains(class.bit()) {
            return match (class, how(class, decision)) {
                (_, how) if how.is_empty() => "yes".to_owned(),
                (_, how) => format!("yes, {how}"),
            };
        }
        let acts = self.policy.rules().get(rule).is_some_and(|rule| rule.action().acts());
        if acts { "no, dropped for an appraise rule further down".to_owned() } else { "no".to_owned() }
    }

    fn setxattr(&self) -> String {
        match (self.policy.setxattr_rule(), self.policy.setxattr_algos()) {
            (Some(rule), Some(algos)) => {
                format!(
                    "security.ima may be written with {algos}, by {}: {}",
                    self.place(rule),
                    self.words(rule)
                )
            }
            _ => "security.ima may be written with any algorithm: no rule says otherwise".to_owned(),
        }
    }

    fn class_json(&self, class: &ClassExplanation) -> Value {
        let mut object = Map::new();
        object.insert("class".to_owned(), json!(name(class.class)));
        let verdict = match class.verdict {
            Verdict::Decided(_) => "decided",
            Verdict::NoneMatches => "none-matches",
            Verdict::NoneActs => "none-acts",
            Verdict::NotAsked => "not-asked",
            Verdict::Unknown(_) | Verdict::NotReached => "undecided",
        };
        object.insert("verdict".to_owned(), json!(verdict));
        let actions = self.explanation.outcome.as_ref().map_or(Actions::empty(), |decision| decision.actions);
        object.insert("does".to_owned(), json!(actions.contains(class.class.bit())));
        if let Verdict::Decided(rule) = class.verdict {
            object.insert("rule".to_owned(), self.rule_json(rule));
        }
        let missed = class.missed.iter().map(|missed| {
            let rule = self.policy.rules().get(missed.rule);
            let condition = rule.and_then(|rule| rule.condition(missed.condition));
            let found = self.found(missed.condition, condition.as_deref().unwrap_or_default());
            json!({ "rule": self.rule_json(missed.rule), "condition": condition, "found": found })
        });
        object.insert("missed".to_owned(), Value::Array(missed.collect()));
        Value::Object(object)
    }

    fn rule_json(&self, rule: usize) -> Value {
        json!({ "number": rule + 1, "line": self.policy.line(rule), "text": self.words(rule) })
    }

    fn facts_json(&self) -> Value {
        let facts = &self.access.facts;
        let shown = |value: String, from: Origin| json!({ "value": value, "from": from });
        json!({
            "fowner": facts.owner,
            "fgroup": facts.group,
            "fsmagic": shown(format!("{:#x}", facts.fsmagic.value), facts.fsmagic.from),
            "fsname": facts.fsname,
            "fs_subtype": facts.fs_subtype,
            "fsuuid": shown(uuid(&facts.fsuuid.value), facts.fsuuid.from),
        })
    }

    /// `line 3`, or `rule 3` of a policy that has no lines.
    fn place(&self, rule: usize) -> String {
        self.policy.line(rule).map_or_else(|| format!("rule {}", rule + 1), |line| format!("line {line}"))
    }

    fn words(&self, rule: usize) -> String {
        self.policy.rules().get(rule).map(policy::Rule::to_source).unwrap_or_default()
    }

    /// What the access has where a rule's condition wants something else.
    fn found(&self, mismatch: Mismatch, condition: &str) -> String {
        let facts = &self.access.facts;
        let ids = facts.subject.0;
        let effective = |key: char, effective, saved, real| {
            if ids.cap_setuid {
                format!("e{key}id={effective} s{key}id={saved} {key}id={real}")
            } else {
                format!("e{key}id={effective}")
            }
        };
        match mismatch {
            Mismatch::Func => format!("func={}", self.access.func),
            Mismatch::Mask => format!("mask={}", mask_names(self.access.mask).join("|")),
            Mismatch::FsMagic => format!("fsmagic={:#x}", facts.fsmagic.value),
            Mismatch::FsName => format!("fsname={}", facts.fsname.value),
            Mismatch::FsSubtype => match &facts.fs_subtype.value {
                Some(subtype) => format!("fs_subtype={subtype}"),
                None => "the filesystem has no subtype".to_owned(),
            },
            Mismatch::FsUuid => format!("fsuuid={}", uuid(&facts.fsuuid.value)),
            Mismatch::Fowner => format!("fowner={}", facts.owner.value),
            Mismatch::Fgroup => format!("fgroup={}", facts.group.value),
            Mismatch::Path => format!("path={}", String::from_utf8_lossy(&self.access.path)),
            Mismatch::User if condition.starts_with('e') => effective('u', ids.euid, ids.suid, ids.uid),
            Mismatch::User => format!("uid={}", ids.uid),
            Mismatch::Group if condition.starts_with('e') => effective('g', ids.egid, ids.sgid, ids.gid),
            Mismatch::Group => format!("gid={}", ids.gid),
            Mismatch::Keyrings => format!("keyring {}", self.access.data.as_deref().unwrap_or_default()),
            Mismatch::Label => format!("label {}", self.access.data.as_deref().unwrap_or_default()),
            _ => "the content's digest is another".to_owned(),
        }
    }
}

/// What the deciding rule says besides yes.
fn how(class: Class, decision: &Decision) -> String {
    let mut how = Vec::new();
    match class {
        Class::Measure => {
            how.extend(decision.pcr.map(|pcr| format!("into PCR {pcr}")));
            how.extend(decision.template.as_ref().map(|template| format!("as {}", template.name())));
        }
        Class::Appraise => {
            use policy::RuleFlags;
            if decision.flags.contains(RuleFlags::DENY) {
                how.push("which refuses it".to_owned());
            } else if decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED) {
                how.push("by signature".to_owned());
            }
            how.extend(
                decision
                    .algos
                    .filter(|algos| !algos.is_empty())
                    .map(|algos| format!("labelled with {algos}")),
            );
        }
        Class::Audit | Class::Hash => {}
    }
    how.join(" ")
}

const fn name(class: Class) -> &'static str {
    match class {
        Class::Measure => "measure",
        Class::Appraise => "appraise",
        Class::Audit => "audit",
        Class::Hash => "hash",
    }
}

fn mask_names(mask: Mask) -> Vec<&'static str> {
    mask.iter().filter_map(Mask::keyword).collect()
}

fn told<T>(key: &str, fact: &Fact<T>, shown: impl Display) -> String {
    let from = match fact.from {
        Origin::Given | Origin::File => "",
        Origin::Assumed => " (assumed)",
    };
    format!("{key}={shown}{from}")
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
