//! Making a disagreement small: operations, rules, files and arguments are dropped as long as something stays
//! unexplained.
//!
//! Each attempt runs both sides anew, which takes seconds; so the large cuts come first, and time is bounded.

use crate::oracle::draft::{Draft, Node};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Shrinks a draft for which `disagrees` is true, for about as long.
///
/// # Errors
/// Passes on what `disagrees` fails with.
pub fn shrink(
    draft: Draft,
    limit: Duration,
    mut disagrees: impl FnMut(&Draft) -> Result<bool>,
) -> Result<Draft> {
    let end = Instant::now() + limit;
    let mut small = draft;
    loop {
        let before = small.clone();
        small = drop_chunks(small, end, &mut disagrees, |draft| &mut draft.ops)?;
        small = drop_chunks(small, end, &mut disagrees, |draft| &mut draft.rules)?;
        small = drop_chunks(small, end, &mut disagrees, |draft| &mut draft.cmdline)?;
        small = drop_nodes(small, end, &mut disagrees)?;
        if small == before || Instant::now() >= end {
            return Ok(small);
        }
    }
}

/// Drops halves, then quarters and so on, down to single ones.
fn drop_chunks<T: Clone>(
    draft: Draft,
    end: Instant,
    disagrees: &mut impl FnMut(&Draft) -> Result<bool>,
    part: impl Fn(&mut Draft) -> &mut Vec<T>,
) -> Result<Draft> {
    let mut small = draft;
    let mut chunk = part(&mut small).len().div_ceil(2);
    while chunk > 0 {
        // From the end: what comes last is seldom needed by what comes before.
        let mut at = part(&mut small).len();
        while at > 0 {
            let from = at.saturating_sub(chunk);
            let mut attempt = small.clone();
            part(&mut attempt).drain(from..at);
            at = from;
            if Instant::now() >= end {
                return Ok(small);
            }
            if disagrees(&attempt)? {
                small = attempt;
            }
        }
        chunk /= 2;
    }
    Ok(small)
}

/// Drops the files that no operation names, all at once or one by one.
fn drop_nodes(
    draft: Draft,
    end: Instant,
    disagrees: &mut impl FnMut(&Draft) -> Result<bool>,
) -> Result<Draft> {
    let mut used = draft.clone();
    used.nodes.retain(|node| is_needed(&draft, node));
    if used.nodes.len() == draft.nodes.len() || Instant::now() >= end {
        return Ok(draft);
    }
    Ok(if disagrees(&used)? { used } else { draft })
}

/// Whether an operation or another node names this one, or something in it.
fn is_needed(draft: &Draft, node: &Node) -> bool {
    let names = |text: &str| text.contains(node.path.as_str());
    draft.ops.iter().any(|op| op.words.iter().any(|word| names(word)))
        || draft.nodes.iter().any(|other| other.path != node.path && uses(&other.kind, &node.path))
        || draft.nodes.iter().any(|other| {
            other.path.strip_prefix(node.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
                && draft.ops.iter().any(|op| op.words.iter().any(|word| word.contains(other.path.as_str())))
        })
}

fn uses(kind: &crate::oracle::draft::Kind, path: &str) -> bool {
    use crate::oracle::draft::Kind;
    match kind {
        Kind::Symlink(target) | Kind::Hardlink(target) | Kind::Script(target) => target.contains(path),
        Kind::Directory | Kind::Text { .. } | Kind::Elf(_) | Kind::Fifo => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::generate;

    #[test]
    fn what_matters_is_left_and_nothing_else() {
        let draft = generate::draft(7, 60);
        let (first, last) = (draft.ops[3].clone(), draft.ops[40].clone());
        let rule = draft.rules[0].clone();
        let matters =
            |d: &Draft| Ok(d.ops.contains(&first) && d.ops.contains(&last) && d.rules.contains(&rule));
        let small = shrink(draft.clone(), Duration::from_secs(60), matters).unwrap();
        let wanted = |op: &crate::oracle::draft::Op| *op == first || *op == last;
        assert!(small.ops.len() <= draft.ops.iter().filter(|op| wanted(op)).count());
        assert!(small.ops.iter().all(wanted));
        assert!(small.rules.len() <= 2 && small.nodes.len() < draft.nodes.len());
    }

    #[test]
    fn without_time_nothing_is_dropped() {
        let draft = generate::draft(7, 60);
        assert_eq!(shrink(draft.clone(), Duration::ZERO, |_| Ok(true)).unwrap(), draft);
    }
}
