//! The list in its order: a strip of columns, and the entries themselves.

use maud::{Markup, html};

use crate::verdict::{EntryFacts, EntryVerdict};

use super::words::{cause_words, class, grouped, place};

/// The most columns: about one for three pixels of a phone.
const MAX_COLUMNS: usize = 120;

/// The most entries that are listed from either end.
const MAX_ROWS: usize = 500;

/// Height and width of the strip, in its own units.
const HEIGHT: usize = 100;
const WIDTH: usize = 10;

/// Some entries in a row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Column {
    first: u64,
    last: u64,
    accepted: usize,
    refused: usize,
    unproven: usize,
}

pub(super) fn section(entries: &[EntryFacts]) -> Markup {
    let columns = columns(entries);
    let left_out = entries.len().saturating_sub(2 * MAX_ROWS);
    let head = entries.iter().take(if left_out == 0 { entries.len() } else { MAX_ROWS });
    let tail = entries.iter().skip(if left_out == 0 { entries.len() } else { entries.len() - MAX_ROWS });
    html! {
        @if !entries.is_empty() {
            section {
                h2 { "The measurements in their order" }
                p class="note" { "A list has no clock times: left is the first entry, right the last." }
                svg id="timeline" class="strip" role="img" preserveAspectRatio="none"
                    viewBox=(format!("0 0 {} {HEIGHT}", columns.len() * WIDTH))
                    aria-label="entries by verdict, in the order of the list" {
                    @for (at, column) in columns.iter().enumerate() { (bar(at, column)) }
                }
                p class="legend" {
                    span class="mark accepted" { "accepted" } " "
                    span class="mark refused" { "refused" } " "
                    span class="mark unproven" { "not proven" }
                }
                details {
                    summary { (grouped(entries.len() as u64)) " entries" }
                    ol class="rows" {
                        @for entry in head { (row(entry)) }
                        @if left_out > 0 { li class="note" { "... " (grouped(left_out as u64)) " more ..." } }
                        @for entry in tail { (row(entry)) }
                    }
                }
            }
        }
    }
}

fn row(entry: &EntryFacts) -> Markup {
    html! {
        li value=(entry.index) {
            span class=(format!("mark {}", class(entry.verdict))) { (class(entry.verdict)) }
            " " span class="path" { (place(entry)) }
            @if entry.verdict != EntryVerdict::Accepted { " " span class="small" { (cause_words(entry.cause)) } }
        }
    }
}

fn columns(entries: &[EntryFacts]) -> Vec<Column> {
    let width = entries.len().div_ceil(MAX_COLUMNS).max(1);
    let column = |chunk: &[EntryFacts]| {
        let count = |verdict| chunk.iter().filter(|entry| entry.verdict == verdict).count();
        Column {
            first: chunk.first().map_or(0, |entry| entry.index),
            last: chunk.last().map_or(0, |entry| entry.index),
            accepted: count(EntryVerdict::Accepted),
            refused: count(EntryVerdict::Refused),
            unproven: count(EntryVerdict::Unproven),
        }
    };
    entries.chunks(width).map(column).collect()
}

/// A column: refused above, so that a single one among thousands is seen, then not proven, then accepted.
fn bar(at: usize, column: &Column) -> Markup {
    let [refused, unproven, accepted] = heights(column);
    let x = at * WIDTH;
    let parts = [
        ("refused", 0, refused),
        ("unproven", refused, unproven),
        ("accepted", refused + unproven, accepted),
    ];
    html! {
        g {
            title {
                "entries " (grouped(column.first)) " to " (grouped(column.last)) ": "
                (column.accepted) " accepted, " (column.refused) " refused, " (column.unproven) " not proven"
            }
            @for (class, y, height) in parts {
                @if height > 0 { rect class=(class) x=(x) y=(y) width=(WIDTH) height=(height) {} }
            }
        }
    }
}

/// Heights of refused, unproven and accepted, which sum up to [`HEIGHT`]. What there is at all has a tenth at least.
fn heights(column: &Column) -> [usize; 3] {
    let all = (column.accepted + column.refused + column.unproven).max(1);
    let least = HEIGHT / 10;
    let share = |count: usize| if count == 0 { 0 } else { (count * HEIGHT / all).max(least) };
    let (mut refused, mut unproven) = (share(column.refused), share(column.unproven));
    let room = if column.accepted == 0 { HEIGHT } else { HEIGHT - least };
    if refused + unproven > room {
        refused = refused.min(room - if unproven == 0 { 0 } else { least });
        unproven = room - refused;
    }
    if column.accepted == 0 {
        if refused > 0 { refused = HEIGHT - unproven } else { unproven = HEIGHT }
    }
    [refused, unproven, HEIGHT - refused - unproven]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refused_entry_among_thousands_is_seen() {
        let column =
            |accepted, refused, unproven| Column { accepted, refused, unproven, ..Column::default() };
        assert_eq!(heights(&column(10_000, 1, 0)), [10, 0, 90]);
        assert_eq!(heights(&column(1, 10_000, 1)), [80, 10, 10]);
        assert_eq!(heights(&column(0, 1, 0)), [100, 0, 0]);
        assert_eq!(heights(&column(0, 0, 7)), [0, 100, 0]);
        assert_eq!(heights(&column(5, 0, 0)), [0, 0, 100]);
        assert_eq!(heights(&column(0, 0, 0)).iter().sum::<usize>(), 100);
        for accepted in 0..20 {
            for refused in 0..20 {
                for unproven in 0..20 {
                    let heights = heights(&column(accepted, refused, unproven));
                    assert_eq!(heights.iter().sum::<usize>(), 100);
                    assert_eq!(heights[0] > 0, refused > 0);
                }
            }
        }
    }
}
