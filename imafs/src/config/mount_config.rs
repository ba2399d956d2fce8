//! The fixed configuration of one mount.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ima::{HashAlgo, PcrIndex, Template};

use super::attest_place::AttestPlace;
use super::check::{InvalidConfig, Problems, settings, source};
use super::modes::{
    AppraiseMode, AuditFormat, CacheMode, ControlMode, LabelStore, MmapCheck, MountFlag, PassthroughMode,
    PolicyLoads, PolicyOwner, TpmFail, VerityMode, ViolationMode,
};
use super::options::Options;
use super::owner::Owner;
use super::policy_choice::PolicyChoice;
use super::tpm_choice::TpmChoice;
use super::values::{AuditTarget, HashName, ImageName, NsId};

/// Reads of files up to this size go through the page cache, where the bytes served can be the very bytes that were
/// hashed. Larger ones are served by passthrough, which costs less per byte.
const PAGE_CACHE_LIMIT: u64 = 1 << 20;

/// Rules the container may load: enough for any policy seen so far, and each open walks them all.
const POLICY_RULES: usize = 1024;

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One directory.
    Directory(PathBuf),
    /// An overlay that imafs makes for itself.
    Overlay {
        /// Read-only layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// The overlay's work directory, on the filesystem of `upper`.
        work: PathBuf,
    },
    /// Layers that nobody can write, topmost first; at least two.
    Stack(Vec<PathBuf>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Overlay { lower, upper, work: _ } => joined(f, std::iter::once(upper).chain(lower)),
            Self::Stack(layers) => joined(f, layers.iter()),
        }
    }
}

/// Where the labels are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelChoice {
    /// In `security.ima`.
    Xattr,
    /// In `user.imafs.ima`.
    User,
    /// In a manifest.
    Manifest {
        /// The file, outside the mount; none: the one in the source.
        file: Option<PathBuf>,
        /// What it must call its image.
        image: Option<ImageName>,
        /// The lowest serial it may have; none: what the host has seen.
        serial: Option<u64>,
    },
}

fn joined<'a>(f: &mut fmt::Formatter<'_>, layers: impl Iterator<Item = &'a PathBuf>) -> fmt::Result {
    let all: Vec<_> = layers.map(|path| path.display().to_string()).collect();
    write!(f, "overlay:{}", all.join(":"))
}

/// Everything one mount was asked to be: defaults filled in, paths absolute, no two options at odds.
#[derive(Debug, Clone)]
pub struct MountConfig {
    /// What is served.
    pub source: Source,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The policy that binds.
    pub policy: PolicyChoice,
    /// Rules that are measured by besides.
    pub measure: Option<PolicyChoice>,
    /// The most rules a policy may have; none: any number.
    pub max_rules: Option<u32>,
    /// Certificates and directories of them.
    pub keys: Vec<PathBuf>,
    /// Files of revoked digests.
    pub blacklists: Vec<PathBuf>,
    /// The appraisal mode.
    pub appraise: AppraiseMode,
    /// Where labels are kept.
    pub labels: LabelChoice,
    /// The default hash algorithm.
    pub hash: HashAlgo,
    /// The default template.
    pub template: Template,
    /// The default PCR.
    pub pcr: PcrIndex,
    /// Hash algorithms of the PCR banks, without repetition; also those that get list files of their own.
    pub banks: Vec<HashAlgo>,
    /// Where the PCRs are.
    pub tpm: TpmChoice,
    /// The list of the host by which several mounts share the TPM.
    pub host_list: Option<NsId>,
    /// What becomes of an open whose measurement is not in the PCR.
    pub tpm_fail: TpmFail,
    /// Where the list is kept on disk.
    pub journal: Option<PathBuf>,
    /// Bytes of memory for the list's entries; with a journal alone.
    pub list_memory: Option<usize>,
    /// Where evidence is served.
    pub attest: Option<AttestPlace>,
    /// The certificates that go with it.
    pub ak_cert: Option<PathBuf>,
    /// Audit sinks; `None` when none was named.
    pub audit: Option<Vec<AuditTarget>>,
    /// Shape of audit records.
    pub audit_format: AuditFormat,
    /// Whether additions to the list are recorded, too.
    pub integrity_audit: bool,
    /// Which opens for reading count as mappings.
    pub mmap_check: MmapCheck,
    /// Where fs-verity digests come from.
    pub verity: VerityMode,
    /// Whether others may change the source.
    pub cache: CacheMode,
    /// How the control directory appears.
    pub control: ControlMode,
    /// Whose it is.
    pub control_owner: Owner,
    /// Whether the container may add rules of its own.
    pub policy_owner: PolicyOwner,
    /// How often it may.
    pub policy_loads: PolicyLoads,
    /// How many it may have.
    pub policy_rules: usize,
    /// Whether the kernel may serve backing files.
    pub passthrough: PassthroughMode,
    /// Bytes up to which files are read through the page cache.
    pub page_cache_limit: u64,
    /// Threads that hash and verify, at least 1.
    pub hash_threads: usize,
    /// How often violations are listed.
    pub violations: ViolationMode,
    /// The mount's name on this host.
    pub ns_id: NsId,
    /// Put before every recorded path; empty or absolute.
    pub path_prefix: PathBuf,
    /// Refuse every change.
    pub read_only: bool,
    /// What the kernel leaves out.
    pub mount_flags: Vec<MountFlag>,
    /// The log of a mount in the background, where one was named.
    pub log: Option<PathBuf>,
}

