//! Loading rules at run time, as the kernel's policy file takes them: a line for each `write(2)`, all or nothing.
//!
//! Source: `ima_write_policy` in security/integrity/ima/ima_fs.c, `ima_parse_add_rule` and `ima_update_policy` in
//! ima_policy.c, Linux 6.1.

use std::fmt::{self, Write};
use std::sync::Arc;

use ima::HashAlgo;

use crate::error::{Reason, RuleErrno, RuleError};
use crate::parse::{ParseOptions, parse_rule_recorded};
use crate::policy::Policy;
use crate::rule::Rule;

/// Bytes of one `write(2)` that are looked at (`PAGE_SIZE - 1`).
const LOOKED_AT: usize = 4095;

/// Bytes that all `path=` values of a loaded policy may have. A glob of some thousand bytes takes up to a megabyte once it
/// is compiled; matching takes up to 64 KiB more for each.
const MOST_PATHS: usize = 64 << 10;

/// Bytes that the text of a loaded policy may have. Open files show it, and it is read through at each load.
const MOST_TEXT: usize = 4 << 20;

/// The line that one `write(2)` offers, without its newline, and how much of `data` it takes.
///
/// No more than 4095 bytes are looked at, and a NUL ends the text. The line's end counts too; of a line without one
/// the kernel says that it took one byte more than there were, which this does not.
#[must_use]
pub fn first_line(data: &[u8]) -> (&[u8], usize) {
    let looked_at = data.get(..LOOKED_AT).unwrap_or(data);
    let line = looked_at.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
    (line, (line.len() + 1).min(data.len()))
}

/// Rules on their way: from the open of the policy file to its close.
#[derive(Debug)]
pub struct Load {
    active: Arc<Policy>,
    rules: Vec<Rule>,
    digest_algo: Option<HashAlgo>,
    options: ParseOptions,
    most: usize,
    /// The registers that rules may name, a bit each.
    registers: u64,
    /// Bytes in `path=` values, of the rules in force and the new ones.
    paths: usize,
    /// Bytes in the text of all of them.
    text: usize,
    valid: bool,
}

/// What became of one line.
#[derive(Debug)]
pub struct Line {
    /// Whether it is part of the load, as far as that is valid.
    pub outcome: Result<(), LineError>,
    /// The text of its audit record; none for a line that leaves none. See [`Recorded`](crate::Recorded).
    pub record: Option<Vec<u8>>,
}

/// Why a line is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It makes no rule.
    #[error("no rule")]
    Rule(#[source] RuleError),
    /// The policy has as many rules as it may have.
    #[error("the policy may have {most} rules and no more")]
    TooMany {
        /// How many it may have.
        most: usize,
    },
    /// The paths of the policy are as long as they may be, taken together.
    #[error("the paths of the policy may have {MOST_PATHS} bytes together and no more")]
    PathsTooLong,
    /// The text of the policy is as long as it may be.
    #[error("the policy may have {MOST_TEXT} bytes and no more")]
    TooLong,
}

impl LineError {
    /// What `write(2)` gives, as a number: the kernel's, and `ENOSPC` for what only a limit refuses.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::Rule(RuleError { errno, .. }) => errno.code(),
            Self::TooMany { .. } | Self::PathsTooLong | Self::TooLong => RuleErrno::Enospc.code(),
        }
    }
}

impl Load {
    /// A load that will add to `active`, to `most` rules in all.
    #[must_use]
    pub fn onto(active: Arc<Policy>, options: ParseOptions, most: usize) -> Self {
        let digest_algo = active.digest_algo();
        let paths = active.rules().iter().map(path_length).sum();
        let text = active.rules().iter().map(text_length).sum();
        let registers = u64::MAX;
        Self { active, rules: Vec::new(), digest_algo, options, most, registers, paths, text, valid: true }
    }

    /// This load, for rules that name none but these registers, a bit each.
    #[must_use]
    pub fn for_registers(self, registers: u64) -> Self {
        Self { registers, ..self }
    }

    /// Takes one line, without its newline. One that is refused spoils the whole load.
    pub fn line(&mut self, line: &[u8]) -> Line {
        let read = parse_rule_recorded(line, &self.options);
        let outcome = match read.outcome {
            Ok(None) => Ok(()),
            Ok(Some(rule)) => self.add(rule),
            Err(error) => Err(LineError::Rule(error)),
        };
        self.valid &= outcome.is_ok();
        Line { outcome, record: read.record }
    }

