//! What is done for each command, in which order.
//!
//! `create`: write down what will be done, mount, point the bundle at the mount, let the real runtime create; if that
//! fails, all of it backwards. `delete`: let the real runtime delete; if it knows the container no more, all of it
//! backwards. Killed at any step we leave a slot behind, and the next `create`, of whatever container, takes it away.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use crate::annotations::Annotations;
use crate::bundle::{self, Bundle};
use crate::command_line::{Command, Invocation};
use crate::config::{self, Config, Profile};
use crate::mount::{self, Request};
use crate::slot::{Record, Slot, Slots, State, boot, default_ns_id};
use crate::{Error, Plan, help, plan, real, report};

/// Does what the engine asked for.
pub(crate) fn run(invocation: &Invocation) -> Result<ExitCode, Error> {
    match (invocation.command, invocation.id.as_deref()) {
        (Command::Create | Command::Run, Some(id)) => create(invocation, id),
        (Command::Restore, Some(id)) => restore(invocation, id),
        // The real runtime may read it otherwise than we do, and start what was to be checked.
        (Command::Create | Command::Run | Command::Restore, None) if !invocation.usage => {
            Err(Error::NoContainer)
        }
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
        (Command::Help, _) => {
            help::print();
            real::run(&real_runtime(invocation), &invocation.forwarded).map(real::exit_code)
        }
        (
            Command::Create
            | Command::Run
            | Command::Restore
            | Command::Delete
            | Command::Checkpoint
            | Command::Other,
            _,
        ) => Err(real::become_it(&real_runtime(invocation), &invocation.forwarded)),
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

/// What [`create`] is about to do.
struct Prepared {
    state: State,
    profile: Profile,
    options: Vec<(&'static str, String)>,
    owner: Option<(u32, u32)>,
    source: PathBuf,
}

fn create(invocation: &Invocation, id: &str) -> Result<ExitCode, Error> {
    let config = config(invocation)?;
    let runtime = config.real_runtime();
    let slots = Slots::from_environment();
    sweep(invocation, &slots);
    let slot = slots.take(&invocation.root, id)?;
    if is_alive(&slot, &invocation.root) {
        // The real runtime says best that the name is in use.
        return Err(real::become_it(&runtime, &invocation.forwarded));
    }
    // Before the bundle is read: it may point at a mount that was left behind.
    undo(&slot, &mount::program(&config))?;
    let prepared = match prepare(invocation, &config, id) {
        Ok(prepared) => prepared,
        Err(error) => {
            abandon(invocation, slot, &mount::program(&config));
            return Err(error);
        }
    };
    let Some(mut prepared) = prepared else {
        slot.remove()?;
        return Err(real::become_it(&runtime, &invocation.forwarded));
    };
    let status = start(invocation, &slot, &mut prepared);
    if !(prepared.state.created && status.is_ok()) {
        abandon(invocation, slot, &prepared.state.imafs);
    }
    status.map(real::exit_code)
}

/// Only for what is not checked: what has been measured does not come along.
fn restore(invocation: &Invocation, id: &str) -> Result<ExitCode, Error> {
    let config = config(invocation)?;
    match prepare(invocation, &config, id)? {
        Some(_) => Err(Error::Checkpoint),
        None => Err(real::become_it(&config.real_runtime(), &invocation.forwarded)),
    }
}

/// Decides what is to be done; `None` for a container that is not checked. Touches nothing.
fn prepare(invocation: &Invocation, config: &Config, id: &str) -> Result<Option<Prepared>, Error> {
    let bundle = Bundle::read(&invocation.bundle)?;
    let annotations = Annotations::read(bundle.annotations.as_ref())?;
    let name = default_ns_id(&invocation.root, id);
    let decided = plan(config, invocation.profile.as_deref(), &annotations, &name, mount::profile_value)?;
    let Plan::Checked { name, profile, ns_id, options } = decided else { return Ok(None) };
    let state = State {
        root: std::path::absolute(&invocation.root).unwrap_or_else(|_| invocation.root.clone()),
        id: id.to_owned(),
        bundle: bundle.directory,
        root_path: bundle.root_path,
        ns_id,
        profile: name,
        imafs: mount::program(config),
        globals: invocation.globals.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        runtime: config.real_runtime(),
        created: false,
        boot: boot(),
    };
    Ok(Some(Prepared { state, profile: *profile, options, owner: bundle.owner, source: bundle.rootfs }))
}

/// Mounts, points the bundle at the mount, and has the container made.
fn start(invocation: &Invocation, slot: &Slot, prepared: &mut Prepared) -> Result<ExitStatus, Error> {
    let Prepared { state, profile, options, owner, source } = prepared;
    let target = slot.rootfs();
    slot.prepare(state)?;
    mount::mount(&Request {
        imafs: &state.imafs,
        profile,
        ns_id: &state.ns_id,
        options,
        owner: *owner,
        source,
        target: &target,
    })?;
    if !bundle::redirect(&state.bundle, &state.root_path, &target)? {
        // Started all the same, it would run on what nobody checks.
        return Err(Error::Bundle {
            action: "use",
            path: state.bundle.clone(),
            reason: "somebody else has changed its root.path meanwhile".to_owned(),
        });
    }
    let status = real::run(&state.runtime, &invocation.forwarded)?;
    let stays = invocation.command == Command::Create || invocation.detached;
    state.created = status.success() && stays;
    if state.created {
        slot.write(state)?;
    }
    Ok(status)
}

/// Undoes what was begun. That comes second to why it had to be; what stays the next sweep takes away.
fn abandon(invocation: &Invocation, slot: Slot, imafs: &Path) {
    if let Err(error) = undo(&slot, imafs).and_then(|()| slot.remove()) {
        report::warning(invocation, &error);
    }
}

fn delete(invocation: &Invocation, id: &str) -> Result<ExitCode, Error> {
    let runtime = real_runtime(invocation);
    let slots = Slots::from_environment();
    if !slots.has(&invocation.root, id) {
        return Err(real::become_it(&runtime, &invocation.forwarded));
    }
    // Without the lock: a `run` that waits for the container holds it until the container has ended.
    let status = real::run(&runtime, &invocation.forwarded)?;
    if let Some(slot) = slots.existing(&invocation.root, id)?
        && !is_alive(&slot, &invocation.root)
    {
        undo(&slot, &mount::program(&config(invocation).unwrap_or_default()))?;
        slot.remove()?;
    }
    Ok(real::exit_code(status))
}

/// Takes away what processes left that were killed: slots nobody holds, of containers nobody counts on.
fn sweep(invocation: &Invocation, slots: &Slots) {
    for slot in slots.idle() {
        if !is_alive(&slot, &invocation.root) {
            abandon(invocation, slot, &mount::program(&config(invocation).unwrap_or_default()));
        }
    }
}

/// Whether an engine still counts on the container of a slot, which this process holds. `root` is that of the containers
/// which this call is about: where a slot does not say, its container is looked for there.
fn is_alive(slot: &Slot, root: &Path) -> bool {
    match slot.record() {
        Record::Nothing => false,
        Record::State(state) => state.is_alive(),
        Record::Unreadable => slot
            .container_of(root)
            .map_or_else(|| mount::is_somebodys_root(&slot.rootfs()), |id| root.join(id).exists()),
    }
}

/// Undoes what [`create`] did, as far as it got, and leaves the slot. `imafs` unmounts where the slot does not say what
/// mounted.
fn undo(slot: &Slot, imafs: &Path) -> Result<(), Error> {
    let state = match slot.record() {
        // Nothing is done before the state is written.
        Record::Nothing => return Ok(()),
        Record::State(state) => Some(state),
        // The bundle stays as it is: only the state knew where it lies, and engines write a new one for each start.
        Record::Unreadable => None,
    };
    if let Some(state) = &state {
        if state.is_known() {
            // Half made, or its deletion half done; nobody will ask for the rest. What the mount's end needs is told
            // below.
            let words = [OsString::from("delete"), "--force".into(), OsString::from(&state.id)];
            let globals = state.globals.iter().map(OsString::from);
            let _told_below = real::quietly(&state.runtime, &globals.chain(words).collect::<Vec<_>>());
        }
        // A bundle that is gone or broken has no use for its old root. One that goes on pointing at the mount leads to
        // an empty directory, and its next start fails.
        let _gone = bundle::redirect(&state.bundle, &slot.rootfs(), &state.root_path);
    }
    mount::unmount(state.as_ref().map_or(imafs, |state| &state.imafs), &slot.rootfs())
}
