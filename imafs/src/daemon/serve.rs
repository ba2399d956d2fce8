//! Mounting, serving and ending: the main thread of the process.
//!
//! One thread reads requests, others hash; this one waits for what happens to the mount as a whole: a signal, a
//! request on the socket, the end of service. So unmounting is never done by two at once.

use std::io::{self, IsTerminal as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};
use keyring::Keyring;
use rustix::mount::MountFlags;

use crate::config::{CacheMode, ControlMode, MountConfig, MountFlag, PassthroughMode, PolicyLoads};
use crate::control::{Access, Control, Loads, Permits};
use crate::failure::{Failure, chain};
use crate::fs::{self, ControlTree, Filesystem, FsOptions};
use crate::fuse::{self, MountError, MountParams, Unmount};

use super::background::Readiness;
use super::logs::Log;
use super::parts::{Parts, Prepared};
use super::run_dir::{Claimed, Registered, RunDir, State, start_time};
use super::signals::Wish;
use super::socket::{self, Answers, Conversations};
use super::status::StatusSource;
use super::system::{plain, raise_descriptor_limit};
use super::{attest, backing, banks, holders, labels, mounts, notify, preflight, signals};

/// How long sinks may take to write their last records.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// Something that happened to the mount.
pub(super) enum Event {
    /// The transport has failed, and waits for its queued work.
    Failed(String),
    /// The transport has ended.
    Ended(io::Result<()>),
    /// A signal asked for it.
    Signal(Wish),
    /// A command asks to unmount; the answer says whether that was possible.
    Stop { when: Unmount, answer: Sender<Result<(), String>> },
}

