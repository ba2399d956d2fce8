//! From one line to one rule (`ima_parse_rule`): tokens in the order given, stopping at the first bad
//! one, then the rule as a whole.
//!
//! On the way the text of the kernel's audit record of the line (type 1807) is put together, because
//! only the parser knows how far it came.

use crate::builder::Builder;
use crate::error::{Reason, RuleError};
use crate::rule::Rule;
use crate::token::{Token, tokens};

/// Which language is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParseOptions {
    /// Refuse the extensions of imafs, so that what parses here means the same in a kernel.
    pub kernel_only: bool,
}

/// A line, read and recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The rule; none for a blank line or a comment.
    pub outcome: Result<Option<Rule>, RuleError>,
    /// What the audit record of the line says between the type and `res=`, without a space at the
    /// end; none for a line that leaves no record. Raw bytes of the line, as in the kernel.
    pub record: Option<Vec<u8>>,
}

/// Reads one line, without its newline. Gives none for a blank line or a comment.
///
/// # Errors
/// [`RuleError`] with the place and the token at fault and the kernel's errno.
pub fn parse_rule(line: &[u8], options: &ParseOptions) -> Result<Option<Rule>, RuleError> {
    parse_rule_recorded(line, options).outcome
}

/// Reads one line, without its newline, and gives the text of its audit record too.
#[must_use]
pub fn parse_rule_recorded(line: &[u8], options: &ParseOptions) -> Recorded {
    let mut tokens = tokens(line).peekable();
    if tokens.peek().is_none() {
        return Recorded { outcome: Ok(None), record: None };
    }
    let mut builder = Builder::new(*options);
    let mut record = Vec::new();
    let read = tokens.try_for_each(|token| {
        let word = readable(token).map_err(|reason| {
            note(&mut record, &[b"UNKNOWN=", token.bytes]);
            error(token, reason)
        })?;
        builder.add(word, token, &mut record).map_err(|reason| error(token, reason))
    });
    if record.last() == Some(&b' ') {
        record.pop();
    }
    let outcome = read.and_then(|()| builder.finish()).map(Some);
    Recorded { outcome, record: Some(record) }
}

/// Appends one entry to a record.
pub(crate) fn note(record: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        record.extend_from_slice(piece);
    }
    record.push(b' ');
}

fn readable(token: Token<'_>) -> Result<&str, Reason> {
    if token.bytes.contains(&0) {
        return Err(Reason::NulByte);
    }
    if token.bytes.ends_with(b"\r") {
        return Err(Reason::CarriageReturn);
    }
    std::str::from_utf8(token.bytes).map_err(|_| Reason::NotUtf8)
}

/// The error for one token.
pub(crate) fn error(token: Token<'_>, reason: Reason) -> RuleError {
    RuleError {
        column: token.column,
        token: String::from_utf8_lossy(token.bytes).into_owned(),
        errno: reason.errno(),
        reason,
    }
}
