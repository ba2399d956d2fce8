//! One case, and one run of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use benches::Cell;
use ima::{HashAlgo, PcrIndex};
use integration::swtpm::Swtpm;
use integration::{Mount, Scratch, Stand};
use tpm::{Tpm, TpmPlace};

use crate::relay::Relay;

/// What one command takes at a slow TPM: what discrete ones need for an extend.
const COMMAND: Duration = Duration::from_millis(5);
/// Extends in a run of nothing else.
const EXTENDS: usize = 1000;

/// Where the registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bank {
    Soft,
    Swtpm,
    /// A swtpm under a host list.
    Shared,
    /// A swtpm behind what takes its time.
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    Unmeasured,
    Measured { bank: Bank, journal: bool, large: bool },
    Extends(Bank),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    what: What,
    threads: usize,
}

impl Bank {
    fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft bank",
            Self::Swtpm => "swtpm",
            Self::Shared => "swtpm, host list",
            Self::Slow => "TPM of 5 ms",
        }
    }
}

impl Case {
    pub(crate) fn new(what: What, threads: usize) -> Self {
        Self { what, threads }
    }

    pub(crate) fn cell(&self) -> Cell {
        let mut cell = Cell::new(self.name());
        cell.baseline = match self.what {
            What::Measured { large, .. } => {
                let what = What::Measured { bank: Bank::Soft, journal: false, large };
                Some(Self { what, ..*self }.name())
            }
            What::Directory | What::Unmeasured | What::Extends(_) => None,
        };
        cell
    }

    fn name(&self) -> String {
        let what = match self.what {
            What::Directory => "directory, no mount".to_owned(),
            What::Unmeasured => "mount that measures nothing".to_owned(),
            What::Extends(bank) => return format!("extends alone, {}", bank.name()),
            What::Measured { bank, journal, large } => {
                let size = if large { "1 MiB" } else { "4 KiB" };
                format!("{}{}, {size}", bank.name(), if journal { ", journal" } else { "" })
            }
        };
        format!("{what}, {} thread{}", self.threads, if self.threads == 1 { "" } else { "s" })
    }

    /// Runs it once and gives how many a second; `files` is how many there are, small and large.
    pub(crate) fn run(&self, stand: &Stand, files: (usize, usize)) -> Result<f64> {
        let (scratch, small) = (Scratch::new()?, files.0);
        match self.what {
            What::Directory => Ok(per_second(small, self.open(stand.tree(), "small", small)?)),
            What::Unmeasured => {
                let mount = stand.mount()?.policy("dont_measure func=FILE_CHECK\n")?.start()?;
                let took = self.open(mount.target(), "small", small)?;
                mount.stop()?;
                Ok(per_second(small, took))
            }
            What::Extends(bank) => Ok(per_second(EXTENDS, extends(&Place::start(bank, &scratch, false)?)?)),
            What::Measured { bank, journal, large } => {
                let place = Place::start(bank, &scratch, false)?;
                let mount = place.mount(stand, &scratch, journal)?;
                let (kind, count) = if large { ("large", files.1) } else { ("small", small) };
                let took = self.open(mount.target(), kind, count)?;
                let entries = mount.control_number("integrity/ima/runtime_measurements_count")?;
                ensure!(entries == count as u64 + 1, "{entries} entries of {count} files");
                mount.stop()?;
                Ok(per_second(count, took))
            }
        }
    }

    /// Runs it once more, where there is a TPM to count for, and gives extends and commands for each open.
    pub(crate) fn count(&self, stand: &Stand, files: (usize, usize)) -> Result<Vec<(&'static str, f64)>> {
        let What::Measured { bank, journal, large } = self.what else { return Ok(Vec::new()) };
        let scratch = Scratch::new()?;
        let place = Place::start(bank, &scratch, true)?;
        let Some(relay) = &place.relay else { return Ok(Vec::new()) };
        let mount = place.mount(stand, &scratch, journal)?;
        let (kind, count) = if large { ("large", files.1) } else { ("small", files.0) };
        let before = relay.counts();
        self.open(mount.target(), kind, count)?;
        let after = relay.counts();
        mount.stop()?;
        Ok(vec![
            ("extends an open", ratio(after.1 - before.1, count)),
            ("commands an open", ratio(after.0 - before.0, count)),
        ])
    }

    /// Opens, reads and closes so many files once.
    fn open(&self, root: &Path, kind: &str, count: usize) -> Result<Duration> {
        let begun = Instant::now();
        let ends = std::thread::scope(|scope| {
            let share = |first: usize| {
                for number in (first..count).step_by(self.threads) {
                    let path = root.join(format!("{kind}-{number}"));
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                }
                anyhow::Ok(())
            };
            let threads: Vec<_> = (0..self.threads).map(|first| scope.spawn(move || share(first))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let took = begun.elapsed();
        for end in ends {
            match end {
                Ok(done) => done?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(took)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The TPM of one run, if it has one.
struct Place {
    bank: Bank,
    tpm: Option<Swtpm>,
    relay: Option<Relay>,
}

impl Place {
    fn start(bank: Bank, scratch: &Scratch, counted: bool) -> Result<Self> {
        let mut place = Self { bank, tpm: None, relay: None };
        if bank == Bank::Soft {
            return Ok(place);
        }
        let tpm = Swtpm::start(scratch)?;
        if bank == Bank::Slow || counted {
            let takes = if bank == Bank::Slow { COMMAND } else { Duration::ZERO };
            place.relay = Some(Relay::before(&tpm.socket(), &scratch.path().join("relay"), takes)?);
        }
        place.tpm = Some(tpm);
        Ok(place)
    }

    fn tcti(&self) -> Option<String> {
        let relay = self.relay.as_ref().map(Relay::tcti);
        relay.or_else(|| self.tpm.as_ref().map(Swtpm::tcti))
    }

    fn mount(&self, stand: &Stand, scratch: &Scratch, journal: bool) -> Result<Mount> {
        let mut builder = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?;
        if let Some(tcti) = self.tcti() {
            builder = builder.args(["--tpm", &tcti]);
        }
        if self.bank == Bank::Shared {
            builder = builder.run_dir_at(scratch.dir("run")?).args(["--host-list", "bench"]);
        }
        if journal {
            builder = builder.arg("--journal").arg(scratch.path().join("journal"));
        }
        builder.start()
    }
}

/// Extends in every bank, one after the other, with nothing between them.
fn extends(place: &Place) -> Result<Duration> {
    let tcti = place.tcti().context("no TPM")?;
    let tpm = Tpm::open(TpmPlace::Tcti(tcti.parse()?))?;
    let digest = |algo: &HashAlgo| ima::hash(*algo, b"a digest");
    let digests = tpm.banks().iter().map(digest).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    for _ in 0..EXTENDS {
        tpm.extend(PcrIndex::DEFAULT, &digests)?;
    }
    let took = begun.elapsed();
    tpm.end();
    Ok(took)
}
