//! `kill -9` at random instants, under load, with a journal.
//!
//! Question: after each restart, do list, journal and PCR agree, and is no entry missing whose file was served? Each life
//! of the mount begins with that question about the lives before, then new files are opened by several threads until the
//! process is killed; some lives end before the mount is there. Every 25 lives the mount is unmounted, which has
//! to leave an archive whose end record holds. `make crash` does this 500 times; `IMAFS_CRASH_SEED` repeats a run.

use anyhow::{Context, Result, anyhow, ensure};
use integration::journal::Journal;
use integration::process::{output, until};
use integration::scratch::{detach, is_fuse_mount, mounts_below};
use integration::{Mount, MountBuilder, Need, Stand, need, pcrs};
use rustix::process::Signal;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files of one life.
const FILES: usize = 300;
const THREADS: usize = 6;
/// Lives between two clean ends.
const LIVES: u64 = 25;

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}

/// Numbers that look random, from a seed (an LCG; Knuth's constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What is known of the list so far.
struct World {
    stand: Stand,
    journal: PathBuf,
    /// Files that were served since the list began.
    served: BTreeSet<String>,
    /// Torn ends that restarts found, and how many of them this test made.
    torn: u64,
    made: u64,
    /// Where the last torn end began and how long it was, so that none counts twice.
    last_torn: (usize, usize),
}

impl World {
    fn builder(&self) -> Result<MountBuilder> {
        let builder = self.stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?;
        Ok(builder.args(["--ns-id", "crash", "--list-memory", "64KiB", "--journal"]).arg(&self.journal))
    }

    fn make_files(&self, life: u64) -> Result<()> {
        for number in 0..FILES {
            self.stand.file(&format!("{life}-{number}"), format!("{life} {number}\n"), 0o644)?;
        }
        Ok(())
    }

    /// Starts the mount, which has to say how much of a torn end it has cut.
    fn start(&mut self) -> Result<Mount> {
        let unfinished = self.look()?;
        let mount = self.builder()?.start()?;
        let cut = |line: &str| line.strip_prefix("imafs: cut ")?.split(' ').next()?.parse::<usize>().ok();
        // What there is to tell is told before this line.
        ensure!(until(Duration::from_secs(10), || Ok(mount.log().contains("serving ")))?, "it says nothing");
        let said = mount.log().lines().find_map(cut).unwrap_or(0);
        ensure!(said == unfinished, "{said} bytes cut, of {unfinished} unfinished");
        Ok(mount)
    }

    /// Bytes of a torn end that the next start will find.
    fn look(&mut self) -> Result<usize> {
        let path = self.journal.join("journal");
        if !path.exists() {
            return Ok(0);
        }
        let journal = Journal::read(&path)?;
        let torn = (journal.end, journal.unfinished);
        self.torn += u64::from(torn.1 > 0 && torn != self.last_torn);
        self.last_torn = torn;
        Ok(torn.1)
    }

    /// Asserts what has to hold after a restart.
    fn agrees(&mut self, mount: &Mount) -> Result<()> {
        let journal = Journal::read(&self.journal.join("journal"))?;
        ensure!(journal.unfinished == 0, "{} bytes were not cut", journal.unfinished);
        let list = mount.control("integrity/ima/binary_runtime_measurements")?;
        ensure!(journal.list == list, "the journal has another list: {} entries", journal.entries);
        let copy = self.stand.scratch.file("list", &list)?;
        let values = pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
        pcrs::evmctl_accepts(&copy, journal.entries, &values, self.stand.scratch.path())?;
        let text = mount.measurements()?;
        let listed: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        let names: BTreeSet<&str> = listed.iter().copied().collect();
        ensure!(names.len() == listed.len(), "an entry is listed twice");
        let missing = self.served.iter().find(|name| !names.contains(format!("/{name}").as_str()));
        ensure!(missing.is_none(), "{missing:?} was served and is not in the list");
        Ok(())
    }