/// Mounts and serves until the mount is gone.
///
/// # Errors
/// What keeps the mount from becoming ready, or a transport that failed.
pub fn run(mut config: MountConfig, readiness: Readiness) -> Result<ExitCode, Failure> {
    banks::silence_libtss2();
    readiness.detach();
    let run_dir = RunDir::from_environment();
    // Dropped last: whoever takes the id next finds nothing of ours.
    let claimed = preflight::check(&mut config, &run_dir)?;
    start_log(&readiness);
    raise_descriptor_limit();
    let mut notices = Vec::new();
    let mut notice = |notice| notices.push(notice);
    let prepared = Prepared::load(&config, &mut notice)?;
    let log = match readiness {
        Readiness::Supervisor => None,
        Readiness::Parent(_) => Some(Log::open(&config, &run_dir)?),
    };
    let (events, inbox) = unbounded();
    let from_signals = events.clone();
    // A send fails only when the main thread has left, and then nobody has to be told.
    signals::watch(move |wish| drop(from_signals.send(Event::Signal(wish))))
        .map_err(|error| Failure::cannot("watch for signals", plain(&error)))?;
    let stand = Stand::take(&config, &run_dir, &claimed, &prepared.ring)?;
    // From here on a mount that does not come about leaves an entry in the TPM, and a list without a journal could not
    // begin there again.
    let parts = prepared.begin(&config, &mut notice)?;
    // A working directory would keep its filesystem busy for as long as the mount lives.
    std::env::set_current_dir("/").map_err(|error| Failure::cannot("enter /", plain(&error)))?;
    let service = Service::start(config, stand, &parts, events)?;
    for notice in notices {
        eprintln!("imafs: {notice}");
    }
    readiness.tell(log.as_ref().map(Log::file)).map_err(|error| {
        service.clear();
        Failure::cannot("leave the terminal", plain(&error))
    })?;
    tracing::info!(target: "imafs", "serving {} at {}", service.config.source, service.config.target.display());
    let ended = service.wait(&inbox, &parts);
    // Unanswered requests learn that nobody will.
    drop(inbox);
    parts.banks.complete(&parts.list);
    if ended.is_ok()
        && let Err(error) = parts.list.end()
    {
        tracing::error!(
            "the journal gets no end record, the next mount goes on with its list: {}",
            chain(&error)
        );
    }
    service.conversations.finish();
    notify::send("STOPPING=1");
    if !parts.audit.shutdown(LAST_RECORDS) {
        tracing::error!("an audit sink did not take its last records in time");
    }
    match ended {
        Ok(()) => {
            if let Some(log) = log {
                log.settle();
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            tracing::error!("the connection to the kernel failed: {error}");
            Err(Failure::cannot(format!("go on serving {}", service.config.target.display()), plain(&error)))
        }
    }
}

/// What a mount needs of the system before its list begins.
struct Stand {
    tree: fs::Backing,
    labels: appraise::Labels,
    registered: Registered,
    listener: UnixListener,
}

impl Stand {
    fn take(
        config: &MountConfig,
        run_dir: &RunDir,
        claimed: &Claimed,
        ring: &Arc<Keyring>,
    ) -> Result<Self, Failure> {
        let tree = backing::open(config)?;
        let labels = labels::open(config, tree.root(), ring)?;
        let registered = claimed.register(&state(config)).map_err(preflight::register_failure)?;
        let path = run_dir.socket(config.ns_id.as_str());
        let listener = socket::bind(&path)
            .map_err(|error| Failure::cannot(format!("listen on {}", path.display()), plain(&error)))?;
        Ok(Self { tree, labels, registered, listener })
    }
}

/// A mount that is being served.
struct Service {
    config: MountConfig,
    /// `major:minor` of our superblock, by which our mount is told from one over it.
    device: Option<String>,
    conversations: Conversations,
    /// Where evidence is served, if anywhere.
    _door: Option<attest::Door>,
    _registered: Registered,
}

impl Service {
    fn start(
        config: MountConfig,
        stand: Stand,
        parts: &Parts,
        events: Sender<Event>,
    ) -> Result<Self, Failure> {
        let Stand { tree, labels, registered, listener } = stand;
        let monitor = parts.monitor(&config, backing::facts(&config.source, tree.root()), labels);
        // Before anything can be opened: what lets content through stands in the list before it does.
        monitor.measure_rings(&audit::Process::read(std::process::id())).map_err(|denial| {
            Failure::cannot("measure the keys", denial.to_string()).advise("the log says why")
        })?;
        let tpm = parts.banks.tpm().cloned();
        if let Some(tpm) = &tpm {
            banks::catch_up(&parts.list, tpm)
                .map_err(|error| Failure::cannot("start a thread", plain(&error)))?;
        }
        let status = Arc::new(StatusSource::new(config.clone(), Arc::clone(&monitor), tpm));
        let control = control(&config, &monitor, &status);
        let evidence = attest::Service::new(&config, parts)?;
        let door = config.attest.as_ref().map(|place| evidence.listen(place)).transpose()?;
        let answers = Answers::new(Arc::clone(&status), control.clone(), evidence, events.clone());
        let conversations = socket::listen(listener, answers)
            .map_err(|error| Failure::cannot("start a thread", plain(&error)))?;
        let shown = control.filter(|_| matches!(config.control, ControlMode::Rw | ControlMode::Ro));
        let shown = shown.map(|control| control as Arc<dyn ControlTree>);
        let filesystem = Filesystem::new(tree, monitor, shown, options(&config)).map_err(|errno| {
            Failure::cannot(format!("read the root of {}", config.source), plain(&io::Error::from(errno)))
        })?;
        status.attach(&filesystem);
        let device = mount(&config, filesystem, events)?;
        Ok(Self { config, device, conversations, _door: door, _registered: registered })
    }

    /// Serves until the transport ends, whatever asked for it.
    fn wait(&self, inbox: &Receiver<Event>, parts: &Parts) -> io::Result<()> {
        let mut leaving = false;
        for event in inbox {
            match event {
                Event::Failed(reason) => {
                    tracing::error!("the connection to the kernel failed: {reason}");
                    self.clear();
                }
                Event::Ended(outcome) => return self.ended(outcome, parts),
                Event::Signal(Wish::Reopen) => parts.audit.reopen(),
                Event::Signal(Wish::Stop) if leaving => {
                    tracing::warn!("asked twice: leaving while the mount is in use");
                    return Ok(());
                }
                Event::Signal(Wish::Stop) => {
                    leaving = true;
                    if !self.leave() {
                        return Ok(());
                    }
                }
                Event::Stop { when, answer } => {
                    let outcome = if self.is_ours() {
                        fuse::unmount(&self.config.target, when).map_err(|error| reason(&error))
                    } else {
                        Err(socket::COVERED.to_owned())
                    };
                    // The command that asked may have gone.
                    drop(answer.send(outcome));
                }
            }
        }
        Ok(())
    }

    /// What became of the mount whose transport has ended. One that is unmounted is gone by then; where it still stands
    /// somebody has aborted the connection, and everybody who enters it is told so.
    fn ended(&self, outcome: io::Result<()>, parts: &Parts) -> io::Result<()> {
        let is_aborted = outcome.is_ok() && self.is_ours();
        if is_aborted || outcome.is_err() {
            self.clear();
        }
        if is_aborted {
            return Err(io::Error::other("it was aborted, by umount --force or by the kernel"));
        }
        tracing::info!(target: "imafs", "unmounted after {} measurements", parts.list.count());
        outcome
    }

    /// Unmounts because a signal said so: busy or not, nothing new may begin. `false` when there is nothing to wait
    /// for, because the mount has been moved or covered.
    fn leave(&self) -> bool {
        let target = self.config.target.display();
        if !self.is_ours() {
            tracing::warn!("something else is mounted on {target} now, or nothing: leaving");
            return false;
        }
        let Err(error) = fuse::unmount(&self.config.target, Unmount::Now) else { return true };
        tracing::warn!("{}; it ends with its last user: {}", chain(&error), busy(&self.config.target));
        match fuse::unmount(&self.config.target, Unmount::WhenUnused) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                false
            }
        }
    }

    fn is_ours(&self) -> bool {
        mounts::at(&self.config.target).is_some_and(|mount| Some(mount.device) == self.device)
    }

    /// Removes a mount whose service has failed, so that it does not stand there dead.
    fn clear(&self) {
        if self.is_ours() {
            // The failure itself is what is reported.
            drop(fuse::cut(&self.config.target));
        }
    }
}

