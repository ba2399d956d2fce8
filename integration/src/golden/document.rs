//! The list of differences as people read it: the second half of `docs/differences.md`.

use crate::golden::compare::Part;
use crate::golden::differences::{ALL, Difference, Place};
use crate::process::repository;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Where the generated half begins; what stands above it is written by hand.
const MARK: &str = "<!-- Below: written from integration/src/golden/differences.rs. -->\n";

/// The document.
pub fn path() -> PathBuf {
    repository().join("docs/differences.md")
}

/// The document as it should be: the hand-written half as it is, the other from the list.
///
/// # Errors
/// Fails when the document is missing or has no mark.
pub fn expected() -> Result<String> {
    let text = std::fs::read_to_string(path()).context("cannot read docs/differences.md")?;
    let (by_hand, _) = text.split_once(MARK).context("docs/differences.md has lost its mark")?;
    let sections: Vec<String> = ALL.iter().map(section).collect();
    Ok(format!("{by_hand}{MARK}\n{}", sections.join("\n")))
}

/// One difference: its name, its reason, and where it shows.
fn section(difference: &Difference) -> String {
    let mut text = format!("### {}\n\n{}\n\n", difference.name, difference.reason);
    text.push_str("| Scenario | Where | imafs has |\n|---|---|---|\n");
    for place in difference.places {
        let (scenario, place, imafs) = (place.scenario, place_text(place), imafs_text(place));
        text.push_str(&format!("| {scenario} | {place} | {imafs} |\n"));
    }
    text
}

fn place_text(place: &Place) -> String {
    let (first, last) = place.lines;
    let lines = match place.part {
        _ if last < first => format!("before {first}"),
        _ if last == first => first.to_string(),
        _ => format!("{first} to {last}"),
    };
    let part = match place.part {
        Part::Before => "operations before the policy",
        Part::Operations => "operations",
        Part::Audit => "audit, operations",
        Part::List => "list, entries",
        Part::Tree => "tree, lines",
        Part::Check => "`imafs policy check --kernel`, operations",
    };
    format!("{part} {lines}")
}

fn imafs_text(place: &Place) -> String {
    if place.imafs.is_empty() {
        return "nothing".to_owned();
    }
    let texts: Vec<String> = place.imafs.iter().map(|text| format!("`{}`", text.trim())).collect();
    texts.join(", ")
}
