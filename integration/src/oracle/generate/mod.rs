//! From a seed to a scenario: a policy, a tree and operations, drawn at random but never senseless.
//!
//! A scenario has a [`Theme`]: which of the rarer things happen in it. So most scenarios are free of what imafs and
//! the kernel are known to differ in, and have to agree entirely; and what does differ stands out where it is.
//! Everything is deterministic on the kernel: operations are done one after the other, and nothing depends on time
//! or memory.

mod labels;
mod ops;
mod policy;
mod tree;

use crate::oracle::draft::Draft;
use crate::oracle::rng::Rng;

/// Users that do things, and own files: a user id, or `REAL/EFFECTIVE`.
pub const ACTORS: [&str; 5] = ["0", "1000", "1001", "0/1000", "1000/0"];

/// Users that own files.
const OWNERS: [u32; 3] = [0, 1000, 1001];

/// What may happen in a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Theme {
    /// Rules appraise.
    pub appraise: bool,
    /// Some rules ask for signatures.
    pub signatures: bool,
    /// ... while others do not, so that the kernel's flags may leak from one to the other.
    pub mixed: bool,
    /// Programs are run.
    pub exec: bool,
    /// Mappings for execution, and rules about them.
    pub mmap: bool,
    /// Files are shortened by their path.
    pub truncate: bool,
    /// Files are opened with O_DIRECT.
    pub direct: bool,
    /// Several hold a file open at once, for reading and writing.
    pub sharing: bool,
    /// Writable shared mappings.
    pub shared_mappings: bool,
    /// Labels are set and removed.
    pub labels: bool,
    /// Rules restrict algorithms.
    pub algorithms: bool,
}

impl Theme {
    fn draw(rng: &mut Rng) -> Self {
        let appraise = rng.chance(60);
        let signatures = appraise && rng.chance(40);
        Self {
            appraise,
            signatures,
            mixed: signatures && rng.chance(30),
            exec: rng.chance(60),
            mmap: rng.chance(20),
            truncate: rng.chance(15),
            direct: rng.chance(15),
            sharing: rng.chance(60),
            shared_mappings: rng.chance(10),
            labels: rng.chance(50),
            algorithms: rng.chance(30),
        }
    }
}

/// The scenario of a seed, with about as many operations.
pub fn draft(seed: u64, operations: usize) -> Draft {
    let mut rng = Rng::new(seed);
    let theme = Theme::draw(&mut rng.fork("theme"));
    let nodes = tree::draw(&mut rng.fork("tree"), theme);
    let rules = policy::draw(&mut rng.fork("policy"), theme);
    let cmdline = policy::cmdline(&mut rng.fork("cmdline"), theme);
    let ops = ops::draw(&mut rng.fork("operations"), theme, &nodes, operations);
    Draft { seed, cmdline, rules, nodes, ops }
}

