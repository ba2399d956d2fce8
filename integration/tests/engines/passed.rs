//! What only the real runtime knows comes back through ours, about a container on imafs; what would lose the check does not.

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Ended, Engine, Host};
use integration::process::output;
use serde_json::Value;
use std::process::Command;

/// `features`, `list`, `state`, `ps`, `events`; and `checkpoint`. podman keeps its containers where runc does unasked.
pub fn to_the_real_runtime(podman: &Cli, host: &Host) -> Result<()> {
    let id = podman.start(Some("exec"), "asked-about", &["signed", "sleep", "600"])?;
    let say = |words: &[&str]| -> Result<Ended> {
        let mut runtime = Command::new(Host::runtime()?);
        runtime.env("IMAFS_RUNTIME_CONFIG", &host.config).args(words);
        Ok(Ended::of(&output(&mut runtime)?))
    };
    let json = |words: &[&str]| -> Result<Value> {
        let words_back = say(words)?.well().with_context(|| words.join(" "))?;
        serde_json::from_str(&words_back).with_context(|| format!("{words:?} is no JSON: {words_back}"))
    };
    let features = json(&["features"])?;
    ensure!(features.get("ociVersionMin").is_some_and(Value::is_string), "{features}");
    let list = json(&["list", "--format", "json"])?;
    let mut all = list.as_array().into_iter().flatten();
    let entry = all.find(|entry| at(entry, "/id") == id.as_str()).with_context(|| format!("{list}"))?;
    let root = at(entry, "/rootfs");
    let root = root.as_str().unwrap_or_default();
    ensure!(root.starts_with("/run/imafs/runtime/"), "its root is {root}");
    ensure!(at(&json(&["state", &id])?, "/status") == "running", "it does not run");
    ensure!(json(&["ps", "--format", "json", &id])?.as_array().is_some_and(|pids| pids.len() == 1));
    let stats = json(&["events", "--stats", &id])?;
    ensure!(at(&stats, "/type") == "stats" && at(&stats, "/id") == id.as_str(), "{stats}");
    ensure!(at(&stats, "/data/pids/current").as_u64().is_some_and(|count| count > 0), "{stats}");

    say(&["checkpoint", "--image-path", "/nonexistent", &id])?.refused("cannot be checkpointed")?;
    ensure!(at(&json(&["state", &id])?, "/status") == "running", "it does not run any more");
    say(&["list", "--frobnicate"])?.refused("frobnicate")?;
    let help = say(&["--help"])?.well()?;
    // Ours first, then runc's.
    ensure!(help.find("org.imafs.profile") < help.find("checkpoint  ") && help.contains("USAGE"), "{help}");
    output(&mut podman.remove_named("asked-about"))?;
    Host::is_clean_of(&[id])
}

/// What stands at a place of a JSON document.
fn at(json: &Value, place: &str) -> Value {
    json.pointer(place).cloned().unwrap_or_default()
}
