//! `kill -9` at random instants, under load, with a journal.
//!
//! Question: after each restart, do list, journal and PCR agree, and is no entry missing whose file was served? Each life
//! of the mount begins with that question about the lives before, then new files are opened by several threads until the
//! process is killed; some lives end before the mount is there. Every 25 lives the mount is unmounted, which has
//! to leave an archive whose end record holds. `make crash` does this 500 times; `IMAFS_CRASH_SEED` repeats a run.
//!
//! Once with registers of the process's own, and once on a swtpm that another mount uses at the same time: then the host
//! list has to replay to the PCR as well, and to hold of this mount exactly its list.

use anyhow::{Context, Result, anyhow, ensure};
use integration::journal::Journal;
use integration::process::{output, until};
use integration::scratch::{detach, is_fuse_mount, mounts_below};
use integration::swtpm::Swtpm;
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
/// How long the neighbour may live: as long as all instants take.
const LIFETIME: Duration = Duration::from_secs(7200);
/// Lives between two clean ends.
const LIVES: u64 = 25;

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

/// A line of the host list.
struct HostLine {
    ns: Vec<u8>,
    seq: u64,
    /// The entry of the mount's list.
    entry: Vec<u8>,
}

/// The whole lines of a host list by the byte table of `docs/host-list.md`, and where they end.
fn host_lines(list: &[u8]) -> Result<(Vec<HostLine>, usize)> {
    fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, after) = rest.split_first_chunk()?;
        let (field, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *rest = after;
        Some(field)
    }
    let (mut lines, mut rest) = (Vec::new(), list);
    while let Some(mut line) = rest.get(24..) {
        let Some(data) = field(&mut line).and_then(|name| Some((name, field(&mut line)?))) else { break };
        let (name, mut data) = data;
        ensure!(name == b"ima-ns", "a line of the template {name:?}");
        let mut next = || field(&mut data).context("a field is missing");
        let ns = next()?.strip_suffix(&[0]).context("no NUL")?.to_vec();
        let seq = u64::from_le_bytes(next()?.try_into().context("no number")?);
        let entry = next()?.to_vec();
        lines.push(HostLine { ns, seq, entry });
        rest = line;
    }
    Ok((lines, list.len() - rest.len()))
}

