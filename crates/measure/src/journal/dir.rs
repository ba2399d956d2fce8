//! The directory a journal is in: closed to others, held by one process, and what becomes of the journal found there.
//!
//! A journal appears whole: it is made under another name and renamed. An archived one keeps its bytes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::format::{End, Header, Identity, JournalId, Owner};
use super::scan::{self, Closing, ScanError, Summary};
use super::{CURRENT, Journal, JournalError, MARK, Medium};
use crate::BankError;
use crate::bank::PcrBank;

/// How long a process that is ending may hold the directory.
const PATIENCE: Duration = Duration::from_secs(1);

/// A journal being made.
const DRAFT: &str = "journal.new";

/// What was made of the journal in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was none.
    New,
    /// The list in it goes on.
    Continued,
    /// It was archived under this name, and a new one begun.
    Archived(PathBuf),
}

/// A journal's directory, held by this process.
#[derive(Debug)]
pub struct Held {
    /// The directory.
    pub path: PathBuf,
    /// What was made of what was there.
    pub outcome: Outcome,
    /// The lock, which lasts as long as the descriptor.
    _lock: File,
}

/// Why there is no journal in a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A call on the directory or a file in it failed.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others may enter the directory.
    #[error("{} is open to others (owner {owner}, mode {mode:04o})", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Another process writes there.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The journal cannot be read or is damaged.
    #[error("cannot use {}", path.display())]
    Scan {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ScanError,
    },
    /// The journal is another mount's.
    #[error("the journal in {} is that of the mount {found}, not {wanted}", path.display())]
    OtherMount {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        wanted: String,
    },
    /// The list in it was made with other options.
    #[error("the list in {} was made with {found}, not {wanted}", path.display())]
    OtherOptions {
        /// The directory.
        path: PathBuf,
        /// What it was made with.
        found: String,
        /// What is asked for.
        wanted: String,
    },
    /// The registers cannot be read.
    #[error("cannot read the PCRs")]
    Registers(#[source] BankError),
    /// The header cannot be written.
    #[error("cannot write in {}", path.display())]
    Write {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
}

/// Gives an error of the system its file.
fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::System { action, path, source }
}

