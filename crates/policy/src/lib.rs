//! The policy language of Linux IMA: from text to rules, from an access to what is to be done about it.
//!
//! The language is the kernel's, in its newest form (6.19), read back in the kernel's own order and
//! spelling. Beyond it stand three marked extensions of imafs, refused with
//! [`ParseOptions::kernel_only`]: `path=GLOB`, `digest=ALGO:HEX,...` and `appraise_type=deny`.
//!
//! This crate opens no files, reads no clock and asks no process who it is: an access arrives as a
//! [`Query`], and what it needs to know of the subject it asks through [`Subject`]. It does not know
//! that FUSE exists, and it appraises and measures nothing; it only says what should be.
//!
//! Every decision is made from the rules alone. The kernel keeps the flags of each rule that ever
//! matched an inode and lets them colour later accesses by other rules; here nothing outlives a
//! [`Decision`], and the flags of one rule do not weaken another (see [`Decision::flags`]).
//!
//! Source: security/integrity/ima/ima_policy.c and Documentation/ABI/testing/ima_policy.
#![deny(clippy::wildcard_enum_match_arm)]

mod algos;
mod builder;
mod builtin;
mod condition;
mod decide;
mod display;
mod error;
mod explain;
mod glob;
mod load;
mod number;
mod parse;
mod policy;
mod rule;
mod shipped;
mod token;
mod validate;
mod values;
mod vocabulary;
mod warning;

pub use algos::AlgoSet;
pub use builtin::BuiltinError;
pub use condition::Mismatch;
pub use decide::{AppraiseClass, Decision, Object, Query, Subject, SubjectIds, SubjectUnknown, Undecided};
pub use error::{PolicyError, Reason, RuleErrno, RuleError};
pub use explain::{ClassExplanation, Explanation, Missed, Verdict};
pub use load::{Line, LineError, Load, first_line};
pub use parse::{ParseOptions, Recorded, parse_rule, parse_rule_recorded};
pub use policy::{NAMESPACE_RULES, Policy};
pub use rule::{Rule, RuleFlags};
pub use shipped::{DEFAULT_SHIPPED, SHIPPED};
pub use vocabulary::{Action, Actions, Class, Func, Mask};
pub use warning::{Warning, WarningReason};