/// Mounts and waits for the first answer, so that a mount that is reported ready is ready. Gives the superblock's
/// device number.
fn mount(
    config: &MountConfig,
    filesystem: Arc<Filesystem>,
    events: Sender<Event>,
) -> Result<Option<String>, Failure> {
    let failed = |error: MountError| {
        let advice = match &error {
            MountError::Device(_) => "in a container pass the device: --device /dev/fuse",
            MountError::Mount { source: fs::Errno::PERM, .. } => "mounting needs CAP_SYS_ADMIN",
            MountError::Mount { .. }
            | MountError::Target { .. }
            | MountError::NotDirectory { .. }
            | MountError::Unmount { .. } => "the kernel log may say more: dmesg | tail",
        };
        Failure::caused(&error).advise(advice)
    };
    let params = MountParams {
        fsname: config.source.to_string(),
        subtype: "imafs".to_owned(),
        read_only: config.read_only,
    };
    let connection = fuse::mount(&config.target, &params).map_err(failed)?;
    leave_out(config).map_err(|error| {
        // It is the failure that is told.
        drop(fuse::unmount(&config.target, Unmount::WhenUnused));
        Failure::cannot(format!("set the flags of {}", config.target.display()), plain(&error))
    })?;
    let device = mounts::at(&config.target).map(|mount| mount.device);
    let reader = move || {
        let tell = |error: &io::Error| drop(events.send(Event::Failed(error.to_string())));
        let ended = fuse::serve(connection, &filesystem, tell);
        // The main thread waits for this alone when it has not left yet.
        drop(events.send(Event::Ended(ended)));
    };
    let started = std::thread::Builder::new().name("imafs-reader".to_owned()).spawn(reader);
    let first = started.and_then(|_| std::fs::metadata(&config.target));
    first.map(|_| device).map_err(|error| {
        // It is the first answer's failure that is told.
        drop(fuse::unmount(&config.target, Unmount::WhenUnused));
        Failure::cannot(format!("mount on {}", config.target.display()), plain(&error))
            .advise("the kernel log may say more: dmesg | tail")
    })
}