/// The entries of the mount's last list, whose lines have to be numbered without a gap.
fn last_run(lines: &[HostLine]) -> Result<Vec<&[u8]>> {
    let mut run: Vec<&[u8]> = Vec::new();
    for line in lines.iter().filter(|line| line.ns == b"crash") {
        if line.seq == 0 {
            run.clear();
        }
        ensure!(line.seq == run.len() as u64, "line {} follows line {}", line.seq, run.len());
        run.push(&line.entry);
    }
    Ok(run)
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
    /// The TPM, where the list is extended into one. Its mount goes before its directory does.
    shared: Option<Shared>,
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

/// A TPM with a host list, and another mount that uses both without a journal.
struct Shared {
    neighbour: Option<Mount>,
    tpm: Swtpm,
    run_dir: PathBuf,
    /// Entries that were in the journal alone when the process died, and how often there were any.
    behind: (u64, u64),
    /// How often a line was in the host list alone, or part of one.
    unfinished: u64,
}

impl Shared {
    fn start(stand: &Stand) -> Result<Self> {
        let tpm = Swtpm::start(&stand.scratch)?;
        let run_dir = stand.scratch.dir("run")?;
        let mut shared = Self { tpm, run_dir, neighbour: None, behind: (0, 0), unfinished: 0 };
        let builder = stand.mount()?.policy(POLICY)?.args(["--ns-id", "neighbour"]).live_for(LIFETIME);
        shared.neighbour = Some(shared.on(builder).start()?);
        Ok(shared)
    }

    fn on(&self, builder: MountBuilder) -> MountBuilder {
        let builder = builder.run_dir_at(&self.run_dir);
        builder.args(["--tpm", &self.tpm.tcti(), "--host-list", "main", "--bank", "sha1,sha256"])
    }

    fn path(&self) -> PathBuf {
        self.run_dir.join("tpm/main/list")
    }

    /// What a killed process left.
    fn look(&mut self, journaled: u64) -> Result<()> {
        let bytes = std::fs::read(self.path()).unwrap_or_default();
        let (lines, whole) = host_lines(&bytes)?;
        let behind = journaled.saturating_sub(last_run(&lines)?.len() as u64);
        self.behind.0 += behind;
        self.behind.1 += u64::from(behind > 0);
        self.unfinished += u64::from(whole < bytes.len());
        Ok(())
    }

    /// The host list replays to the PCR in every bank, by tpm2_pcrread and evmctl, and its last lines of this mount are
    /// the list.
    fn agrees(&self, list: &[u8], dir: &Path) -> Result<()> {
        let bytes = std::fs::read(self.path()).context("cannot read the host list")?;
        let (lines, whole) = host_lines(&bytes)?;
        ensure!(whole == bytes.len(), "{} bytes of a line were left", bytes.len() - whole);
        let values = self.tpm.pcr(10)?;
        for value in &values {
            let replayed = pcrs::replay(&bytes, &value.bank)?;
            ensure!(replayed == *value, "the host list replays to {replayed:?}, the TPM has {value:?}");
        }
        let path = dir.join("host-list");
        std::fs::write(&path, &bytes)?;
        pcrs::evmctl_accepts(&path, lines.len() as u64, &values, dir)?;
        let own: Vec<u8> = last_run(&lines)?.concat();
        ensure!(own == list, "the lines of the mount are not its list: {} bytes, {}", own.len(), list.len());
        Ok(())
    }
}

impl World {
    fn builder(&self) -> Result<MountBuilder> {
        let builder = self.stand.mount()?.policy(POLICY)?;
        let builder = match &self.shared {
            Some(shared) => shared.on(builder),
            None => builder,
        };
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
        if let Some(shared) = self.shared.as_mut().filter(|_| !journal.ended) {
            shared.look(journal.entries)?;
        }
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
        if let Some(shared) = &self.shared {
            shared.agrees(&list, self.stand.scratch.path())?;
        }
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
        let neighbour = self.shared.as_ref().and_then(|shared| shared.neighbour.as_ref());
        let others = |neighbour: &Mount| {
            for number in (0..FILES).take_while(|_| !dying.load(Ordering::SeqCst)) {
                let path = neighbour.path(format!("{life}-{number}"));
                std::fs::read(path).map_err(|error| format!("the neighbour denies {number}: {error}"))?;
            }
            Ok(Vec::new())
        };
        let served = std::thread::scope(|scope| {
            let mut threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(open_all)).collect();
            threads.extend(neighbour.map(|neighbour| scope.spawn(move || others(neighbour))));
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
    live_and_die(|_| Ok(None))
}

#[test]
fn a_list_on_a_shared_tpm_survives_kill_9_at_any_instant() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    live_and_die(|stand| Shared::start(stand).map(Some))
}

fn live_and_die(share: impl Fn(&Stand) -> Result<Option<Shared>>) -> Result<()> {
    let lives = setting("IMAFS_CRASH_INSTANTS", 25)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).context("before 1970")?;
    let seed = setting("IMAFS_CRASH_SEED", clock.as_secs())?;
    println!("crash: {lives} instants, IMAFS_CRASH_SEED={seed}");
    let stand = Stand::new()?;
    let journal = stand.scratch.path().join("journal");
    let shared = share(&stand)?;
    let served = BTreeSet::new();
    let mut world = World { stand, journal, served, torn: 0, made: 0, last_torn: (0, 0), shared };
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
    if let Some(shared) = &world.shared {
        println!(
            "crash: {} times {} entries were in the journal alone, {} times a line of the host list was unfinished",
            shared.behind.1, shared.behind.0, shared.unfinished
        );
    }
    let kept = archives(&world.journal)?;
    ensure!(kept + 1 == ends || kept == ends, "{kept} archives of {ends} lists");
    Ok(())
}