impl Journal {
    /// The journal of a mount in a directory of its own: continued, or begun. See `docs/journal.md`.
    ///
    /// # Errors
    /// [`OpenError`]. A journal that is there is unchanged then.
    pub fn open(directory: &Path, identity: &Identity, bank: &dyn PcrBank) -> Result<Self, OpenError> {
        let directory = &private(directory)?;
        let lock = lock(directory)?;
        let draft = directory.join(DRAFT);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(system("remove", &draft)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let owner = if bank.outlives_process() { Owner::Device } else { Owner::Process };
        let (journal, outcome) = match found(directory, identity, owner, bank)? {
            Found::Nothing => (begin(directory, identity, owner)?, Outcome::New),
            Found::Continued(journal) => (*journal, Outcome::Continued),
            Found::Archived(name) => (begin(directory, identity, owner)?, Outcome::Archived(name)),
        };
        Ok(Self { held: Some(Held { path: directory.clone(), outcome, _lock: lock }), ..journal })
    }
}

/// Makes the directory, or sees that nobody else may enter it.
fn private(directory: &Path) -> Result<PathBuf, OpenError> {
    let made = DirBuilder::new().mode(0o700).create(directory);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(system("make", directory)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let path = fs::canonicalize(directory).map_err(system("find", directory))?;
    if let Some(above) = path.parent() {
        // Its name is on disk before anything in it is relied on, whoever has made it.
        sync(above).map_err(system("sync", above))?;
    }
    let metadata = fs::metadata(&path).map_err(system("look at", directory))?;
    if !metadata.is_dir() {
        return Err(system("use", directory)(io::ErrorKind::NotADirectory.into()));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() || mode & 0o077 != 0 {
        return Err(OpenError::Open { path, owner, mode });
    }
    Ok(path)
}

/// Takes the lock. A process whose first thread has ended looks gone while its others still end.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let handle = File::open(directory).map_err(system("open", directory))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(system("lock", directory)(error)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc_nofollow());
    options.open(path)
}

/// `O_NOFOLLOW`: nothing in the directory is a link of ours.
fn libc_nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// What the journal in a directory comes to.
enum Found {
    Nothing,
    Continued(Box<Journal>),
    Archived(PathBuf),
}

fn found(
    directory: &Path,
    identity: &Identity,
    owner: Owner,
    bank: &dyn PcrBank,
) -> Result<Found, OpenError> {
    let path = directory.join(CURRENT);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(system("look at", &path)(error)),
        Ok(_) => {}
    }
    let file: Arc<dyn Medium> = Arc::new(open(&path).map_err(system("open", &path))?);
    let mark = mark(directory)?;
    let summary =
        scan::check(&*file, Some(&*mark)).map_err(|source| OpenError::Scan { path: path.clone(), source })?;
    let header = &summary.header;
    if header.identity.ns_id != identity.ns_id {
        let (found, wanted) = (header.identity.ns_id.clone(), identity.ns_id.clone());
        return Err(OpenError::OtherMount { path: directory.to_owned(), found, wanted });
    }
    if summary.batch == 0 && summary.unfinished == 0 {
        // Nothing was ever served on it: its mount did not come about, and the next one may have other options.
        return Ok(Found::Nothing);
    }
    if let Closing::End(end) = &summary.closing
        && !(owner == Owner::Device && header.owner == Owner::Device && holds(bank, end)?)
    {
        return archive(directory).map(Found::Archived);
    }
    same_options(directory, (&header.identity, header.owner), (identity, owner))?;
    let journal = repaired(file, mark, summary).map_err(system("repair", &path))?;
    Ok(Found::Continued(Box::new(journal)))
}

/// Whether a device still holds what a list left in it.
fn holds(bank: &dyn PcrBank, end: &End) -> Result<bool, OpenError> {
    for register in &end.registers {
        let value = bank.read(register.pcr, register.value.algo()).map_err(OpenError::Registers)?;
        if value != Some(register.value) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mark(directory: &Path) -> Result<Box<dyn Medium>, OpenError> {
    let path = directory.join(MARK);
    Ok(Box::new(open(&path).map_err(system("open", &path))?))
}

fn repaired(file: Arc<dyn Medium>, mark: Box<dyn Medium>, found: Summary) -> io::Result<Journal> {
    super::repair(&*file, &found)?;
    Journal::behind(file, Some(mark), found)
}

/// Gives the current journal the next name of an archived one.
fn archive(directory: &Path) -> Result<PathBuf, OpenError> {
    let numbers = fs::read_dir(directory).map_err(system("list", directory))?.flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("journal.")?.parse::<u32>().ok()
    });
    let next = numbers.max().unwrap_or(0).saturating_add(1);
    let name = directory.join(format!("{CURRENT}.{next:06}"));
    let current = directory.join(CURRENT);
    fs::rename(&current, &name).and_then(|()| sync(directory)).map_err(system("archive", &current))?;
    Ok(name)
}

fn begin(directory: &Path, identity: &Identity, owner: Owner) -> Result<Journal, OpenError> {
    let unwritten = |source| OpenError::Write { path: directory.to_owned(), source };
    let id = random().map_err(system("read", Path::new("/dev/urandom")))?;
    let header = Header { id, created: now(), identity: identity.clone(), owner };
    let draft = directory.join(DRAFT);
    let file: Arc<dyn Medium> = Arc::new(open(&draft).map_err(system("make", &draft))?);
    let journal = Journal::begin(file, Some(mark(directory)?), &header).map_err(unwritten)?;
    let current = directory.join(CURRENT);
    fs::rename(&draft, &current).and_then(|()| sync(directory)).map_err(system("make", &current))?;
    Ok(journal)
}

fn same_options(
    directory: &Path,
    found: (&Identity, Owner),
    wanted: (&Identity, Owner),
) -> Result<(), OpenError> {
    let banks = |identity: &Identity| {
        let names: Vec<&str> = identity.banks.iter().map(|algo| algo.name()).collect();
        if names.is_empty() { "no bank".to_owned() } else { format!("bank {}", names.join(",")) }
    };
    let registers = |owner| match owner {
        Owner::Process => "registers of the process".to_owned(),
        Owner::Device => "registers of a TPM".to_owned(),
    };
    let said = |(identity, owner): (&Identity, Owner)| {
        [
            format!("hash {}", identity.default_algo),
            format!("template {}", identity.template),
            format!("PCR {}", identity.pcr),
            banks(identity),
            registers(owner),
        ]
    };
    let differs = said(found).into_iter().zip(said(wanted)).find(|(found, wanted)| found != wanted);
    match differs {
        None => Ok(()),
        Some((found, wanted)) => Err(OpenError::OtherOptions { path: directory.to_owned(), found, wanted }),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn random() -> io::Result<JournalId> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(id)
}