impl MountConfig {
    /// Checks options as a whole and fills in what they leave open.
    ///
    /// Relative paths start at the working directory. `foreground` says whether standard output will stay open.
    ///
    /// # Errors
    /// [`InvalidConfig`] with every problem found, not only the first.
    pub fn resolve(options: Options, foreground: bool) -> Result<Self, InvalidConfig> {
        let mut problems = Problems::default();
        let options = absolute(options, &mut problems);
        let source = source(&options, &mut problems);
        let target = options.target.clone().unwrap_or_else(|| {
            problems.add("target", "no target is named", "say where to mount: imafs mount SOURCE TARGET");
            PathBuf::new()
        });
        let mut chosen = |key, named: Option<&str>| match named.map(PolicyChoice::from_option)? {
            Ok(choice) => Some(choice),
            Err(message) => {
                problems.add(key, message, "write a path with a slash for a file: ./NAME");
                None
            }
        };
        let policies = Policies {
            policy: chosen("policy", options.policy.as_deref()).unwrap_or(PolicyChoice::Default),
            measure: chosen("measure", options.measure.as_deref()),
        };
        settings(&options, foreground, &mut problems);
        // There is nowhere to write to.
        let only_lower = !options.lower.is_empty() && options.upper.is_none();
        let read_only = options.read_only.unwrap_or(false) || only_lower;
        let ns_id = options.ns_id.clone().or_else(|| default_ns_id(&target));
        match (source, ns_id) {
            (Some(source), Some(ns_id)) if problems.0.is_empty() => {
                complete(options, source, target, policies, ns_id, read_only).ok_or(InvalidConfig(Vec::new()))
            }
            (Some(_) | None, Some(_) | None) => Err(InvalidConfig(problems.0)),
        }
    }
}

fn absolute(options: Options, problems: &mut Problems) -> Options {
    match std::env::current_dir() {
        Ok(here) => options.relative_to(&here),
        Err(error) => {
            problems.add("source", format!("the working directory is gone: {error}"), "cd / and try again");
            options
        }
    }
}

/// The policies that were chosen.
struct Policies {
    policy: PolicyChoice,
    measure: Option<PolicyChoice>,
}