    fn add(&mut self, rule: Rule) -> Result<(), LineError> {
        if self.active.rules().len() + self.rules.len() >= self.most {
            return Err(LineError::TooMany { most: self.most });
        }
        rule.fits(self.registers).map_err(LineError::Rule)?;
        let paths = self.paths + path_length(&rule);
        if paths > MOST_PATHS {
            return Err(LineError::PathsTooLong);
        }
        let text = self.text + text_length(&rule);
        if text > MOST_TEXT {
            return Err(LineError::TooLong);
        }
        let algo = rule.when.digests.as_ref().map(|digests| digests.algo());
        if algo.is_some() && self.digest_algo.is_some() && algo != self.digest_algo {
            let reason = Reason::MixedDigestAlgos;
            let (column, token, errno) = (1, "digest=".to_owned(), reason.errno());
            return Err(LineError::Rule(RuleError { column, token, reason, errno }));
        }
        self.digest_algo = self.digest_algo.or(algo);
        (self.paths, self.text) = (paths, text);
        self.rules.push(rule);
        Ok(())
    }

    /// Makes the load come to nothing, for a reason that lies in no line.
    pub fn spoil(&mut self) {
        self.valid = false;
        self.rules.clear();
    }

    /// The policy with the new rules behind those it had; none when a line was refused or there was no rule at all.
    #[must_use]
    pub fn finish(self) -> Option<Policy> {
        if !self.valid || self.rules.is_empty() {
            return None;
        }
        let rules = self.active.rules().iter().cloned().chain(self.rules).collect();
        Some(Policy::prepared(rules, Vec::new(), self.active.fails_securely()))
    }
}

fn path_length(rule: &Rule) -> usize {
    rule.when.path.as_ref().map_or(0, |path| path.to_string().len())
}

