//! A monitor over real files: what the tests of this crate stand on.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use appraise::{Labels, VerityDigests};
use audit::Audit;
use ima::{HashAlgo, PcrIndex, Template};
use keyring::{Added, Blacklist, Certificate, Keyring};
use measure::{List, ListOptions, PcrBank, SoftBank};
use monitor::{
    Access, BackingFacts, Begun, Closing, Denial, FileState, Grant, Layer, MmapCheck, Mode, Monitor, Names,
    Object, OnMeasureFailure, Options, Step, Ticket, ViolationRule, Work,
};
use policy::{ParseOptions, Policy};

/// A file on disk, as a filesystem would show it to the monitor.
pub struct TestFile {
    pub disk: PathBuf,
    /// Stands for a writable mapping that outlived its open.
    pub written_elsewhere: AtomicBool,
    /// Stands for a mapping for reading that outlived its open.
    pub used_elsewhere: AtomicBool,
    /// Paths of its other names, as far as they are known.
    pub other_names: Mutex<Vec<Vec<u8>>>,
    /// A path that is not that of the file on disk.
    pub path: Mutex<Option<Vec<u8>>>,
    state: FileState,
}

impl Object for TestFile {
    fn state(&self) -> &FileState {
        &self.state
    }

    fn stat_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        self.read_fd()
    }

    fn read_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(File::open(&self.disk)?.into()))
    }

    fn is_in_use(&self) -> std::io::Result<bool> {
        Ok(self.used_elsewhere.load(Ordering::Relaxed))
    }

    fn is_written(&self) -> std::io::Result<bool> {
        Ok(self.written_elsewhere.load(Ordering::Relaxed))
    }

    fn path(&self) -> Vec<u8> {
        let path = self.path.lock().unwrap().clone();
        path.unwrap_or_else(|| [b"/", self.disk.file_name().unwrap().as_encoded_bytes()].concat())
    }

    fn names(&self, links: u32) -> Names {
        let mut paths = vec![self.path()];
        paths.extend(self.other_names.lock().unwrap().iter().cloned());
        Names { more: (links as usize) > paths.len(), paths }
    }

    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        let name = std::str::from_utf8(path).ok()?.trim_start_matches('/');
        let meta = std::fs::metadata(self.disk.parent()?.join(name)).ok()?;
        Some((meta.dev(), meta.ino()))
    }
}

/// One monitor with its list, its trail and a directory of files.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub monitor: Arc<Monitor>,
    pub list: Arc<List>,
    pub audit: Arc<Audit>,
    pub ring: Arc<Keyring>,
}

/// What is set differently from the usual.
#[derive(Clone, Copy)]
pub struct Setting {
    pub mode: Mode,
    pub violations: ViolationRule,
    pub mmap_check: MmapCheck,
    pub verity: VerityDigests,
    /// `fail_securely` over a FUSE backing.
    pub unverifiable: bool,
    pub prefix: &'static str,
    pub hash: HashAlgo,
    /// Labels are in `ec.manifest` of `crates/manifest/testdata`, whose key is trusted.
    pub manifest: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            violations: ViolationRule::Once,
            mmap_check: MmapCheck::Elf,
            verity: VerityDigests::Computed,
            unverifiable: false,
            prefix: "",
            hash: HashAlgo::Sha256,
            manifest: false,
        }
    }
}

impl Bench {
    pub fn new(policy: &str) -> Self {
        Self::with(policy, Setting::default())
    }