/// Puts the parts together; `None` cannot happen, for the default template exists.
fn complete(
    options: Options,
    source: Source,
    target: PathBuf,
    policies: Policies,
    ns_id: NsId,
    read_only: bool,
) -> Option<MountConfig> {
    let template = match &options.template {
        Some(name) => name.template()?,
        None => Template::lookup("ima-sig")?,
    };
    Some(MountConfig {
        source,
        target,
        policy: policies.policy,
        measure: policies.measure,
        max_rules: options.max_rules,
        keys: options.key,
        blacklists: options.blacklist,
        appraise: options.appraise.unwrap_or_default(),
        labels: match options.labels.unwrap_or_default() {
            LabelStore::Xattr => LabelChoice::Xattr,
            LabelStore::User => LabelChoice::User,
            LabelStore::Manifest => LabelChoice::Manifest {
                file: options.manifest,
                image: options.manifest_image,
                serial: options.manifest_serial,
            },
        },
        hash: options.hash.map_or(HashAlgo::Sha256, |name| name.0),
        template,
        pcr: options.pcr.map_or(PcrIndex::DEFAULT, |pcr| pcr.0),
        banks: banks(&options.bank),
        tpm: options.tpm.unwrap_or_default(),
        host_list: options.host_list,
        tpm_fail: options.tpm_fail.unwrap_or_default(),
        list_memory: options.list_memory.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        hash_threads: threads(options.hash_threads, options.journal.is_some()),
        journal: options.journal,
        attest: options.attest,
        ak_cert: options.ak_cert,
        audit: Some(options.audit).filter(|sinks| !sinks.is_empty()),
        audit_format: options.audit_format.unwrap_or_default(),
        integrity_audit: options.integrity_audit.unwrap_or_default(),
        mmap_check: options.mmap_check.unwrap_or_default(),
        verity: options.verity.unwrap_or_default(),
        cache: options.cache.unwrap_or_default(),
        control: options.control.unwrap_or_default(),
        control_owner: options.control_owner.unwrap_or_default(),
        policy_owner: options.policy_owner.unwrap_or_default(),
        policy_loads: options.policy_loads.unwrap_or_default(),
        policy_rules: options.policy_rules.map_or(POLICY_RULES, |rules| rules as usize),
        passthrough: options.passthrough.unwrap_or_default(),
        page_cache_limit: options.page_cache_limit.map_or(PAGE_CACHE_LIMIT, |size| size.0),
        violations: options.violations.unwrap_or_default(),
        ns_id,
        path_prefix: options.path_prefix.unwrap_or_default(),
        read_only,
        mount_flags: options.mount_flag,
        log: options.log,
    })
}

fn banks(named: &[HashName]) -> Vec<HashAlgo> {
    let mut banks = Vec::new();
    let default = [HashName(HashAlgo::Sha1), HashName(HashAlgo::Sha256)];
    for HashName(algo) in if named.is_empty() { &default } else { named } {
        if !banks.contains(algo) {
            banks.push(*algo);
        }
    }
    banks
}

/// One thread waits for the disk while another hashes, hence two on a single CPU. With a journal each new entry waits
/// for the disk: entries that wait together share the wait, so the more threads the better, and waiting costs nothing.
fn threads(named: Option<u16>, journal: bool) -> usize {
    let least = if journal { 16 } else { 2 };
    let default = || std::thread::available_parallelism().map_or(least, NonZeroUsize::get).max(least);
    named.map_or_else(default, usize::from)
}

