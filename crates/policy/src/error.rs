//! Why a line or a policy is refused: where, which token, what is wrong, and the kernel's errno.

use crate::vocabulary::{Action, Func};

/// The errno `write(2)` of the line gives; the parser knows the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleErrno {
    /// The line makes no valid rule.
    Einval,
    /// A number does not fit 64 bits.
    Erange,
    /// There are more rules than were allowed.
    Enospc,
}

impl RuleErrno {
    /// The number, as on Linux.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Einval => 22,
            Self::Erange => 34,
            Self::Enospc => 28,
        }
    }

    /// The symbol (`EINVAL`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Einval => "EINVAL",
            Self::Erange => "ERANGE",
            Self::Enospc => "ENOSPC",
        }
    }
}

/// A line that makes no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {}{reason}", quoted(token))]
pub struct RuleError {
    /// Where the token begins: bytes from the start of the line, counted from 1.
    pub column: usize,
    /// The offending token, with anything that is not UTF-8 replaced; empty when the line as a
    /// whole is at fault.
    pub token: String,
    /// What is wrong with it.
    pub reason: Reason,
    /// What the kernel answers to such a line.
    pub errno: RuleErrno,
}

/// Of a longer token only so much is quoted: a program given as a policy has lines of kilobytes.
const QUOTED_MAX: usize = 256;

fn quoted(token: &str) -> String {
    match token.char_indices().nth(QUOTED_MAX) {
        _ if token.is_empty() => String::new(),
        Some((end, _)) => format!("{:?}... ", token.get(..end).unwrap_or_default()),
        None => format!("{token:?} "),
    }
}

/// A text that makes no policy: its first line that makes no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}")]
pub struct PolicyError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub source: RuleError,
}

/// What is wrong with a token. The text continues a sentence that begins with the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Neither a keyword nor a known key with an operator it takes.
    #[error("is not a word of the policy language")]
    UnknownWord,
    /// A key without a value.
    #[error("has no value")]
    MissingValue,
    /// A line from a file with CRLF line ends.
    #[error("ends in a carriage return: end lines with a newline alone")]
    CarriageReturn,
    /// A NUL byte, which would hide the rest of the line from a kernel.
    #[error("contains a NUL byte")]
    NulByte,
    /// A token that is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A value the key does not take.
    #[error("is not a known value: expected {expected}")]
    UnknownValue {
        /// What the key takes.
        expected: &'static str,
    },
    /// A condition or option that may stand once only, or shares its place with an earlier one.
    #[error("repeats or contradicts an earlier part of the rule")]
    Repeated,
    /// A second action.
    #[error("is a second action: a rule has one")]
    SecondAction,
    /// No action at all.
    #[error("the line has no action")]
    NoAction,
    /// Not a number in the form asked for.
    #[error("is not a {form} number")]
    NotANumber {
        /// decimal or hexadecimal
        form: &'static str,
    },
    /// A number beyond 64 bits.
    #[error("does not fit 64 bits")]
    Overflow,
    /// A number the key does not take.
    #[error("is out of range: expected {expected}")]
    OutOfRange {
        /// What the key takes.
        expected: &'static str,
    },
    /// Not a UUID.
    #[error("is not a UUID of 8-4-4-4-12 hexadecimal digits")]
    BadUuid,
    /// A list with nothing between two separators, or at an end.
    #[error("has an empty item")]
    EmptyItem,
    /// An algorithm nobody knows.
    #[error("names an unknown hash algorithm: {name}")]
    UnknownAlgo {
        /// The name as given.
        name: String,
    },
    /// An algorithm that is known, but that imafs cannot compute.
    #[error("names a hash algorithm that imafs cannot compute: {name}")]
    UnavailableAlgo {
        /// The name as given.
        name: String,
    },
    /// `template=` with neither the name nor the format of a template.
    #[error("names no known template")]
    UnknownTemplate,
    /// `template=` where `measure` has not been seen yet.
    #[error("must stand behind the action \"measure\"")]
    TemplateBeforeMeasure,
    /// An item that only some action takes.
    #[error("belongs to \"{action}\" rules only")]
    WrongAction {
        /// The action that takes it.
        action: Action,
    },
    /// An action that a func does not take.
    #[error("cannot be combined with {func}")]
    ActionNotForFunc {
        /// The func.
        func: Func,
    },
    /// An item that a func does not take; none stands for a rule without func.
    #[error("cannot be combined with {}", func_or_none(*func))]
    NotForFunc {
        /// The rule's func.
        func: Option<Func>,
    },
    /// `appraise_type=imasig` behind `digest_type=verity`.
    #[error("contradicts digest_type=verity, which takes appraise_type=sigv3")]
    NotWithVerity,
    /// `appraise_type=sigv3` without `digest_type=verity` before it.
    #[error("needs digest_type=verity before it")]
    VerityMissing,
    /// `digest_type=` behind `appraise_type=`.
    #[error("must stand before appraise_type=")]
    DigestTypeTooLate,
    /// `appraise` with `digest_type=verity` and no `appraise_type=sigv3`.
    #[error("needs appraise_type=sigv3 behind it")]
    Sigv3Missing,
    /// `SETXATTR_CHECK` without the option it is there for.
    #[error("needs appraise_algos=")]
    AlgosMissing,
    /// `appraise_type=deny` beside something that would let content through.
    #[error("contradicts appraise_type=deny")]
    NotWithDeny,
    /// `obj_*`, `subj_*`.
    #[error(
        "selects by the label of a Linux security module, which imafs cannot see: \
         select by owner, user, file system or path instead"
    )]
    SecurityModule,
    /// An extension where only the kernel's language is wanted.
    #[error("is an extension of imafs that no kernel takes")]
    Extension,
    /// Not a glob, or one that cannot match an absolute path.
    #[error("is not a usable glob: {problem}")]
    BadGlob {
        /// What is wrong with it.
        problem: String,
    },
    /// An item of `digest=` that is not `ALGO:HEX`.
    #[error("has an item that is not a digest: {item}")]
    BadDigest {
        /// The item.
        item: String,
    },
    /// A policy whose `digest=` conditions would need several digests of the same file.
    #[error("uses another algorithm than an earlier digest= of the policy")]
    MixedDigestAlgos,
    /// `pcr=` with a register that the list cannot extend.
    #[error("names a PCR that the measurement list cannot extend here")]
    NoSuchRegister,
    /// A rule beyond the number that was allowed.
    #[error("the policy has more than {limit} rules")]
    TooManyRules {
        /// How many are allowed.
        limit: usize,
    },
}

fn func_or_none(func: Option<Func>) -> &'static str {
    func.map_or("a rule without func=", Func::name)
}

impl Reason {
    pub(crate) const fn errno(&self) -> RuleErrno {
        if matches!(self, Self::Overflow) {
            RuleErrno::Erange
        } else if matches!(self, Self::TooManyRules { .. }) {
            RuleErrno::Enospc
        } else {
            RuleErrno::Einval
        }
    }
}
