//! The policy language line by line: what the kernel's policy file took of each line, imafs's own policy file and
//! `imafs policy check --kernel` must take too.
//!
//! Scenarios made of `rule` operations alone offer one line after the other and load none, so they can be held
//! against the checker as well.

use crate::golden::outcome::Operation;
use crate::golden::stage::Stage;
use crate::process::{ours, output};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// What [`checked`] says of a line that may be loaded.
const TAKEN: &str = "taken";
/// And of one that may not.
const REFUSED: &str = "refused";

/// The recorded answers as the checker would give them; nothing for scenarios of another kind.
///
/// # Errors
/// Fails when a line is not quoted as the player wants it.
pub fn recorded(operations: &[Operation]) -> Result<Vec<Operation>> {
    if !operations.iter().all(|operation| rule(&operation.text).is_some()) {
        return Ok(Vec::new());
    }
    let answer = |operation: &Operation| {
        let result = if operation.result.starts_with("ok ") { TAKEN } else { REFUSED };
        Operation { text: operation.text.clone(), result: result.to_owned(), records: Vec::new() }
    };
    Ok(operations.iter().map(answer).collect())
}

/// Whether an operation offers one line to the policy file.
pub fn is_rule(operation: &[u8]) -> bool {
    rule(operation).is_some()
}

/// After each line it offers, the player writes one that is refused, so that nothing is loaded. The recording has no
/// record of that.
pub fn leave_out_the_spoiling(records: &mut Vec<Vec<u8>>) {
    let spoils =
        |record: &[u8]| record == b"type=1807 UNKNOWN=spoil res=0" || record.starts_with(b"type=1802 ");
    records.retain(|record| !spoils(record));
}

/// Asks `imafs policy check --kernel` about each line of such a scenario.
///
/// # Errors
/// Fails when the checker cannot say.
pub fn checked(operations: &[Operation], stage: &Stage) -> Result<Vec<Operation>> {
    let mut answers = recorded(operations)?;
    for answer in &mut answers {
        let line = unquoted(rule(&answer.text).unwrap_or_default()).context("a quoted line")?;
        let file = stage.file("line", &[line.as_slice(), b"\n"].concat())?;
        let mut check = Command::new(ours("imafs")?);
        let out = output(check.args(["policy", "check", "--kernel"]).arg(&file))?;
        answer.result = match out.status.code() {
            Some(0) => TAKEN.to_owned(),
            Some(1) => REFUSED.to_owned(),
            _ => bail!("{}: {}", answer.text.escape_ascii(), String::from_utf8_lossy(&out.stderr)),
        };
    }
    Ok(answers)
}

/// What is between the quotes of `ACTOR rule "LINE"`.
fn rule(operation: &[u8]) -> Option<&[u8]> {
    let space = operation.iter().position(|byte| *byte == b' ')?;
    operation.get(space..)?.strip_prefix(b" rule \"")?.strip_suffix(b"\"")
}

/// Undoes the player's quoting: `\xHH` is a byte, `\` before anything else stands for what follows.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', digits @ ..]) => {
                let (digits, after) = digits.split_at_checked(2)?;
                plain.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            (b'\\', [next, after @ ..]) => {
                plain.push(*next);
                rest = after;
            }
            (other, _) => plain.push(*other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_out_of_its_quotes() {
        assert_eq!(rule(b"0 rule \"a b\"").unwrap(), b"a b");
        assert_eq!(rule(b"0 cat a"), None);
        assert_eq!(unquoted(b"\\x09a\\x41 \\\"\\\\").unwrap(), b"\taA \"\\");
        assert_eq!(unquoted(b"\\x4"), None);
    }

    #[test]
    fn only_scenarios_of_rules_alone_are_asked_about() {
        let operation = |text: &[u8]| Operation::parse(&[b"1\t", text, b"\tok 5\t+0\t+0"].concat()).unwrap();
        let (rule, cat) = (operation(b"0 rule \"audit\""), operation(b"0 cat a"));
        assert_eq!(recorded(std::slice::from_ref(&rule)).unwrap()[0].result, TAKEN);
        assert!(recorded(&[rule, cat]).unwrap().is_empty());
    }
}