/// A stable name from the target: its last component, for people, and eight digits of a hash, to tell namesakes apart.
fn default_ns_id(target: &Path) -> Option<NsId> {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = ima::hash(HashAlgo::Sha256, target.as_os_str().as_bytes()).ok()?;
    let tail = hex::encode(digest.bytes().get(..4)?);
    let name = target.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy());
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(32).collect();
    format!("{}-{tail}", if name.is_empty() { "mount" } else { &name }).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    fn plain() -> Options {
        Options { source: Some("/src".into()), target: Some("/mnt/web".into()), ..Options::default() }
    }

    fn problems(options: Options) -> Vec<&'static str> {
        match MountConfig::resolve(options, false) {
            Ok(_) => Vec::new(),
            Err(InvalidConfig(problems)) => problems.iter().map(|problem| problem.key).collect(),
        }
    }

    #[test]
    fn what_is_left_open_gets_the_documented_default() {
        let config = MountConfig::resolve(plain(), false).unwrap();
        assert_eq!(config.policy, PolicyChoice::Default);
        assert_eq!(config.appraise, AppraiseMode::Enforce);
        assert_eq!((config.hash, config.template.name()), (HashAlgo::Sha256, "ima-sig"));
        assert_eq!(config.banks, [HashAlgo::Sha1, HashAlgo::Sha256]);
        assert_eq!(config.page_cache_limit, 1 << 20);
        assert_eq!(config.control, ControlMode::Ro);
        assert!(!config.read_only);
        assert!(config.audit.is_none());
    }

    #[test]
    fn the_same_target_has_the_same_id_and_namesakes_differ() {
        let id = |target: &str| {
            MountConfig::resolve(Options { target: Some(target.into()), ..plain() }, false).unwrap().ns_id
        };
        assert_eq!(id("/mnt/web"), id("/mnt/web"));
        assert_ne!(id("/mnt/web"), id("/srv/web"));
        assert!(id("/mnt/web").as_str().starts_with("web-"));
        assert!(id("/").as_str().starts_with("root-"));
        assert!(id("/mnt/\u{e9}").as_str().starts_with("mount-"));
    }

    #[test]
    fn layers_without_a_writable_one_are_read_only() {
        let lone = Options { source: None, lower: vec!["/l1".into()], ..plain() };
        let config = MountConfig::resolve(lone, false).unwrap();
        assert_eq!((config.source, config.read_only), (Source::Directory("/l1".into()), true));
        let layers = Options { source: None, lower: vec!["/l1".into(), "/l2".into()], ..plain() };
        let config = MountConfig::resolve(layers.clone(), false).unwrap();
        assert_eq!((config.source.to_string(), config.read_only), ("overlay:/l1:/l2".to_owned(), true));
        let writable = Options { upper: Some("/u".into()), work: Some("/w".into()), ..layers };
        let config = MountConfig::resolve(writable, false).unwrap();
        assert!(!config.read_only);
        assert_eq!(config.source.to_string(), "overlay:/u:/l1:/l2");
    }

    #[test]
    fn options_at_odds_are_refused_by_name() {
        let cases: Vec<(Options, &[&str])> = vec![
            (Options { source: None, ..plain() }, &["source"]),
            (Options { target: None, ..plain() }, &["target"]),
            (Options { lower: vec!["/l".into()], ..plain() }, &["lower"]),
            (Options { upper: Some("/u".into()), ..plain() }, &["upper", "upper"]),
            (
                Options { source: None, lower: vec!["/l".into()], upper: Some("/u".into()), ..plain() },
                &["upper"],
            ),
            (
                Options { source: None, lower: vec!["/l".into()], work: Some("/w".into()), ..plain() },
                &["work"],
            ),
            (Options { policy: Some("exce".into()), ..plain() }, &["policy"]),
            (Options { measure: Some("tbc".into()), ..plain() }, &["measure"]),
            (Options { audit: vec![AuditTarget::Stdout], ..plain() }, &["audit"]),
            (Options { hash_threads: Some(0), ..plain() }, &["hash-threads"]),
            (
                Options { tpm: Some(TpmChoice::None), bank: vec![HashName(HashAlgo::Sha1)], ..plain() },
                &["bank"],
            ),
            (Options { host_list: "main".parse().ok(), ..plain() }, &["host-list"]),
            (
                Options { tpm: Some(TpmChoice::Own(None)), host_list: "main".parse().ok(), ..plain() },
                &["host-list"],
            ),
            (
                Options { tpm: Some(TpmChoice::Own(None)), bank: vec![HashName(HashAlgo::Sha1)], ..plain() },
                &["bank"],
            ),
            (Options { read_only: Some(true), appraise: Some(AppraiseMode::Fix), ..plain() }, &["appraise"]),
            (Options { manifest: Some("/m".into()), ..plain() }, &["manifest"]),
            (
                Options { manifest_serial: Some(1), labels: Some(LabelStore::User), ..plain() },
                &["manifest-serial"],
            ),
            (Options { manifest_image: "web".parse().ok(), ..plain() }, &["manifest-image"]),
            (
                Options { labels: Some(LabelStore::Manifest), appraise: Some(AppraiseMode::Fix), ..plain() },
                &["appraise"],
            ),
            (Options { path_prefix: Some("img".into()), ..plain() }, &["path-prefix"]),
            (Options { list_memory: Some(ByteSize(1 << 20)), ..plain() }, &["list-memory"]),
            (
                Options { target: None, hash_threads: Some(999), policy: Some("x".into()), ..plain() },
                &["target", "policy", "hash-threads"],
            ),
        ];
        for (options, keys) in cases {
            assert_eq!(problems(options.clone()), keys, "{options:?}");
        }
        assert_eq!(problems(plain()), Vec::<&str>::new());
    }

    #[test]
    fn a_journal_has_threads_that_wait_for_the_disk_and_may_limit_memory() {
        let journal = || Options { journal: Some("/j".into()), ..plain() };
        let config = MountConfig::resolve(journal(), false).unwrap();
        assert!(config.hash_threads >= 16);
        assert_eq!((config.journal, config.list_memory), (Some("/j".into()), None));
        let limited = Options { list_memory: Some(ByteSize(1 << 20)), hash_threads: Some(3), ..journal() };
        let config = MountConfig::resolve(limited, false).unwrap();
        assert_eq!((config.hash_threads, config.list_memory), (3, Some(1 << 20)));
    }

    #[test]
    fn stdout_is_a_sink_in_the_foreground() {
        let options = Options { audit: vec![AuditTarget::Stdout], ..plain() };
        assert!(MountConfig::resolve(options, true).is_ok());
    }
}