/// Sets the flags of the mount. Nobody has been told yet that it is there.
fn leave_out(config: &MountConfig) -> io::Result<()> {
    let flag = |flag: &MountFlag| match flag {
        MountFlag::Nodev => MountFlags::NODEV,
        MountFlag::Nosuid => MountFlags::NOSUID,
        MountFlag::Noexec => MountFlags::NOEXEC,
    };
    let flags: MountFlags = config.mount_flags.iter().map(flag).collect();
    if flags.is_empty() {
        return Ok(());
    }
    let read_only = if config.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    Ok(rustix::mount::mount_remount(&config.target, MountFlags::BIND | read_only | flags, "")?)
}

fn options(config: &MountConfig) -> FsOptions {
    FsOptions {
        cache: match config.cache {
            CacheMode::Exclusive => fs::CacheMode::Exclusive,
            CacheMode::Shared => fs::CacheMode::Shared,
        },
        passthrough: config.passthrough == PassthroughMode::Auto,
        page_cache_limit: config.page_cache_limit,
        hash_threads: config.hash_threads,
        read_only: config.read_only,
    }
}

fn control(
    config: &MountConfig,
    monitor: &Arc<monitor::Monitor>,
    status: &Arc<StatusSource>,
) -> Option<Arc<Control>> {
    let access = match config.control {
        ControlMode::Rw => Access::ReadWrite,
        ControlMode::Ro | ControlMode::Host => Access::ReadOnly,
        ControlMode::None => return None,
    };
    let facts = Arc::clone(status);
    let facts = Box::new(move || facts.facts_inside());
    let loads = match config.policy_loads {
        PolicyLoads::Once => Loads::Once,
        PolicyLoads::Many => Loads::Many,
    };
    let permits = Permits { access, loads, rules: config.policy_rules, owner: config.control_owner };
    Some(Arc::new(Control::new(Arc::clone(monitor), config.ns_id.as_str(), permits, facts)))
}

fn state(config: &MountConfig) -> State {
    let pid = std::process::id();
    State {
        ns_id: config.ns_id.to_string(),
        pid,
        start_time: start_time(pid).unwrap_or(0),
        source: config.source.to_string(),
        target: config.target.to_string_lossy().into_owned(),
        policy: config.policy.to_string(),
        appraise: config.appraise.to_string(),
        since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Why an unmount failed, for the command that asked.
fn reason(error: &MountError) -> String {
    match error {
        MountError::Unmount { source: fs::Errno::BUSY, .. } => socket::BUSY.to_owned(),
        MountError::Unmount { .. }
        | MountError::Device(_)
        | MountError::Target { .. }
        | MountError::NotDirectory { .. }
        | MountError::Mount { .. } => chain(error),
    }
}

/// Some who keep a mount busy, in one line.
fn busy(target: &Path) -> String {
    let holders = holders::of(target, 4).unwrap_or_default();
    let beneath = mounts::beneath(target).into_iter().take(4);
    let beneath = beneath.map(|mount| format!("{} is mounted beneath it", mount.point.display()));
    let named: Vec<String> = holders.iter().map(ToString::to_string).chain(beneath).collect();
    if named.is_empty() { "nobody that can be seen from here".to_owned() } else { named.join(", ") }
}

fn start_log(readiness: &Readiness) {
    let wanted = std::env::var("IMAFS_LOG").unwrap_or_default();
    let (filter, mistaken) = log_filter(&wanted);
    let on_terminal = matches!(readiness, Readiness::Supervisor) && io::stderr().is_terminal();
    let colour = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second subscriber is refused; the first one stays.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(colour)
            .with_target(false)
            // It would tell of a log that cannot be written with eprintln!, which panics: a full disk must not end
            // the mount.
            .log_internal_errors(false)
            .try_init(),
    );
    if mistaken {
        tracing::warn!("IMAFS_LOG={wanted} is none of error, warn, info, debug, trace or off: taken as info");
    }
}

/// What is logged, and whether `wanted` was not understood. A single word is a level: the library would take a mistyped
/// one for the name of a part of the program, and log nothing else.
fn log_filter(wanted: &str) -> (tracing_subscriber::EnvFilter, bool) {
    let info = || tracing_subscriber::EnvFilter::new("info");
    if wanted.is_empty() {
        return (info(), false);
    }
    let is_level = wanted.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    if !is_level && !wanted.contains('=') {
        return (info(), true);
    }
    tracing_subscriber::EnvFilter::try_new(wanted).map_or_else(|_| (info(), true), |filter| (filter, false))
}
