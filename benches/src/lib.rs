//! What each measurement does with its figures: the median of interleaved rounds, as a table and as JSON.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// What was measured.
#[derive(Debug)]
pub struct Results {
    /// The name of the files in `benches/results`.
    pub name: &'static str,
    /// What is asked.
    pub question: &'static str,
    /// What the figures count.
    pub unit: &'static str,
    /// How often each case was run, in turn with all the others.
    pub rounds: usize,
    /// The cases, in the order of the table.
    pub cells: Vec<Cell>,
}

/// One case.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// What it is.
    pub name: String,
    /// Its figure in each round.
    pub runs: Vec<f64>,
    /// The case it is compared with.
    pub baseline: Option<String>,
    /// What else is known of it: a column each, which cells may lack.
    pub facts: Vec<(&'static str, f64)>,
}

impl Cell {
    /// A case that has not run yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The middle one of its figures.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.runs)
    }

    fn extremes(&self) -> (f64, f64) {
        let low = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        (low, self.runs.iter().copied().fold(0.0, f64::max))
    }
}

/// The middle one; zero of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Results {
    fn ratio(&self, cell: &Cell) -> Option<f64> {
        let baseline = self.cells.iter().find(|other| Some(&other.name) == cell.baseline.as_ref())?;
        (baseline.median() > 0.0).then(|| cell.median() / baseline.median())
    }

    /// The table, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut facts: Vec<&str> = Vec::new();
        for (name, _) in self.cells.iter().flat_map(|cell| &cell.facts) {
            if !facts.contains(name) {
                facts.push(name);
            }
        }
        let width = self.cells.iter().map(|cell| cell.name.len()).max().unwrap_or_default();
        let mut text = format!("{}\n\n{}, median of {} rounds\n\n", self.question, self.unit, self.rounds);
        text += &format!("| {:<width$} | median | lowest | highest | ratio | {} |\n", "", facts.join(" | "));
        text += &format!("|{}|--:|--:|--:|--:|{}\n", "-".repeat(width + 2), "--:|".repeat(facts.len()));
        for cell in &self.cells {
            let (low, high) = cell.extremes();
            let ratio = self.ratio(cell).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            text +=
                &format!("| {:<width$} | {:.0} | {low:.0} | {high:.0} | {ratio}", cell.name, cell.median());
            for fact in &facts {
                let known = cell.facts.iter().find(|(name, _)| name == fact);
                text += &known.map_or_else(|| " | ".to_owned(), |(_, value)| format!(" | {value:.2}"));
            }
            text += " |\n";
        }
        text
    }

    fn json(&self) -> Value {
        let cell = |cell: &Cell| {
            let facts: Map<_, _> =
                cell.facts.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
            json!({ "name": cell.name, "median": cell.median(), "runs": cell.runs, "baseline": cell.baseline,
                    "ratio": self.ratio(cell), "facts": facts })
        };
        let cells: Vec<_> = self.cells.iter().map(cell).collect();
        json!({ "question": self.question, "unit": self.unit, "rounds": self.rounds, "machine": machine(),
                "cells": cells })
    }

    /// Prints the table, and writes it and the JSON into `benches/results`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self) -> Result<()> {
        let table = self.table();
        println!("{table}");
        let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results"));
        std::fs::create_dir_all(&directory).context("cannot make benches/results")?;
        let json = serde_json::to_string_pretty(&self.json())?;
        for (ending, text) in [("md", format!("{table}\nOn {}.\n", machine_text())), ("json", json + "\n")] {
            let path = directory.join(format!("{}.{ending}", self.name));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// What a figure is worth nothing without.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "cpu": model.map(|(_, model)| model),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load-afterwards": read("/proc/loadavg").trim(),
        "unix-time": seconds,
    })
}

fn machine_text() -> String {
    let machine = machine();
    let text =
        |key: &str| machine.get(key).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    format!(
        "{} CPUs ({}), Linux {}; load afterwards {}",
        text("cpus"),
        text("cpu"),
        text("kernel"),
        text("load-afterwards")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_each_case_with_its_median_and_its_ratio_to_another() {
        let (mut slow, mut fast) = (Cell::new("slow"), Cell::new("fast"));
        (slow.runs, fast.runs) = (vec![30.0, 10.0, 20.0], vec![100.0]);
        slow.baseline = Some("fast".to_owned());
        slow.facts.push(("extends", 1.0));
        let results =
            Results { name: "x", question: "Q?", unit: "opens", rounds: 3, cells: vec![slow, fast] };
        let table = results.table();
        assert!(table.contains("| slow | 20 | 10 | 30 | 0.20 | 1.00 |"), "{table}");
        assert!(table.contains("| fast | 100 | 100 | 100 |  |  |"), "{table}");
        assert_eq!(results.json()["cells"][0]["ratio"], json!(0.2));
    }
}
