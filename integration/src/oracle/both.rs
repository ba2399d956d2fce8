//! One scenario on both sides.

use crate::golden::{Outcome, Recording, Scenario, Stage, list, play};
use crate::oracle::guest::{Guest, record};
use crate::oracle::steps::Run;
use crate::oracle::stop;
use anyhow::{Context, Result};

/// Both runs of a scenario.
#[derive(Debug)]
pub struct Runs {
    /// The kernel's.
    pub kernel: Run,
    /// imafs's.
    pub imafs: Run,
    /// What imafs logged.
    pub log: String,
}

/// Runs a scenario on the kernel, leaving the recording in its directory, and on imafs.
///
/// # Errors
/// Fails when either does not run.
pub fn run(guest: &Guest, scenario: &Scenario) -> Result<Runs> {
    record::record(guest, scenario).context("on the kernel")?;
    let recording = scenario.recording()?;
    let (imafs, log) = on_imafs(scenario, &recording).context("on imafs")?;
    Ok(Runs { kernel: Run::of_kernel(&recording)?, imafs, log })
}

/// Runs a recorded scenario on imafs.
///
/// # Errors
/// Fails when imafs does, or when its list is not what its registers say.
pub fn on_imafs(scenario: &Scenario, recording: &Recording) -> Result<(Run, String)> {
    stop::check()?;
    let mut stage = Stage::set_up(scenario)?;
    let before = play::before(scenario, &stage)?;
    stage.raise(scenario)?;
    let outcome: Outcome =
        play::on_mount(scenario, &stage, before).with_context(|| format!("imafs said:\n{}", stage.log()))?;
    let log = stage.log();
    stage.strike()?;
    if !recording.registers.is_empty() {
        list::matches_registers(&outcome.list, &outcome.registers).context("imafs's list and registers")?;
    }
    Ok((Run::of_imafs(&outcome)?, log))
}