    pub fn with(policy: &str, setting: Setting) -> Self {
        Self::over(Arc::new(SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256]).unwrap()), policy, setting)
    }

    /// With a layer of the container's own, which trusts the same ring.
    pub fn layered(host: &str, container: &str, setting: Setting) -> Self {
        let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha256]).unwrap());
        Self::made(bank, host, Some(container), setting)
    }

    pub fn over(bank: Arc<dyn PcrBank>, policy: &str, setting: Setting) -> Self {
        Self::made(bank, policy, None, setting)
    }

    /// With a blacklist of these lines.
    pub fn revoking(policy: &str, blacklist: &str, setting: Setting) -> Self {
        let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha256]).unwrap());
        Self::whole(bank, policy, None, setting, Blacklist::parse(blacklist.as_bytes()).unwrap())
    }

    fn made(bank: Arc<dyn PcrBank>, host: &str, container: Option<&str>, setting: Setting) -> Self {
        Self::whole(bank, host, container, setting, Blacklist::default())
    }

    fn whole(
        bank: Arc<dyn PcrBank>,
        host: &str,
        container: Option<&str>,
        setting: Setting,
        blacklist: Blacklist,
    ) -> Self {
        let parse = |text: &str| {
            let policy = Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap();
            Arc::new(if setting.unverifiable { policy.with_fail_securely() } else { policy })
        };
        let list = Arc::new(List::new(ListOptions::new(Template::named("ima-sig").unwrap(), bank)).unwrap());
        let audit = Arc::new(Audit::in_memory("test"));
        let ring = Arc::new(Keyring::with_blacklist("_ima", Arc::new(blacklist)));
        let options = Options {
            mode: setting.mode,
            host: Layer { policy: parse(host), ring: Arc::clone(&ring) },
            container: container.map(|text| Layer { policy: parse(text), ring: Arc::clone(&ring) }),
            hash: setting.hash,
            labels: if setting.manifest { manifest(&ring) } else { Labels::in_security_ima() },
            template: Template::named("ima-sig").unwrap(),
            pcr: PcrIndex::default(),
            mmap_check: setting.mmap_check,
            verity: setting.verity,
            violations: setting.violations,
            on_measure_failure: OnMeasureFailure::Deny,
            path_prefix: setting.prefix.into(),
            backing: BackingFacts {
                magic: if setting.unverifiable { 0x6573_5546 } else { 0xef53 },
                name: "ext4".to_owned(),
                subtype: None,
                uuid: [0; 16],
                device: "vda".to_owned(),
            },
            audit_info: false,
            list: Arc::clone(&list),
            audit: Arc::clone(&audit),
        };
        // Not on tmpfs: labels of type security.* need a filesystem that keeps them.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        Self { dir, monitor: Monitor::new(options), list, audit, ring }
    }

    pub fn file(&self, name: &str, content: &[u8]) -> Arc<TestFile> {
        let disk = self.dir.path().join(name);
        std::fs::write(&disk, content).unwrap();
        let file = Self::existing(disk);
        settle();
        file
    }

    /// A file that is there already.
    pub fn existing(disk: PathBuf) -> Arc<TestFile> {
        Arc::new(TestFile {
            disk,
            written_elsewhere: AtomicBool::new(false),
            used_elsewhere: AtomicBool::new(false),
            other_names: Mutex::new(Vec::new()),
            path: Mutex::new(None),
            state: FileState::default(),
        })
    }

    pub fn label(&self, file: &TestFile, value: &[u8]) {
        rustix::fs::setxattr(&file.disk, "security.ima", value, rustix::fs::XattrFlags::empty()).unwrap();
        settle();
    }

    pub fn trust(&self, certificate: &str) {
        let path = format!("{}/../appraise/tests/vectors/{certificate}.pem", env!("CARGO_MANIFEST_DIR"));
        for certificate in Certificate::from_pem_or_der(&std::fs::read(path).unwrap()).unwrap() {
            assert!(matches!(self.ring.add(certificate), Added::New));
        }
    }

    pub fn begin(&self, file: &Arc<TestFile>, flags: i32) -> Begun {
        let object: Arc<dyn Object> = Arc::<TestFile>::clone(file);
        self.monitor.begin_open(object, access(flags))
    }

    pub fn open(&self, file: &Arc<TestFile>, flags: i32) -> Result<Grant, Denial> {
        finish(self.begin(file, flags))
    }

    pub fn close(&self, file: &Arc<TestFile>, flags: i32) {
        let object: Arc<dyn Object> = Arc::<TestFile>::clone(file);
        if let Some(closing) = self.monitor.release(object, flags, Ticket::NONE) {
            to_end(closing, Closing::run);
        }
    }

    /// Opens, expects the grant, and leaves it open.
    pub fn hold(&self, file: &Arc<TestFile>, flags: i32) {
        granted(self.begin(file, flags));
    }

    /// Opens, expects the grant, closes.
    pub fn pass(&self, file: &Arc<TestFile>, flags: i32) {
        self.hold(file, flags);
        self.close(file, flags);
    }

    /// Opens and expects a denial with exactly one new record of this cause.
    pub fn refuse(&self, file: &Arc<TestFile>, flags: i32, cause: &str) {
        let before = self.records().len();
        let denial = self.open(file, flags).unwrap_err();
        assert_eq!(denial.errno(), rustix::io::Errno::ACCESS);
        let records = self.records();
        assert_eq!(records.len(), before + 1, "{records:?}");
        let record = records.last().unwrap();
        assert!(record.contains(&format!("\"cause\":\"{cause}\"")), "{record}");
    }

    /// As [`Bench::refuse`], but first there is the record of an `open_writers` violation.
    pub fn violation(&self, file: &Arc<TestFile>, flags: i32, cause: &str) {
        let before = self.records().len();
        assert_eq!(self.open(file, flags).unwrap_err().errno(), rustix::io::Errno::ACCESS);
        let records = self.records();
        assert_eq!(records.len(), before + 2, "{records:?}");
        let told = records.get(before).is_some_and(|record| record.contains("open_writers"));
        let refused = records.last().is_some_and(|record| record.contains(&format!("\"cause\":\"{cause}\"")));
        assert!(told && refused, "{records:?}");
    }

    pub fn records(&self) -> Vec<String> {
        self.audit.read_from(0).lines.iter().map(|line| line.json.to_string()).collect()
    }
}