fn text_length(rule: &Rule) -> usize {
    struct Length(usize);
    impl fmt::Write for Length {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut length = Length(0);
    match writeln!(length, "{rule}") {
        Ok(()) => length.0,
        // Counting does not fail; were it to, nothing more would be taken.
        Err(fmt::Error) => MOST_TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(most: usize) -> Load {
        Load::onto(Arc::default(), ParseOptions::default(), most)
    }

    #[test]
    fn a_write_offers_its_first_line_and_says_how_much_that_is() {
        let long = [b'a'; 5000];
        for (data, line, taken) in [
            (&b"measure\naudit\n"[..], &b"measure"[..], 8),
            (b"measure\n", b"measure", 8),
            (b"measure", b"measure", 7),
            (b"\nmeasure\n", b"", 1),
            (b"measure\0 func=NOSUCH\n", b"measure", 8),
            (b"\0measure\n", b"", 1),
            (b"", b"", 0),
            (&long, &long[..4095], 4096),
            (&long[..4095], &long[..4095], 4095),
        ] {
            assert_eq!(first_line(data), (line, taken), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn rules_are_added_behind_those_in_force() {
        let mut first = load(10);
        assert!(first.line(b"measure func=BPRM_CHECK").outcome.is_ok());
        let active = Arc::new(first.finish().unwrap());
        let mut second = Load::onto(Arc::clone(&active), ParseOptions::default(), 10);
        assert_eq!(second.line(b"  # nothing").record, None);
        assert_eq!(second.line(b"\taudit").record.unwrap(), b"action=audit");
        assert_eq!(second.finish().unwrap().to_string(), "measure func=BPRM_CHECK \naudit \n");
        assert_eq!(active.to_string(), "measure func=BPRM_CHECK \n");
    }

    #[test]
    fn one_bad_line_spoils_all_whatever_follows() {
        let mut spoilt = load(10);
        assert!(spoilt.line(b"measure").outcome.is_ok());
        assert_eq!(spoilt.line(b"measure func=NOSUCH").outcome.unwrap_err().errno(), 22);
        assert!(spoilt.line(b"measure").outcome.is_ok());
        assert!(spoilt.finish().is_none());
        let mut spoilt = load(10);
        let overflow = spoilt.line(b"measure uid=99999999999999999999").outcome.unwrap_err();
        assert_eq!(overflow.errno(), 34);
        assert!(spoilt.finish().is_none());
    }

    #[test]
    fn a_load_without_a_rule_comes_to_nothing() {
        assert!(load(10).finish().is_none());
        let mut empty = load(10);
        assert!(empty.line(b"# comment").outcome.is_ok() && empty.line(b"").outcome.is_ok());
        assert!(empty.finish().is_none());
        let mut spoilt = load(10);
        assert!(spoilt.line(b"measure").outcome.is_ok());
        spoilt.spoil();
        assert!(spoilt.finish().is_none());
    }

    #[test]
    fn a_register_that_cannot_be_extended_is_refused() {
        let mut some = load(10).for_registers(1 << 10 | 1 << 11);
        for line in ["measure pcr=11", "measure pcr=10 func=BPRM_CHECK", "measure"] {
            assert!(some.line(line.as_bytes()).outcome.is_ok(), "{line}");
        }
        let refused = some.line(b"measure func=FILE_CHECK pcr=30").outcome.unwrap_err();
        assert_eq!(refused.errno(), 22);
        let LineError::Rule(error) = refused else { panic!("{refused:?}") };
        assert_eq!((error.token.as_str(), error.reason), ("pcr=30", Reason::NoSuchRegister));
        assert!(some.finish().is_none());
        let policy =
            Policy::parse(b"# r\nmeasure pcr=10\nmeasure pcr=63\n", &ParseOptions::default()).unwrap();
        assert_eq!(policy.clone().for_registers(u64::MAX).unwrap().rules().len(), 2);
        assert_eq!(policy.for_registers(1 << 10).unwrap_err().line, 3);
    }

    #[test]
    fn the_limit_counts_the_rules_in_force_too() {
        let mut first = load(2);
        assert!(first.line(b"measure").outcome.is_ok());
        let mut second = Load::onto(Arc::new(first.finish().unwrap()), ParseOptions::default(), 2);
        assert!(second.line(b"# free").outcome.is_ok() && second.line(b"audit").outcome.is_ok());
        let refused = second.line(b"hash").outcome.unwrap_err();
        assert_eq!((&refused, refused.errno()), (&LineError::TooMany { most: 2 }, 28));
        assert!(second.finish().is_none());
    }

    #[test]
    fn paths_are_bounded_together() {
        let mut long = load(1000);
        let rule = format!("measure path=/{}", "a".repeat(4000));
        let taken = (0..100).take_while(|_| long.line(rule.as_bytes()).outcome.is_ok()).count();
        assert_eq!(taken, 16);
        assert!(long.line(b"measure").outcome.is_ok(), "other rules are");
        assert_eq!(long.line(rule.as_bytes()).outcome.unwrap_err().errno(), 28);
    }

    #[test]
    fn the_text_is_bounded_with_what_is_in_force() {
        let digests = |number: usize| {
            let one = |n: usize| format!("sha256:{n:064x}");
            format!("measure digest={}", (0..56).map(|n| one(64 * number + n)).collect::<Vec<_>>().join(","))
        };
        let mut first = load(5000);
        assert!((0..600).all(|number| first.line(digests(number).as_bytes()).outcome.is_ok()));
        let active = Arc::new(first.finish().unwrap());
        assert!(active.to_string().len() < MOST_TEXT);
        let mut second = Load::onto(active, ParseOptions::default(), 5000);
        let taken = (600..5000).take_while(|n| second.line(digests(*n).as_bytes()).outcome.is_ok()).count();
        // Each with a space behind it and a newline.
        assert_eq!(600 + taken, MOST_TEXT / (digests(0).len() + 2));
        assert_eq!(second.line(digests(0).as_bytes()).outcome.unwrap_err().errno(), 28);
    }

    #[test]
    fn digests_of_two_algorithms_do_not_come_together_by_two_loads() {
        let digest = |algo: &str, length: usize| format!("measure digest={algo}:{}", "a".repeat(length));
        let mut first = load(10);
        assert!(first.line(digest("sha256", 64).as_bytes()).outcome.is_ok());
        let mut second = Load::onto(Arc::new(first.finish().unwrap()), ParseOptions::default(), 10);
        assert!(second.line(digest("sha256", 64).as_bytes()).outcome.is_ok());
        assert_eq!(second.line(digest("sha512", 128).as_bytes()).outcome.unwrap_err().errno(), 22);
    }
}
