//! A list of rules, prepared for deciding.

use std::fmt;

use ima::HashAlgo;

use crate::algos::AlgoSet;
use crate::error::{PolicyError, Reason, RuleError};
use crate::parse::{ParseOptions, parse_rule};
use crate::rule::Rule;
use crate::vocabulary::{Actions, Func};

/// How many rules an IMA namespace could have, in the patches that proposed them ("ima: Limit the number of policy
/// rules in non-init_ima_ns", 2022).
pub const NAMESPACE_RULES: usize = 1024;

/// Rules in the order they are tried. `Display` is the kernel's read-back, one rule a line.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    /// The line each rule came from, where it came from a text.
    lines: Vec<Option<usize>>,
    fail_securely: bool,
    /// Classes with at least one rule that acts; the others are not even looked for.
    active: Actions,
    /// Per func, the rules that can match it and whose class is active, in order.
    by_func: [Vec<usize>; Func::ALL.len()],
}

impl Policy {
    /// Reads a policy, one rule a line; the last line need not end in a newline.
    ///
    /// # Errors
    /// [`PolicyError`] for the first line that makes no rule; there is no half policy.
    pub fn parse(text: &[u8], options: &ParseOptions) -> Result<Self, PolicyError> {
        let mut rules = Vec::new();
        let mut lines = Vec::new();
        let mut digest_algo = None;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let at = |source| PolicyError { line: index + 1, source };
            let Some(rule) = parse_rule(line, options).map_err(at)? else { continue };
            let algo = rule.when.digests.as_ref().map(|digests| digests.algo());
            if algo.is_some() && digest_algo.is_some() && algo != digest_algo {
                return Err(at(RuleError {
                    column: 1,
                    token: "digest=".to_owned(),
                    errno: Reason::MixedDigestAlgos.errno(),
                    reason: Reason::MixedDigestAlgos,
                }));
            }
            digest_algo = digest_algo.or(algo);
            rules.push(rule);
            lines.push(Some(index + 1));
        }
        Ok(Self::prepared(rules, lines, false))
    }

    /// The rules, in the order they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The line that the rule with this index came from, counted from 1.
    #[must_use]
    pub fn line(&self, rule: usize) -> Option<usize> {
        self.lines.get(rule).copied().flatten()
    }

    /// This policy, if it has no more than `limit` rules.
    ///
    /// A kernel has no such limit. The patches that would have given each namespace its policy had one of
    /// [`NAMESPACE_RULES`], so that nobody fills the kernel's memory with rules.
    ///
    /// # Errors
    /// [`Reason::TooManyRules`] at the first rule beyond the limit; rules of no text count as lines.
    pub fn at_most(self, limit: usize) -> Result<Self, PolicyError> {
        if self.rules.len() <= limit {
            return Ok(self);
        }
        let reason = Reason::TooManyRules { limit };
        let source = RuleError { column: 1, token: String::new(), errno: reason.errno(), reason };
        Err(PolicyError { line: self.line(limit).unwrap_or(limit + 1), source })
    }

    /// This policy, if its rules name no register but these, a bit each: the kernel takes any, and then fails to extend it.
    ///
    /// # Errors
    /// [`Reason::NoSuchRegister`] at the first rule that names another; rules of no text count as lines.
    pub fn for_registers(self, registers: u64) -> Result<Self, PolicyError> {
        let refused = self.rules.iter().map(|rule| rule.fits(registers).err());
        match refused.enumerate().find_map(|(rule, refused)| Some((rule, refused?))) {
            None => Ok(self),
            Some((rule, source)) => Err(PolicyError { line: self.line(rule).unwrap_or(rule + 1), source }),
        }
    }

    /// This policy with `fail_securely` switched on: content on file systems whose signatures cannot
    /// be trusted then fails appraisal. It can be switched on only, as in the kernel.
    #[must_use]
    pub fn with_fail_securely(mut self) -> Self {
        self.fail_securely = true;
        self
    }

    /// Whether `fail_securely` is on.
    #[must_use]
    pub const fn fails_securely(&self) -> bool {
        self.fail_securely
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether anything is ever measured.
    #[must_use]
    pub const fn has_measure(&self) -> bool {
        self.active.contains(Actions::MEASURE)
    }

    /// Whether anything is ever appraised. `SETXATTR_CHECK` rules do not count.
    #[must_use]
    pub const fn has_appraise(&self) -> bool {
        self.active.contains(Actions::APPRAISE)
    }

    /// The classes of which at least one rule acts; the others are never decided.
    #[must_use]
    pub const fn active(&self) -> Actions {
        self.active
    }

    /// Whether some decision may need the ids of the subject.
    #[must_use]
    pub fn needs_subject(&self) -> bool {
        self.rules.iter().any(Rule::needs_subject)
    }

    /// Whether some rule looks at the object's path.
    #[must_use]
    pub fn needs_path(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.path.is_some())
    }

    /// The algorithm that all `digest=` rules use; none when there are none. Queries then need the
    /// content's digest of this algorithm.
    #[must_use]
    pub fn digest_algo(&self) -> Option<HashAlgo> {
        self.rules.iter().find_map(|rule| rule.when.digests.as_ref()).map(|digests| digests.algo())
    }

    /// Whether some rule can ask for something to be done on this occasion. When not, no query with
    /// this func needs to be made.
    #[must_use]
    pub fn uses_func(&self, func: Func) -> bool {
        if func == Func::SetxattrCheck {
            return self.setxattr_rule().is_some();
        }
        self.candidates(func).any(|(_, rule)| rule.action.acts())
    }

    /// The algorithms a written label may use; the first `SETXATTR_CHECK` rule counts.
    #[must_use]
    pub fn setxattr_algos(&self) -> Option<&AlgoSet> {
        self.rules.get(self.setxattr_rule()?).and_then(|rule| rule.how.algos.as_ref())
    }

    /// The `SETXATTR_CHECK` rule that counts, as an index into [`Policy::rules`].
    #[must_use]
    pub fn setxattr_rule(&self) -> Option<usize> {
        self.rules.iter().position(is_setxattr)
    }

    /// The rules that can match this func, with their indices, in order.
    pub(crate) fn candidates(&self, func: Func) -> impl Iterator<Item = (usize, &Rule)> {
        let indices = self.by_func.get(func as usize).map_or(&[][..], Vec::as_slice);
        indices.iter().filter_map(|index| Some((*index, self.rules.get(*index)?)))
    }

    /// This policy without line numbers, for a text nobody has before them.
    pub(crate) fn without_lines(mut self) -> Self {
        self.lines.clear();
        self
    }

    pub(crate) fn prepared(rules: Vec<Rule>, lines: Vec<Option<usize>>, fail_securely: bool) -> Self {
        let active = rules
            .iter()
            .filter(|rule| rule.action.acts() && !is_setxattr(rule))
            .fold(Actions::empty(), |active, rule| active | rule.action.class().bit());
        let by_func = Func::ALL.map(|func| {
            let candidate = |rule: &Rule| active.contains(rule.action.class().bit()) && can_match(rule, func);
            rules.iter().enumerate().filter(|(_, rule)| candidate(rule)).map(|(index, _)| index).collect()
        });
        Self { rules, lines, fail_securely, active, by_func }
    }
}

fn is_setxattr(rule: &Rule) -> bool {
    rule.when.func == Some(Func::SetxattrCheck)
}

/// A rule without func matches every file, but no key and no data; `POST_SETATTR` ignores the func.
pub(crate) fn can_match(rule: &Rule, func: Func) -> bool {
    match rule.when.func {
        _ if func == Func::PostSetattr => true,
        Some(named) => named == func,
        None => !func.is_data(),
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}
