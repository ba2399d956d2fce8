//! Holds what differs against the list of what may.

use crate::golden::compare::{Mismatch, Part};
use crate::golden::differences::{ALL, Place};

impl Place {
    fn covers(&self, mismatch: &Mismatch) -> bool {
        let (first, last) = self.lines;
        self.part == mismatch.part
            && match self.part {
                Part::Before | Part::Operations | Part::Audit | Part::Check => {
                    (first..=last).contains(&mismatch.line)
                }
                Part::List | Part::Tree => (mismatch.line, mismatch.last()) == self.lines,
            }
    }

    /// Whether imafs has at this place what is said of it.
    fn says(&self, mismatch: &Mismatch) -> bool {
        let imafs = &mismatch.imafs;
        match self.part {
            Part::Before | Part::Operations | Part::Check => {
                let each = if self.imafs.len() == 1 { self.imafs.first() } else { self.nth(mismatch.line) };
                imafs.iter().map(String::as_str).eq(each.copied())
            }
            Part::Audit | Part::List | Part::Tree => {
                imafs.len() == self.imafs.len()
                    && imafs.iter().zip(self.imafs).all(|(line, piece)| line.contains(piece))
            }
        }
    }

    fn nth(&self, line: usize) -> Option<&&'static str> {
        self.imafs.get(line.checked_sub(self.lines.0)?)
    }

    /// How many mismatches it stands for.
    fn count(&self) -> usize {
        match self.part {
            Part::Before | Part::Operations | Part::Audit | Part::Check => {
                (self.lines.1 + 1).saturating_sub(self.lines.0)
            }
            Part::List | Part::Tree => 1,
        }
    }
}

/// What the list says and what is so, where the two part.
#[derive(Debug, Default)]
pub struct Disagreement<'a> {
    /// Differences that are not listed.
    pub unknown: Vec<&'a Mismatch>,
    /// Listed places that do not differ (any more), or not as listed.
    pub gone: Vec<&'a Place>,
}

/// Holds the mismatches of one scenario against the list.
pub fn disagreement<'a>(scenario: &str, mismatches: &'a [Mismatch]) -> Disagreement<'a> {
    let places: Vec<&Place> =
        ALL.iter().flat_map(|d| d.places).filter(|place| place.scenario == scenario).collect();
    against(&places, mismatches)
}

fn against<'a>(places: &[&'a Place], mismatches: &'a [Mismatch]) -> Disagreement<'a> {
    let explains = |place: &Place, mismatch: &Mismatch| place.covers(mismatch) && place.says(mismatch);
    let unknown = mismatches.iter().filter(|m| !places.iter().any(|place| explains(place, m)));
    let stands = |place: &Place| mismatches.iter().filter(|m| explains(place, m)).count() == place.count();
    let gone = places.iter().copied().filter(|place| !stands(place));
    Disagreement { unknown: unknown.collect(), gone: gone.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Scenario;

    fn place(part: Part, lines: (usize, usize), imafs: &'static [&'static str]) -> Place {
        Place { scenario: "s", part, lines, imafs }
    }

    fn mismatch(part: Part, line: usize, kernel: &[&str], imafs: &[&str]) -> Mismatch {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Mismatch { part, line, kernel: texts(kernel), imafs: texts(imafs) }
    }

    /// How many mismatches are unknown and how many places are gone.
    fn counts(places: &[Place], mismatches: &[Mismatch]) -> (usize, usize) {
        let places: Vec<&Place> = places.iter().collect();
        let found = against(&places, mismatches);
        (found.unknown.len(), found.gone.len())
    }

    #[test]
    fn a_listed_difference_is_explained_and_only_as_it_is_listed() {
        let places = [place(Part::Operations, (2, 2), &["EACCES +0 +0"])];
        let so = |line, imafs: &str| [mismatch(Part::Operations, line, &["ok +0 +0"], &[imafs])];
        assert_eq!(counts(&places, &so(2, "EACCES +0 +0")), (0, 0));
        assert_eq!(counts(&places, &so(2, "EPERM +0 +0")), (1, 1));
        assert_eq!(counts(&places, &so(3, "EACCES +0 +0")), (1, 1));
        assert_eq!(counts(&places, &[]), (0, 1), "a difference that has gone");
        assert_eq!(counts(&[], &so(2, "EACCES +0 +0")), (1, 0));
    }

    #[test]
    fn a_range_of_operations_differs_in_every_one() {
        let places = [place(Part::Operations, (1, 2), &["a", "b"])];
        let (first, second) =
            (mismatch(Part::Operations, 1, &["x"], &["a"]), mismatch(Part::Operations, 2, &["x"], &["b"]));
        assert_eq!(counts(&places, &[first.clone(), second]), (0, 0));
        assert_eq!(counts(&places, &[first]), (0, 1));
    }

    #[test]
    fn lines_of_a_list_are_explained_piece_by_piece_in_order() {
        let places = [place(Part::List, (4, 5), &["/t/a", "/t/b"])];
        let imafs = |texts: &[&str]| [mismatch(Part::List, 4, &["k", "l"], texts)];
        assert_eq!(counts(&places, &imafs(&["10 /t/a ", "10 /t/b "])), (0, 0));
        assert_eq!(counts(&places, &imafs(&["10 /t/b ", "10 /t/a "])), (1, 1));
        assert_eq!(counts(&places, &imafs(&["10 /t/a "])), (1, 1));
        let inserted = [place(Part::List, (4, 3), &["/t/a"])];
        assert_eq!(counts(&inserted, &[mismatch(Part::List, 4, &[], &["10 /t/a "])]), (0, 0));
    }

    #[test]
    fn every_place_is_in_a_scenario_and_every_difference_has_a_reason_and_a_place() {
        let names = Scenario::names().unwrap();
        for difference in ALL {
            assert!(difference.reason.ends_with('.') && !difference.places.is_empty(), "{}", difference.name);
            for place in difference.places {
                assert!(names.iter().any(|name| name == place.scenario), "{place:?}");
            }
        }
    }
}
