//! Cuts a line into tokens and a token into key, operator and value. Knows no meaning.
//!
//! Tokens are separated by spaces and tabs. A token that begins with `#` ends the rule (Linux 6.19),
//! and a line whose first token does so is a comment. There is no quoting.

/// One word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'l> {
    /// Its bytes, never empty.
    pub(crate) bytes: &'l [u8],
    /// Where it begins: bytes from the start of the line, counted from 1.
    pub(crate) column: usize,
}

/// The tokens of one line (without its newline), up to a comment.
pub(crate) fn tokens(line: &[u8]) -> impl Iterator<Item = Token<'_>> {
    let mut column = 1;
    line.split(|byte| matches!(byte, b' ' | b'\t'))
        .map(move |bytes| {
            let token = Token { bytes, column };
            column += bytes.len() + 1;
            token
        })
        .filter(|token| !token.bytes.is_empty())
        .take_while(|token| token.bytes.first() != Some(&b'#'))
}

/// What stands between a key and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `=`
    Equal,
    /// `>`
    Above,
    /// `<`
    Below,
}

impl Operator {
    pub(crate) const fn symbol(self) -> char {
        match self {
            Self::Equal => '=',
            Self::Above => '>',
            Self::Below => '<',
        }
    }
}

/// Cuts at the first operator; `None` when there is none. The value may be empty.
pub(crate) fn key_and_value(word: &str) -> Option<(&str, Operator, &str)> {
    let at = word.find(['=', '>', '<'])?;
    let (key, rest) = word.split_at_checked(at)?;
    let mut rest = rest.chars();
    let operator = match rest.next()? {
        '=' => Operator::Equal,
        '>' => Operator::Above,
        _ => Operator::Below,
    };
    Some((key, operator, rest.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_know_where_they_begin() {
        let found: Vec<_> =
            tokens(b" \tmeasure  func=FILE_CHECK\tuid=0 ").map(|t| (t.column, t.bytes)).collect();
        assert_eq!(found, [(3, &b"measure"[..]), (12, b"func=FILE_CHECK"), (28, b"uid=0")]);
    }

    #[test]
    fn a_token_beginning_with_a_hash_ends_the_line() {
        assert_eq!(tokens(b"measure #uid=0 uid=1").count(), 1);
        assert_eq!(tokens(b"measure fsname=a#b uid=1").count(), 3);
        assert_eq!(tokens(b"   # comment").count(), 0);
        assert_eq!(tokens(b"").count(), 0);
    }

    #[test]
    fn the_first_operator_divides_key_from_value() {
        assert_eq!(key_and_value("uid>=5"), Some(("uid", Operator::Above, "=5")));
        assert_eq!(key_and_value("uid!=5"), Some(("uid!", Operator::Equal, "5")));
        assert_eq!(key_and_value("=5"), Some(("", Operator::Equal, "5")));
        assert_eq!(key_and_value("mask="), Some(("mask", Operator::Equal, "")));
        assert_eq!(key_and_value("measure"), None);
    }
}