/// The labels of a manifest that other tools made; its key is put on the ring.
fn manifest(ring: &Arc<Keyring>) -> Labels {
    let vector = |name: &str| {
        std::fs::read(format!("{}/../manifest/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    for certificate in Certificate::from_pem_or_der(&vector("ec.pem")).unwrap() {
        assert!(matches!(ring.add(certificate), Added::New));
    }
    let envelope = manifest::Envelope::parse(vector("ec.manifest")).unwrap();
    Labels::in_manifest(envelope.verify(ring).unwrap().index().unwrap(), Arc::clone(ring)).unwrap()
}

pub fn access(flags: i32) -> Access {
    let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
    Access { tid, fsuid: 0, fsgid: 0, flags, created: false }
}

pub fn finish(begun: Begun) -> Result<Grant, Denial> {
    match begun {
        Begun::Done(result) => result,
        Begun::Work(work) => to_end(work, Work::run),
    }
}

/// Runs work to its end, waiting here where it wants to wait.
pub fn to_end<W, T>(mut work: W, run: impl Fn(W) -> Step<W, T>) -> T {
    loop {
        match run(work) {
            Step::Done(done) => return done,
            Step::Later { work: rest, at } => {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                work = rest;
            }
            Step::Large { work: rest, .. } => work = rest,
        }
    }
}

pub fn granted(begun: Begun) {
    drop(finish(begun).unwrap());
}

/// Waits until a change just made can no longer share its timestamp with a later one.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

pub fn rewrite(file: &TestFile, content: &[u8]) {
    let mut disk = OpenOptions::new().write(true).truncate(true).open(&file.disk).unwrap();
    disk.write_all(content).unwrap();
    drop(disk);
    settle();
}

/// The label on disk.
pub fn label_of(file: &TestFile) -> Vec<u8> {
    let mut value = vec![0; 600];
    let length = rustix::fs::getxattr(&file.disk, "security.ima", value.as_mut_slice()).unwrap();
    value.truncate(length);
    value
}

pub const READ: i32 = 0;
pub const WRITE: i32 = 1;
pub const READ_WRITE: i32 = 2;

/// `04 04` and the SHA-256 of `hello\n`, from `spec/ima-xattr.md` section 3.
pub fn hello_hash() -> Vec<u8> {
    hex::decode("04045891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap()
}

/// A signature over `hello\n` by the certificate `ec`.
pub fn hello_signature() -> Vec<u8> {
    let path = format!("{}/../appraise/tests/vectors/ec.label", env!("CARGO_MANIFEST_DIR"));
    hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}
