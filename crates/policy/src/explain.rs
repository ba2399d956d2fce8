//! Why a decision is what it is: for each class the rule that decides it, and what kept each rule before it from
//! matching.
//!
//! Nothing is decided here. The walk is [`Policy::decide`]'s, the conditions are looked at by the same function, and
//! this module only writes down what each look gave; of the rules the walk does not visit at all, it asks the predicate
//! by which they were left out.

use crate::condition::Mismatch;
use crate::decide::{Asked, Decision, Query, Subject, Undecided, mismatch, mismatch_of_data};
use crate::policy::{Policy, can_match};
use crate::rule::Rule;
use crate::vocabulary::{Actions, Class, Func};

/// A decision, and why.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What [`Policy::decide`] gives.
    pub outcome: Result<Decision, Undecided>,
    /// How each class was decided, in the order of [`Class::ALL`].
    pub classes: [ClassExplanation; 4],
}

/// Why one class was decided as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassExplanation {
    /// The class.
    pub class: Class,
    /// What came of it.
    pub verdict: Verdict,
    /// The rules of the class that were passed over, in their order, up to the one that decides.
    pub missed: Vec<Missed>,
}

/// What came of a class. Rules are indices into [`Policy::rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This rule decides, be it a `dont_` rule.
    Decided(usize),
    /// No rule of the class matches.
    NoneMatches,
    /// The policy has no rule of the class that acts, so the class is not looked for.
    NoneActs,
    /// Buffers are measured and nothing else.
    NotAsked,
    /// This rule asks for something that is not known, which denies the access.
    Unknown(usize),
    /// The walk ended, at a rule of another class, before this class was decided.
    NotReached,
}

/// A rule that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Its index in [`Policy::rules`].
    pub rule: usize,
    /// The first of its conditions that is not met.
    pub condition: Mismatch,
}

/// What a look at a rule gave.
type Look = (usize, Result<Option<Mismatch>, Undecided>);

impl Policy {
    /// As [`Policy::decide`], with the reasons.
    #[must_use]
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let mut asked = Asked::of(query.subject);
        let wanted = if query.func.is_data() { Actions::MEASURE } else { Actions::all() };
        self.explained(query.func, wanted, |rule| mismatch(rule, query, &mut asked))
    }

    /// As [`Policy::decide_data`], with the reasons.
    #[must_use]
    pub fn explain_data(&self, func: Func, name: &str, subject: &dyn Subject) -> Explanation {
        let mut asked = Asked::of(subject);
        self.explained(func, Actions::MEASURE, |rule| mismatch_of_data(rule, func, Some(name), &mut asked))
    }

    fn explained(
        &self,
        func: Func,
        wanted: Actions,
        mut look: impl FnMut(&Rule) -> Result<Option<Mismatch>, Undecided>,
    ) -> Explanation {
        let mut looks: Vec<Look> = Vec::new();
        let outcome = self.walk(func, wanted, |index, rule| {
            let seen = look(rule);
            looks.push((index, seen));
            seen
        });
        let ended = outcome.is_err();
        let classes = Class::ALL.map(|class| self.class_explained(class, func, wanted, &looks, ended));
        Explanation { outcome, classes }
    }

    fn class_explained(
        &self,
        class: Class,
        func: Func,
        wanted: Actions,
        looks: &[Look],
        ended: bool,
    ) -> ClassExplanation {
        let explained = |verdict, missed| ClassExplanation { class, verdict, missed };
        if !wanted.contains(class.bit()) {
            return explained(Verdict::NotAsked, Vec::new());
        }
        if !self.active().contains(class.bit()) {
            return explained(Verdict::NoneActs, Vec::new());
        }
        let mut missed = Vec::new();
        let last = looks.last().map(|(index, _)| *index);
        for (index, rule) in self.rules().iter().enumerate().filter(|(_, rule)| rule.action.class() == class)
        {
            if ended && Some(index) > last {
                break;
            }
            let look = looks.iter().find(|(looked_at, _)| *looked_at == index).map(|(_, look)| look);
            match look {
                Some(Ok(None)) => return explained(Verdict::Decided(index), missed),
                Some(Err(_)) => return explained(Verdict::Unknown(index), missed),
                Some(Ok(Some(condition))) => missed.push(Missed { rule: index, condition: *condition }),
                None if !can_match(rule, func) => {
                    missed.push(Missed { rule: index, condition: Mismatch::Func })
                }
                None => {}
            }
        }
        explained(if ended { Verdict::NotReached } else { Verdict::NoneMatches }, missed)
    }
}

impl Rule {
    /// The words of the rule that state this condition, `fowner=0`; none where the rule does not have it.
    #[must_use]
    pub fn condition(&self, condition: Mismatch) -> Option<String> {
        let keys: &[&str] = match condition {
            Mismatch::Func => &["func"],
            Mismatch::Mask => &["mask"],
            Mismatch::FsMagic => &["fsmagic"],
            Mismatch::FsName => &["fsname"],
            Mismatch::FsSubtype => &["fs_subtype"],
            Mismatch::FsUuid => &["fsuuid"],
            Mismatch::Fowner => &["fowner"],
            Mismatch::Fgroup => &["fgroup"],
            Mismatch::Path => &["path"],
            Mismatch::User => &["uid", "euid"],
            Mismatch::Group => &["gid", "egid"],
            Mismatch::Digest => &["digest"],
            Mismatch::Keyrings => &["keyrings"],
            Mismatch::Label => &["label"],
        };
        let source = self.to_source();
        let states = |word: &&str| word.split(['=', '<', '>']).next().is_some_and(|key| keys.contains(&key));
        source.split(' ').find(states).map(str::to_owned)
    }
}
