//! Many containers at once, and processes killed at random moments: afterwards the host is clean.

use crate::traces::Traces;
use anyhow::{Context, Result, ensure};
use integration::engine::{Ended, Engine, Host};
use integration::process::{output, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Containers of [`of_containers`]: `$IMAFS_ENGINE_CONTAINERS`, else few enough for every run.
fn containers() -> usize {
    number("IMAFS_ENGINE_CONTAINERS", 10)
}

/// Kills of [`of_kills`]: `$IMAFS_ENGINE_KILLS`, else each aim once.
fn kills() -> usize {
    number("IMAFS_ENGINE_KILLS", 5)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Ten at a time.
pub fn of_containers(engine: &dyn Engine) -> Result<()> {
    let traces = Traces::before(engine)?;
    for batch in 0..containers().div_ceil(10) {
        let name = |n: usize| format!("storm-{batch}-{n}");
        let start = |n: usize| -> Result<Child> {
            let mut run = engine.run_named(&name(n), &["ls", "/usr"])?;
            Ok(run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
        };
        let all = (0..10).map(start).collect::<Result<Vec<_>>>()?;
        for child in all {
            let ended = Ended::of(&child.wait_with_output()?);
            ended.well().with_context(|| format!("batch {batch}"))?;
        }
        // Removed side by side as well.
        let remove = |n: usize| Ok(engine.remove_named(&name(n)).stdout(Stdio::null()).spawn()?);
        for mut child in (0..10).map(remove).collect::<Result<Vec<Child>>>()? {
            child.wait()?;
        }
    }
    traces.nothing_is_new(engine)
}

/// Whom a kill is meant for: a program, and a word of its command line.
struct Aim {
    program: &'static str,
    word: &'static str,
}

/// A container's whole life: each of these runs at some step of it.
fn aims(engine: &dyn Engine) -> [Aim; 5] {
    let aim = |program, word| Aim { program, word };
    [
        aim("imafs-runtime", "create"),
        aim("imafs", "mount"),
        aim(engine.shim(), ""),
        aim("runc", "create"),
        aim("imafs-runtime", "delete"),
    ]
}

/// Kills the engine's shim, the runtime, the real one or imafs, a random while after it has appeared. Each kill meets
/// its process: where that was gone before the while was over, it is tried again sooner.
pub fn of_kills(engine: &dyn Engine) -> Result<()> {
    let traces = Traces::before(engine)?;
    let mut random = Random::new();
    let mut met = BTreeMap::new();
    let mut missed = 0;
    for (round, aim) in aims(engine).iter().cycle().take(kills()).enumerate() {
        let mut longest = 800;
        for attempt in 0.. {
            ensure!(attempt < 12, "nothing is to be met of {} {}", aim.program, aim.word);
            let name = format!("kill-{round}-{attempt}");
            let mut run = engine.run_named(&name, &["sleep", "0.3"])?;
            let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let step = kill(engine, aim, &mut child, Duration::from_millis(random.below(longest)))?;
            // A client may wait for a container whose shim is gone; it is not what is tested.
            if wait_for(&mut child, Duration::from_secs(10))?.is_none() {
                child.kill()?;
                child.wait()?;
            }
            output(&mut engine.remove_named(&name))?;
            match step {
                Some(step) => {
                    *met.entry(format!("{} {} {step}", aim.program, aim.word)).or_insert(0) += 1;
                    break;
                }
                None => (missed, longest) = (missed + 1, (longest / 2).max(1)),
            }
        }
    }
    eprintln!("{} kills met a process ({missed} came too late and were made again): {met:#?}", kills());
    let mut next = engine.run_named("next", &["ls", "/"])?;
    Ended::of(&output(&mut next)?).well().context("the next container")?;
    output(&mut engine.remove_named("next"))?;
    traces.nothing_but_shims_is_new(engine)
}

/// Waits for the process, then for `delay`, and kills it. Gives the step that was met, `None` if it had ended.
fn kill(engine: &dyn Engine, aim: &Aim, client: &mut Child, delay: Duration) -> Result<Option<String>> {
    let mut patience = Instant::now() + Duration::from_secs(30);
    let found = loop {
        let mut all = crate::traces::processes(engine)?.into_iter();
        let hit = all.find(|process| process.program == aim.program && process.has(aim.word));
        match hit {
            Some(process) => break process,
            None if Instant::now() > patience => return Ok(None),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
        if client.try_wait()?.is_some() {
            // What comes afterwards comes soon.
            patience = patience.min(Instant::now() + Duration::from_secs(5));
        }
    };
    std::thread::sleep(delay);
    let step = crate::traces::step();
    let Some(pid) = Pid::from_raw(found.pid).filter(|_| found.is_there()) else { return Ok(None) };
    Ok(kill_process(pid, Signal::KILL).is_ok().then_some(step))
}

/// Numbers nobody has to guess; `$IMAFS_ENGINE_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = number("IMAFS_ENGINE_SEED", clock.subsec_nanos() as usize);
        eprintln!("kills by IMAFS_ENGINE_SEED={seed}");
        Self(seed as u64 | 1)
    }

    /// xorshift64.
    fn below(&mut self, limit: u64) -> u64 {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        self.0 % limit
    }
}

/// Whether the runtime itself finds everything in order.
pub fn sweep() -> Result<()> {
    let swept = output(std::process::Command::new(Host::runtime()?).arg("imafs-sweep"))?;
    Ended::of(&swept).well().map(drop)
}
