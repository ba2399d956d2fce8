//! What is done for each command, in which order.
//!
//! `create`: write down what will be done, mount, point the bundle at the mount, let the real runtime create; if that
//! fails, all of it backwards. `delete`: let the real runtime delete; if it knows the container no more, all of it
//! backwards. Killed at any step we leave a slot behind, and the next `create`, of whatever container, takes it away.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::annotations::Annotations;
use crate::bundle::{self, Bundle};
use crate::command_line::{Command, Invocation};
use crate::config::{self, Config};
use crate::mount::{self, Request};
use crate::slot::{Slot, Slots, State, is_id};
use crate::{Error, Plan, plan, real, report};

/// Does what the engine asked for.
pub(crate) fn run(invocation: &Invocation) -> Result<ExitCode, Error> {
    let id = invocation.id.as_deref().filter(|id| is_id(id));
    match (invocation.command, id) {
        (Command::Create | Command::Run, Some(id)) => create(invocation, id),
        (Command::Delete, Some(id)) => delete(invocation, id),
        (Command::Checkpoint, Some(id))
            if Slots::from_environment().existing(&invocation.root, id)?.is_some() =>
        {
            Err(Error::Checkpoint)
        }
        (Command::Sweep, _) => {
            sweep(invocation, &Slots::from_environment());
            Ok(ExitCode::SUCCESS)
        }
        (Command::Create | Command::Run | Command::Delete | Command::Checkpoint | Command::Other, _) => {
            Err(real::become_it(&real_runtime(invocation), &invocation.forwarded))
        }
    }
}

fn config(invocation: &Invocation) -> Result<Config, Error> {
    let named =
        invocation.config.clone().or_else(|| std::env::var_os("IMAFS_RUNTIME_CONFIG").map(PathBuf::from));
    Config::load(named.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH)))
}

/// The real runtime for commands that must work, a broken configuration notwithstanding: a container has to be
/// killed and deleted even then.
fn real_runtime(invocation: &Invocation) -> PathBuf {
    match config(invocation) {
        Ok(config) => config.real_runtime(),
        Err(error) => {
            report::warning(invocation, &error);
            Config::default().real_runtime()
        }
    }
}

fn create(invocation: &Invocation, id: &str) -> Result<ExitCode, Error> {
    let config = config(invocation)?;
    let runtime = config.real_runtime();
    let slots = Slots::from_environment();
    sweep(invocation, &slots);
    let slot = slots.take(&invocation.root, id)?;
    match slot.state() {
        // The real runtime says best that the name is in use.
        Some(state) if state.is_alive() => return Err(real::become_it(&runtime, &invocation.forwarded)),
        Some(state) => undo(&slot, &state)?,
        None => {}
    }
    let bundle = Bundle::read(&invocation.bundle)?;
    let annotations = Annotations::read(bundle.annotations.as_ref())?;
    let appraise_of = |profile: &config::Profile| {
        Ok(mount::profile_value(profile, "appraise")?.unwrap_or_else(|| "enforce".to_owned()))
    };
    let decided = plan(&config, invocation.profile.as_deref(), &annotations, id, appraise_of);
    let (name, profile, ns_id, options) = match decided {
        Ok(Plan::Checked { name, profile, ns_id, options }) => (name, profile, ns_id, options),
        Ok(Plan::Unchecked) => {
            slot.remove()?;
            return Err(real::become_it(&runtime, &invocation.forwarded));
        }
        Err(error) => {
            slot.remove()?;
            return Err(error);
        }
    };
    let mut state = State {
        root: std::path::absolute(&invocation.root).unwrap_or_else(|_| invocation.root.clone()),
        id: id.to_owned(),
        bundle: bundle.directory.clone(),
        root_path: bundle.root_path.clone(),
        ns_id,
        profile: name,
        imafs: mount::program(&config),
        globals: invocation.globals.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        runtime: runtime.clone(),
        created: false,
    };
    slot.prepare(&state)?;
    let request = Request {
        imafs: &state.imafs,
        profile: &profile,
        ns_id: &state.ns_id,
        options: &options,
        source: &bundle.rootfs(),
        target: &slot.rootfs(),
    };
    let created = mount::mount(&request)
        .and_then(|()| bundle::redirect(&bundle.directory, &bundle.root_path, &slot.rootfs()))
        .and_then(|_| real::run(&runtime, &invocation.forwarded));
    let stays = invocation.command == Command::Create || invocation.detached;
    let created = created.and_then(|status| {
        state.created = status.success() && stays;
        if state.created { slot.write(&state).map(|()| status) } else { Ok(status) }
    });
    if !(state.created && created.is_ok()) {
        // A failure to clean up comes second to why it had to be done; the next sweep tries again.
        if let Err(error) = undo(&slot, &state).and_then(|()| slot.remove()) {
            report::warning(invocation, &error);
        }
    }
    created.map(real::exit_code)
}

fn delete(invocation: &Invocation, id: &str) -> Result<ExitCode, Error> {
    let runtime = real_runtime(invocation);
    let slots = Slots::from_environment();
    if !slots.has(&invocation.root, id) {
        return Err(real::become_it(&runtime, &invocation.forwarded));
    }
    // Without the lock: a `run` that waits for the container holds it until the container has ended.
    let status = real::run(&runtime, &invocation.forwarded)?;
    if let Some(slot) = slots.existing(&invocation.root, id)? {
        let state = slot.state();
        if state.as_ref().is_some_and(State::is_alive) {
            return Ok(real::exit_code(status));
        }
        if let Some(state) = &state {
            undo(&slot, state)?;
        }
        slot.remove()?;
    }
    Ok(real::exit_code(status))
}

/// Takes away what processes left that were killed: slots nobody holds, of containers nobody counts on.
fn sweep(invocation: &Invocation, slots: &Slots) {
    for slot in slots.idle() {
        let state = slot.state();
        if state.as_ref().is_some_and(State::is_alive) {
            continue;
        }
        let undone = match &state {
            Some(state) => undo(&slot, state),
            // Nothing is done before the state is written.
            None => Ok(()),
        };
        if let Err(error) = undone.and_then(|()| slot.remove()) {
            report::warning(invocation, &error);
        }
    }
}

/// Undoes what [`create`] did, as far as it got, and leaves the slot.
fn undo(slot: &Slot, state: &State) -> Result<(), Error> {
    if state.is_known() {
        // Half made, or its deletion half done; nobody will ask for the rest. What the mount's end needs is told below.
        let words = [OsString::from("delete"), "--force".into(), OsString::from(&state.id)];
        let globals = state.globals.iter().map(OsString::from);
        let _told_below = real::quietly(&state.runtime, &globals.chain(words).collect::<Vec<_>>());
    }
    if state.bundle.join("config.json").exists() {
        bundle::redirect(&state.bundle, &slot.rootfs(), &state.root_path)?;
    }
    mount::unmount(&state.imafs, &slot.rootfs())
}