    /// Opens the files of a life from several threads until the process is killed.
    fn load_until_killed(&mut self, mount: &Mount, life: u64, instant: Duration) -> Result<()> {
        let (next, dying) = (AtomicUsize::new(0), AtomicBool::new(false));
        let open_all = || -> std::result::Result<Vec<String>, String> {
            let mut served = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let name = format!("{life}-{}", number % FILES);
                match std::fs::read(mount.path(&name)) {
                    Ok(_) if number < FILES => served.push(name),
                    Ok(_) => {}
                    Err(_) if dying.load(Ordering::SeqCst) => return Ok(served),
                    // What fails before the kill is wrong.
                    Err(error) => return Err(format!("{name}: {error}\n{}", mount.log())),
                }
            }
        };
        let served = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(open_all)).collect();
            std::thread::sleep(instant);
            dying.store(true, Ordering::SeqCst);
            mount.signal(Signal::KILL)?;
            let ends = threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked"));
            ends.collect::<Result<Vec<_>>>()
        })?;
        for served in served {
            self.served.extend(served.map_err(|error| anyhow!(error))?);
        }
        Ok(())
    }

    /// Starts a mount and kills it before it can be there, or soon after.
    fn die_early(&mut self, dice: &mut Dice) -> Result<()> {
        self.look()?;
        let builder = self.builder()?;
        let mut command = builder.command()?;
        command.arg("--foreground").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().context("cannot start imafs")?;
        std::thread::sleep(Duration::from_micros(dice.below(60_000)));
        process.kill().and_then(|()| process.wait()).context("cannot end imafs")?;
        mounts_below(&builder.target()).iter().for_each(|target| detach(target));
        Ok(())
    }

    /// Leaves what a write that the power cut short leaves: part of a batch behind what the disk has.
    fn tear(&mut self, dice: &mut Dice) -> Result<()> {
        let path = self.journal.join("journal");
        let bytes = std::fs::read(&path).context("cannot read the journal")?;
        let tail = bytes.len().min(700);
        let part = usize::try_from(dice.below(tail as u64))? + 1;
        let torn = bytes.get(bytes.len() - tail..).and_then(|tail| tail.get(..part)).unwrap_or_default();
        std::fs::write(&path, [bytes.as_slice(), torn].concat()).context("cannot tear the journal")?;
        self.made += 1;
        Ok(())
    }

    /// Unmounts, and asserts that what stays is a list with its end.
    fn ends(&mut self, mount: Mount) -> Result<()> {
        let list = mount.control("integrity/ima/binary_runtime_measurements")?;
        let verify = mount.imafs(&["journal", "verify"])?;
        ensure!(mount.stop()?.success(), "did not end well");
        let journal = Journal::read(&self.journal.join("journal"))?;
        ensure!(journal.ended && journal.list == list, "the end record is missing");
        ensure!(journal.list_digest == sha2::Sha256::digest(&list).to_vec(), "another digest");
        let mut verify = verify;
        let verified = output(verify.arg(&self.journal))?;
        ensure!(verified.status.success(), "verify says {}", String::from_utf8_lossy(&verified.stderr));
        self.served.clear();
        Ok(())
    }
}

fn archives(journal: &Path) -> Result<usize> {
    let names = std::fs::read_dir(journal).context("cannot list the journals")?.flatten();
    Ok(names.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal.0")).count())
}

#[test]
fn a_list_survives_kill_9_at_any_instant() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    let lives = setting("IMAFS_CRASH_INSTANTS", 25)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).context("before 1970")?;
    let seed = setting("IMAFS_CRASH_SEED", clock.as_secs())?;
    println!("crash: {lives} instants, IMAFS_CRASH_SEED={seed}");
    let stand = Stand::new()?;
    let journal = stand.scratch.path().join("journal");
    let mut world = World { stand, journal, served: BTreeSet::new(), torn: 0, made: 0, last_torn: (0, 0) };
    let mut dice = Dice(seed);
    let (mut ends, mut early, mut all) = (0, 0, 0);
    for life in 1..=lives {
        if dice.below(5) == 0 {
            early += 1;
            world.die_early(&mut dice).with_context(|| format!("instant {life}, early"))?;
            continue;
        }
        world.make_files(life)?;
        let mount = world.start().with_context(|| format!("instant {life}"))?;
        world.agrees(&mount).with_context(|| format!("instant {life}, after the restart"))?;
        let target = mount.target().to_owned();
        let instant = Duration::from_micros(dice.below(150_000));
        world.load_until_killed(&mount, life, instant).with_context(|| format!("instant {life}"))?;
        mount.wait()?;
        detach(&target);
        ensure!(until(Duration::from_secs(10), || Ok(!is_fuse_mount(&target)))?, "still mounted");
        if dice.below(3) == 0 {
            world.tear(&mut dice)?;
        }
        if life % LIVES == 0 || life == lives {
            let mount = world.start().with_context(|| format!("instant {life}, the end"))?;
            world.agrees(&mount).with_context(|| format!("instant {life}, before the end"))?;
            all += world.served.len();
            world.ends(mount).with_context(|| format!("instant {life}, the end"))?;
            ends += 1;
        }
    }
    println!(
        "crash: {lives} instants ({early} before the mount was there), {all} files served, {ends} lists ended; \
         {} torn ends repaired, {} torn by this test",
        world.torn, world.made
    );
    let kept = archives(&world.journal)?;
    ensure!(kept + 1 == ends || kept == ends, "{kept} archives of {ends} lists");
    Ok(())
}
