//! The nearest known name to a mistyped one.

/// Returns the candidate that `word` was most likely meant to be, or `None` when nothing is near.
///
/// Near means: at most a third of the longer word's letters (and at least one) have to be changed, added, dropped or
/// swapped with their neighbour. Case and `_` against `-` do not count.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normal(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &normal(candidate)), candidate))
        .filter(|(far, candidate)| *far <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

fn normal(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The optimal string alignment distance: edits and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j + 1) + 1).min(at(&row, j) + 1).min(at(&last, j) + usize::from(x != y));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_key_that_was_meant() {
        let keys = ["policy", "appraise", "audit-format", "read-only", "pcr"];
        for (typed, meant) in [
            ("polcy", "policy"),
            ("ploicy", "policy"),
            ("Policy", "policy"),
            ("apraise", "appraise"),
            ("audit_format", "audit-format"),
            ("readonly", "read-only"),
            ("pcrs", "pcr"),
        ] {
            assert_eq!(nearest(typed, keys), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_word_that_is_like_none_gets_no_suggestion() {
        assert_eq!(nearest("colour", ["policy", "pcr", "hash"]), None);
        assert_eq!(nearest("x", ["policy"]), None);
    }
}
