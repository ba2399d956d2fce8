//! Where imafs is known to differ from the recorded kernel, and why. Nothing else may differ.
//!
//! A place names lines of a recording and what imafs has instead. For operations that is the whole result with the
//! entries and violations it added; for audit records, list entries and tree lines a piece of each line, in order.

use crate::golden::compare::{Mismatch, Part};

/// One way in which imafs differs.
#[derive(Debug)]
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// Why it differs.
    pub reason: &'static str,
    /// Every place in the recordings where it shows.
    pub places: &'static [Place],
}

/// One place where a difference shows.
#[derive(Debug)]
pub struct Place {
    /// The scenario.
    pub scenario: &'static str,
    /// The part of its recording.
    pub part: Part,
    /// First and last line. The last is one before the first where the kernel has nothing.
    pub lines: (usize, usize),
    /// What imafs has there. For a range of operations: one for all, or one for each.
    pub imafs: &'static [&'static str],
}

const fn ops(scenario: &'static str, first: usize, last: usize, imafs: &'static [&'static str]) -> Place {
    Place { scenario, part: Part::Operations, lines: (first, last), imafs }
}

const fn audit(scenario: &'static str, first: usize, last: usize, imafs: &'static [&'static str]) -> Place {
    Place { scenario, part: Part::Audit, lines: (first, last), imafs }
}

const fn list(scenario: &'static str, first: usize, last: usize, imafs: &'static [&'static str]) -> Place {
    Place { scenario, part: Part::List, lines: (first, last), imafs }
}

const fn tree(scenario: &'static str, first: usize, last: usize, imafs: &'static [&'static str]) -> Place {
    Place { scenario, part: Part::Tree, lines: (first, last), imafs }
}

/// All differences.
pub const ALL: &[Difference] = &[];

impl Place {
    fn covers(&self, mismatch: &Mismatch) -> bool {
        let (first, last) = self.lines;
        self.part == mismatch.part
            && match self.part {
                Part::Before | Part::Operations | Part::Audit | Part::Check => (first..=last).contains(&mismatch.line),
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
            Part::Before | Part::Operations | Part::Audit | Part::Check => (self.lines.1 + 1).saturating_sub(self.lines.0),
            Part::List | Part::Tree => 1,
        }
    }
}

/// Holds the mismatches of one scenario against the list. Gives what the list does not explain, and the places
/// of the list that do not differ (any more); both are empty when all is as it should be.
pub fn unexplained<'a>(
    scenario: &str,
    mismatches: &'a [Mismatch],
) -> (Vec<&'a Mismatch>, Vec<&'static Place>) {
    let places: Vec<&Place> =
        ALL.iter().flat_map(|d| d.places).filter(|place| place.scenario == scenario).collect();
    let explains = |place: &Place, mismatch: &Mismatch| place.covers(mismatch) && place.says(mismatch);
    let unknown = mismatches.iter().filter(|m| !places.iter().any(|place| explains(place, m))).collect();
    let gone = places
        .iter()
        .copied()
        .filter(|place| mismatches.iter().filter(|m| explains(place, m)).count() != place.count())
        .collect();
    (unknown, gone)
}
