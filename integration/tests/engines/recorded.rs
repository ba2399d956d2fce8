//! How engines call their runtime: every shape of a call must be among those that a unit test of the runtime replays.

use anyhow::{Context, Result, ensure};
use integration::engine::Host;
use integration::process::repository;
use std::collections::BTreeSet;

/// Holds the calls that `engine` has made against the recorded ones.
pub fn calls_are_replayed(host: &Host, engine: &str) -> Result<()> {
    let path = repository().join(format!("crates/runtime/tests/engine-calls/{engine}.txt"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let known: BTreeSet<&str> = text.lines().collect();
    let calls = host.calls()?;
    let ids: BTreeSet<&String> = calls
        .iter()
        .filter(|call| call.iter().any(|w| w == "create"))
        .filter_map(|call| call.last())
        .collect();
    let made: BTreeSet<String> = calls.iter().map(|call| shape(call, &ids)).collect();
    let new: Vec<&String> = made.iter().filter(|shape| !known.contains(shape.as_str())).collect();
    ensure!(made.len() > 5, "hardly a call was made: {made:?}");
    ensure!(new.is_empty(), "{engine} makes calls that {} does not have: {new:#?}", path.display());
    Ok(())
}

/// A call with what is different each time replaced by its kind.
fn shape(call: &[String], ids: &BTreeSet<&String>) -> String {
    let kind = |option: &str| match option {
        "--root" => "ROOT",
        "--bundle" => "BUNDLE",
        _ => "FILE",
    };
    let mut before = "";
    let mut words = Vec::new();
    for word in call {
        words.push(match word.split_once("=/") {
            _ if ids.contains(word) => "ID".to_owned(),
            Some((option, _)) if word.starts_with("--") => format!("{option}={}", kind(option)),
            _ if word.starts_with('/') && before.starts_with("--") => kind(before).to_owned(),
            _ => word.clone(),
        });
        before = word;
    }
    words.join(" ")
}
