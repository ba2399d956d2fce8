//! A file in memory that can be broken, crashed, and looked into.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::io;
use std::sync::Arc;

use ima::template::FileAttrs;
use ima::{Digest, Entry, Event, HashAlgo, PcrIndex, Pcrs, Template};
use measure::journal::{Header, Identity, Medium, Owner};
use measure::{BankError, Journal, List, ListOptions, MeasureError, PcrBank, SoftBank};
use parking_lot::Mutex;

pub const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };

/// What a disk does.
#[derive(Debug, Default)]
struct Disk {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is there after a power failure.
    kept: Vec<u8>,
    /// Bytes that may still be written before the disk is full.
    space: Option<usize>,
    /// Calls of `sync` that will fail; what was written since the last success is then not kept by later ones either,
    /// unless it is written again.
    failing_syncs: usize,
    dropped: Option<Vec<u8>>,
    broken: bool,
    syncs: usize,
}

/// The file.
#[derive(Debug, Default, Clone)]
pub struct Memory(Arc<Mutex<Disk>>);

impl Memory {
    pub fn of(bytes: &[u8]) -> Self {
        let memory = Self::default();
        memory.0.lock().seen = bytes.to_vec();
        memory.0.lock().kept = bytes.to_vec();
        memory
    }
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().seen.clone()
    }
    pub fn kept(&self) -> Vec<u8> {
        self.0.lock().kept.clone()
    }
    pub fn syncs(&self) -> usize {
        self.0.lock().syncs
    }
    /// Everything fails, or nothing.
    pub fn set_broken(&self, broken: bool) {
        self.0.lock().broken = broken;
    }
    /// The disk takes so many bytes more.
    pub fn set_space(&self, space: Option<usize>) {
        self.0.lock().space = space;
    }
    pub fn fail_syncs(&self, count: usize) {
        self.0.lock().failing_syncs = count;
    }
}

impl Medium for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.0.lock();
        let rest = disk.seen.get(offset as usize..).unwrap_or_default();
        // Never more than 1000 at once: a short read is no end.
        let length = rest.len().min(buffer.len()).min(1000);
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.0.lock();
        if disk.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = disk.space.unwrap_or(usize::MAX).min(bytes.len());
        disk.space = disk.space.map(|space| space - taken);
        let (from, to) = (offset as usize, offset as usize + taken);
        let length = disk.seen.len().max(to);
        disk.seen.resize(length, 0);
        disk.seen[from..to].copy_from_slice(&bytes[..taken]);
        if let Some(dropped) = &mut disk.dropped {
            let length = dropped.len().max(to);
            dropped.resize(length, 0);
            dropped[from..to].copy_from_slice(&bytes[..taken]);
        }
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock();
        if disk.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.seen.resize(length as usize, 0);
        if let Some(dropped) = &mut disk.dropped {
            dropped.resize(length as usize, 0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.syncs += 1;
        if disk.failing_syncs > 0 {
            disk.failing_syncs -= 1;
            // The last page was lost on its way, and with it what it held of the older bytes: from now on the disk
            // has what is written anew, and nothing of that page.
            let mut kept = disk.kept.clone();
            let page = kept.len() - kept.len() % 512;
            kept.truncate(page);
            disk.dropped = Some(kept);
            return Err(io::ErrorKind::Other.into());
        }
        disk.kept = disk.dropped.take().unwrap_or_else(|| disk.seen.clone());
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }
}

/// A soft bank that can be broken, and that plays a device where it is told to.
#[derive(Debug)]
pub struct Bank {
    pub soft: SoftBank,
    pub broken: std::sync::atomic::AtomicBool,
    pub device: bool,
}

impl Bank {
    pub fn own(algos: &[HashAlgo]) -> Arc<Self> {
        Arc::new(Self { soft: SoftBank::new(algos).unwrap(), broken: false.into(), device: false })
    }
    pub fn device(algos: &[HashAlgo]) -> Arc<Self> {
        Arc::new(Self { soft: SoftBank::new(algos).unwrap(), broken: false.into(), device: true })
    }
    /// A second process's view of the same device.
    pub fn again(&self) -> Arc<Self> {
        let bank = Self::device(&self.algos());
        for pcr in (0..24).filter_map(PcrIndex::new) {
            for algo in self.algos() {
                let value = self.soft.read(pcr, algo).unwrap().unwrap();
                bank.soft.restore(&[(pcr, value)]).unwrap();
            }
        }
        bank
    }
}

impl PcrBank for Bank {
    fn algos(&self) -> Vec<HashAlgo> {
        self.soft.algos()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        if self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(BankError::Device { code: 0x922, source: "retry later".into() });
        }
        self.soft.extend(pcr, digests)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.soft.read(pcr, algo)
    }

    fn outlives_process(&self) -> bool {
        self.device
    }

    fn restore(&self, registers: &[(PcrIndex, Digest)]) -> Result<(), BankError> {
        assert!(!self.device, "a device is never set");
        self.soft.restore(registers)
    }
}

pub fn template() -> Template {
    Template::named("ima-sig").unwrap()
}

pub fn identity(bank: &dyn PcrBank) -> Identity {
    Identity {
        ns_id: "web-1".to_owned(),
        default_algo: HashAlgo::Sha256,
        template: template(),
        pcr: PcrIndex::DEFAULT,
        banks: bank.algos(),
    }
}

pub fn header(bank: &dyn PcrBank) -> Header {
    let owner = if bank.outlives_process() { Owner::Device } else { Owner::Process };
    Header { id: *b"sixteen bytes of", created: 1_700_000_000, identity: identity(bank), owner }
}

/// A journal that begins.
pub fn fresh(memory: &Memory, bank: &dyn PcrBank) -> Journal {
    Journal::begin(Arc::new(memory.clone()), None, &header(bank)).unwrap()
}

pub fn list_on(journal: Journal, bank: &Arc<Bank>) -> Result<List, MeasureError> {
    let bank = Arc::<Bank>::clone(bank);
    List::new(ListOptions { journal: Some(journal), ..ListOptions::new(template(), bank) })
}

pub fn entry(number: usize) -> Entry {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    let name = format!("/usr/lib/x86_64-linux-gnu/lib{number}.so.{}", "9".repeat(number % 40));
    template().entry(PcrIndex::DEFAULT, &Event::file(digest, name.as_bytes(), FILE)).unwrap()
}

pub fn entries(list: &List) -> Vec<Entry> {
    list.snapshot().entries_from(0).collect::<Result<_, _>>().unwrap()
}

/// The register of a bank after the list's first entries.
pub fn replayed(list: &List, count: usize, algo: HashAlgo) -> Digest {
    let mut pcrs = Pcrs::new(algo).unwrap();
    pcrs.replay(entries(list).iter().take(count));
    pcrs.value(PcrIndex::DEFAULT)
}

/// The list replays to the bank's registers.
pub fn in_step(bank: &dyn PcrBank, list: &List) -> bool {
    bank.algos()
        .into_iter()
        .all(|algo| bank.read(PcrIndex::DEFAULT, algo).unwrap().unwrap() == replayed(list, usize::MAX, algo))
}