/// The theme of a seed.
pub fn theme(seed: u64) -> Theme {
    Theme::draw(&mut Rng::new(seed).fork("theme"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::draft::{Kind, Label};
    use std::collections::BTreeSet;

    /// How many seeds it takes until everything has been seen.
    const SEEDS: u64 = 400;

    fn drafts() -> Vec<Draft> {
        (1..=SEEDS).map(|seed| draft(seed, 60)).collect()
    }

    #[test]
    fn a_seed_is_one_scenario_and_another_seed_another() {
        assert_eq!(draft(7, 60), draft(7, 60));
        assert_ne!(draft(7, 60).ops, draft(8, 60).ops);
        assert_eq!(draft(7, 60).rules, draft(7, 20).rules, "the policy is not moved by the operations");
    }

    #[test]
    fn every_action_hook_mask_condition_and_option_is_drawn() {
        let drafts = drafts();
        let rules = || drafts.iter().flat_map(|draft| &draft.rules);
        let actions: BTreeSet<&str> = rules().map(|rule| rule.action).collect();
        let all = ["appraise", "audit", "dont_appraise", "dont_hash", "dont_measure", "hash", "measure"];
        assert_eq!(actions, BTreeSet::from(all));
        let tokens: BTreeSet<&str> = rules().flat_map(|rule| &rule.tokens).map(String::as_str).collect();
        for whole in [
            "func=FILE_CHECK",
            "func=PATH_CHECK",
            "func=BPRM_CHECK",
            "func=CREDS_CHECK",
            "func=MMAP_CHECK",
            "func=FILE_MMAP",
            "func=SETXATTR_CHECK",
            "mask=MAY_READ",
            "mask=^MAY_READ",
            "mask=MAY_WRITE",
            "mask=^MAY_WRITE",
            "mask=MAY_APPEND",
            "mask=^MAY_APPEND",
            "mask=MAY_EXEC",
            "mask=^MAY_EXEC",
            "fsname=ext4",
            "appraise_type=imasig",
            "permit_directio",
        ] {
            assert!(tokens.contains(whole), "{whole} is never drawn");
        }
        for begin in [
            "fsmagic=",
            "fsuuid=",
            "uid=",
            "uid<",
            "uid>",
            "euid=",
            "euid<",
            "euid>",
            "gid=",
            "gid<",
            "gid>",
            "egid=",
            "egid<",
            "egid>",
            "fowner=",
            "fowner<",
            "fowner>",
            "fgroup=",
            "fgroup<",
            "fgroup>",
            "pcr=",
            "template=",
            "appraise_algos=",
        ] {
            assert!(tokens.iter().any(|token| token.starts_with(begin)), "{begin} is never drawn");
        }
    }

    #[test]
    fn every_kind_of_file_and_label_is_drawn() {
        let drafts = drafts();
        let nodes = || drafts.iter().flat_map(|draft| &draft.nodes);
        let kinds: BTreeSet<_> =
            nodes().map(|node| format!("{:?}", std::mem::discriminant(&node.kind))).collect();
        assert_eq!(kinds.len(), 7);
        assert!(nodes().any(|node| matches!(node.kind, Kind::Text { size: 0, .. })));
        assert!(nodes().any(|node| matches!(node.label, Label::Raw(_))));
        for good in [true, false] {
            assert!(
                nodes().any(|node| matches!(node.label, Label::Hash { good: found, .. } if found == good))
            );
            for known in [true, false] {
                let wanted = |label: &Label| matches!(label, Label::Signature { good: g, known: k, .. } if (*g, *k) == (good, known));
                assert!(nodes().any(|node| wanted(&node.label)), "signature, known {known}, good {good}");
            }
        }
    }

    #[test]
    fn every_verb_and_every_actor_is_drawn() {
        let drafts = drafts();
        let ops = || drafts.iter().flat_map(|draft| &draft.ops);
        let verbs: BTreeSet<&str> = ops().map(|op| op.verb()).collect();
        for verb in [
            "append",
            "cat",
            "chmod",
            "chown",
            "close",
            "copyrange",
            "exchange",
            "exec",
            "execfd",
            "fallocate",
            "fsync",
            "ftruncate",
            "getxattr",
            "link",
            "listxattr",
            "mkdir",
            "mknod",
            "mmap",
            "mprotect",
            "munmap",
            "open",
            "poke",
            "put",
            "read",
            "removexattr",
            "rename",
            "seek",
            "setxattr",
            "stat",
            "symlink",
            "touch",
            "truncate",
            "unlink",
            "write",
        ] {
            assert!(verbs.contains(verb), "{verb} is never drawn");
        }
        let actors: BTreeSet<&str> = ops().map(|op| op.actor).collect();
        assert_eq!(actors, BTreeSet::from(ACTORS));
    }

    #[test]
    fn a_rule_stands_on_what_the_theme_allows() {
        for seed in 1..=SEEDS {
            let (theme, draft) = (theme(seed), draft(seed, 60));
            let any = |wanted: &str| draft.rules.iter().any(|rule| rule.has(wanted));
            assert!(theme.signatures || !any("appraise_type=imasig"), "seed {seed}");
            assert!(theme.mmap || !any("func=MMAP_CHECK"), "seed {seed}");
            assert!(theme.truncate || draft.ops.iter().all(|op| op.verb() != "truncate"), "seed {seed}");
            // Otherwise the guest's own file systems would be in the results.
            let audits = draft.rules.iter().filter(|rule| rule.action == "audit");
            for rule in audits {
                let confined = ["fsmagic", "fsname", "fsuuid"].iter().any(|key| rule.value(key).is_some());
                assert!(confined, "seed {seed}: {rule}");
            }
        }
    }
}
