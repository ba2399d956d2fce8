//! A mount over a scratch directory, undone when dropped.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use appraise::{Labels, VerityDigests};
use audit::Audit;
use ima::{HashAlgo, PcrIndex, Template};
use imafs::fs::{Backing, CacheMode, ControlTree, Filesystem, FsOptions};
use imafs::fuse::{self, MountParams, Unmount};
use keyring::Keyring;
use measure::{List, ListOptions, SoftBank};
use monitor::{BackingFacts, Layer, MmapCheck, Mode, Monitor, OnMeasureFailure, Options, ViolationRule};
use policy::{ParseOptions, Policy};

/// How to mount.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub cache: CacheMode,
    pub passthrough: bool,
    pub page_cache_limit: u64,
    pub policy: &'static str,
}

/// Alone with the source, lending files.
pub const LENDING: Setting = Setting {
    cache: CacheMode::Exclusive,
    passthrough: true,
    page_cache_limit: 1 << 20,
    policy: "measure func=FILE_CHECK\n",
};

/// Alone with the source, every byte through the server.
pub const SERVING: Setting = Setting { passthrough: false, policy: "", ..LENDING };

/// With a host that writes the source as well.
pub const SHARED: Setting = Setting { cache: CacheMode::Shared, ..LENDING };

/// What every mount must get right.
pub const ALL: [Setting; 3] = [LENDING, SERVING, SHARED];

/// One mount.
pub struct Rig {
    pub source: PathBuf,
    pub target: PathBuf,
    pub fs: Arc<Filesystem>,
    pub list: Arc<List>,
    server: Option<JoinHandle<std::io::Result<()>>>,
    scratch: tempfile::TempDir,
}

impl Rig {
    pub fn new(setting: Setting) -> Self {
        Self::build(setting, None, None)
    }

    /// Over a backing tree of the test's own.
    pub fn over(setting: Setting, backing: Backing) -> Self {
        Self::build(setting, Some(backing), None)
    }

    /// With a control directory.
    pub fn with_control(setting: Setting, control: Arc<dyn ControlTree>) -> Self {
        Self::build(setting, None, Some(control))
    }

    fn build(setting: Setting, backing: Option<Backing>, control: Option<Arc<dyn ControlTree>>) -> Self {
        // The directory that holds both is on a disk filesystem: tmpfs keeps no labels.
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&target).unwrap();
        let (monitor, list) = monitor(setting.policy);
        let backing = backing.unwrap_or_else(|| Backing::directory(&source, false).unwrap());
        let options = FsOptions {
            cache: setting.cache,
            passthrough: setting.passthrough,
            page_cache_limit: setting.page_cache_limit,
            hash_threads: 2,
            read_only: false,
        };
        let fs = Filesystem::new(backing, monitor, control, options).unwrap();
        let params = MountParams { fsname: "scratch".into(), subtype: "imafs".into(), read_only: false };
        let fd = fuse::mount(&target, &params).unwrap();
        let served = Arc::clone(&fs);
        let server = std::thread::spawn(move || fuse::serve(fd, &served, |_| ()));
        // The first answer comes after INIT: from here on it is known what was negotiated.
        std::fs::metadata(&target).unwrap();
        Self { source, target, fs, list, server: Some(server), scratch }
    }

    /// The serving thread, for a test that ends the mount itself.
    pub fn take_server(&mut self) -> JoinHandle<std::io::Result<()>> {
        self.server.take().unwrap()
    }

    /// A path in the mount.
    pub fn at(&self, path: &str) -> PathBuf {
        self.target.join(path)
    }

    /// The same path in the source.
    pub fn under(&self, path: &str) -> PathBuf {
        self.source.join(path)
    }

    /// Unmounts now and returns what serving ended with.
    pub fn unmount(mut self) -> std::io::Result<()> {
        // Another test's child, between its fork and its exec, holds copies of this test's descriptors.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = fuse::unmount(&self.target, Unmount::Now) {
            assert!(Instant::now() < deadline, "{error}: {:?}", std::error::Error::source(&error));
            std::thread::sleep(Duration::from_millis(10));
        }
        self.server.take().unwrap().join().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // It may be gone already, when a test unmounted it and then failed.
            fuse::unmount(&self.target, Unmount::WhenUnused).ok();
            // A failing test may still hold files open; its thread must not wait for them.
            if !std::thread::panicking() {
                server.join().unwrap().unwrap();
            }
        }
    }
}

/// A monitor of this policy, with nothing behind it.
pub fn monitor(policy: &str) -> (Arc<Monitor>, Arc<List>) {
    let policy = Policy::parse(policy.as_bytes(), &ParseOptions::default()).unwrap();
    let template = Template::named("ima-sig").unwrap();
    let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha256]).unwrap());
    let list = Arc::new(List::new(ListOptions::new(template.clone(), bank)).unwrap());
    let options = Options {
        mode: Mode::Enforce,
        host: Layer { policy: Arc::new(policy), ring: Arc::new(Keyring::new("_ima")) },
        container: None,
        hash: HashAlgo::Sha256,
        labels: Labels::in_security_ima(),
        template,
        pcr: PcrIndex::default(),
        mmap_check: MmapCheck::Elf,
        verity: VerityDigests::Computed,
        violations: ViolationRule::Once,
        on_measure_failure: OnMeasureFailure::Deny,
        path_prefix: Vec::new(),
        backing: BackingFacts {
            magic: 0xef53,
            name: "ext4".into(),
            subtype: None,
            uuid: [0; 16],
            device: "vda".into(),
        },
        audit_info: false,
        list: Arc::clone(&list),
        audit: Arc::new(Audit::in_memory("test")),
    };
    (Monitor::new(options), list)
}

/// Whether mounting is possible here; a test that cannot run says why.
pub fn can_mount() -> bool {
    let able = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !able {
        assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
        eprintln!("skipped: needs root and /dev/fuse");
    }
    able
}

/// Runs a shell script in `directory` and gives its output; fails the test when the script fails.
pub fn shell(directory: &Path, script: &str) -> String {
    shell_as(directory, &[], script)
}

/// The same as another user, by `setpriv` options.
pub fn shell_as(directory: &Path, who: &[&str], script: &str) -> String {
    let mut command = if who.is_empty() {
        Command::new("sh")
    } else {
        let mut command = Command::new("setpriv");
        command.args(who).arg("sh");
        command
    };
    let output = command.args(["-euc", script]).current_dir(directory).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\nfailed: {}\n{out}{err}", output.status);
    out.into_owned()
}
