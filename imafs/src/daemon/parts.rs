//! Building what decides and records from a configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use appraise::{Labels, VerityDigests};
use audit::{Audit, Sink};
use keyring::{Added, Blacklist, Certificate, Keyring};
use measure::{List, ListOptions};
use monitor::{BackingFacts, Layer, Monitor};
use policy::{DEFAULT_SHIPPED, ParseOptions, Policy, PolicyError};

use crate::config::{
    AppraiseMode, AuditFormat, AuditTarget, MmapCheck, MountConfig, PolicyChoice, PolicyOwner, TpmFail,
    VerityMode, ViolationMode,
};
use crate::failure::{Failure, chain};

use super::banks::{self, Banks};
use super::journal;
use super::system::plain;

/// The ring's name, as in a kernel without `CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY`.
const RING: &str = "_ima";

/// Endings of the files that are taken from a directory of certificates.
const CERTIFICATE_ENDINGS: [&str; 5] = ["der", "pem", "crt", "cer", "x509"];

/// The ring the container may add to: restricted, as the kernel's is.
const CONTAINER_RING: &str = ".ima";

/// What one mount decides and records with.
#[derive(Debug)]
pub(super) struct Parts {
    pub policy: Arc<Policy>,
    pub ring: Arc<Keyring>,
    /// The container's own layer, still empty, where it may fill it.
    pub container: Option<Layer>,
    pub list: Arc<List>,
    pub audit: Arc<Audit>,
    pub banks: Banks,
}

/// The parts that leave nothing behind when the mount does not come about: all but the list, whose first entry stays in
/// the TPM.
#[derive(Debug)]
pub(super) struct Prepared {
    policy: Policy,
    pub ring: Arc<Keyring>,
    audit: Audit,
}

impl Prepared {
    /// Loads policy and keys, and starts the audit trail.
    ///
    /// `notice` is called with each thing that whoever mounts should know.
    ///
    /// # Errors
    /// The first part that cannot be made, with what to do about it.
    pub(super) fn load(config: &MountConfig, notice: &mut dyn FnMut(String)) -> Result<Self, Failure> {
        let policy = load_policy(&config.policy, config.measure.as_ref(), config.max_rules)?;
        if config.policy == PolicyChoice::Default {
            notice(format!(
                "no policy is named: using '{DEFAULT_SHIPPED}', which records and denies nothing"
            ));
        }
        for warning in policy.warnings() {
            notice(format!("{}: {warning}", config.policy));
        }
        let ring = ring(&config.keys, &config.blacklists, notice)?;
        if policy.has_appraise() && config.appraise != AppraiseMode::Off && ring.list().is_empty() {
            notice(
                "no key is loaded: no signature will be accepted (name certificates with --key)".to_owned(),
            );
        }
        Ok(Self { policy, ring: Arc::new(ring), audit: audit(config, notice)? })
    }

    /// Begins the list, or goes on with it.
    ///
    /// # Errors
    /// As [`Prepared::load`].
    pub(super) fn begin(
        self,
        config: &MountConfig,
        notice: &mut dyn FnMut(String),
    ) -> Result<Parts, Failure> {
        let Self { policy, ring, audit } = self;
        let banks = banks::open(config)?;
        let registers = measure::pcrs::extensible(&*banks.bank());
        let policy = policy.for_registers(registers).map_err(|error| {
            let reason = format!("line {}, {}", error.line, error.source);
            Failure::cannot(format!("use policy {}", config.policy), reason)
                .advise(format!("name a PCR that {} can extend, or none", config.tpm))
        })?;
        let list = list(config, &banks, notice)?;
        let container = (config.policy_owner == PolicyOwner::Container).then(|| Layer {
            policy: Arc::default(),
            ring: Arc::new(Keyring::with_blacklist(CONTAINER_RING, Arc::clone(ring.blacklist()))),
        });
        Ok(Parts {
            policy: Arc::new(policy),
            ring,
            container,
            list: Arc::new(list),
            audit: Arc::new(audit),
            banks,
        })
    }
}

impl Parts {
    /// The monitor of these parts.
    pub(super) fn monitor(
        &self,
        config: &MountConfig,
        backing: BackingFacts,
        labels: Labels,
    ) -> Arc<Monitor> {
        use std::os::unix::ffi::OsStrExt as _;
        Monitor::new(monitor::Options {
            mode: mode(config.appraise),
            host: Layer { policy: Arc::clone(&self.policy), ring: Arc::clone(&self.ring) },
            container: self.container.clone(),
            hash: config.hash,
            labels,
            template: config.template.clone(),
            pcr: config.pcr,
            mmap_check: match config.mmap_check {
                MmapCheck::Elf => monitor::MmapCheck::Elf,
                MmapCheck::All => monitor::MmapCheck::All,
                MmapCheck::Off => monitor::MmapCheck::Off,
            },
            verity: match config.verity {
                VerityMode::Computed => VerityDigests::Computed,
                VerityMode::Backing => VerityDigests::Backing,
            },
            violations: match config.violations {
                ViolationMode::Once => monitor::ViolationRule::Once,
                ViolationMode::Each => monitor::ViolationRule::Each,
            },
            on_measure_failure: match config.tpm_fail {
                TpmFail::Deny => monitor::OnMeasureFailure::Deny,
                TpmFail::Log => monitor::OnMeasureFailure::Log,
            },
            path_prefix: config.path_prefix.as_os_str().as_bytes().to_vec(),
            backing,
            audit_info: config.integrity_audit,
            list: Arc::clone(&self.list),
            audit: Arc::clone(&self.audit),
        })
    }
}

fn mode(mode: AppraiseMode) -> monitor::Mode {
    match mode {
        AppraiseMode::Enforce => monitor::Mode::Enforce,
        AppraiseMode::Log => monitor::Mode::Log,
        AppraiseMode::Fix => monitor::Mode::Fix,
        AppraiseMode::Off => monitor::Mode::Off,
    }
}

/// Loads a policy by name or from its file and says what is wrong with it.
///
/// # Errors
/// When it cannot be read, a line of it makes no rule, or there are more rules than `max_rules`.
pub fn check_policy(
    choice: &PolicyChoice,
    measure: Option<&PolicyChoice>,
    max_rules: Option<u32>,
) -> Result<(), Failure> {
    load_policy(choice, measure, max_rules).map(drop)
}

fn load_policy(
    choice: &PolicyChoice,
    measure: Option<&PolicyChoice>,
    max_rules: Option<u32>,
) -> Result<Policy, Failure> {
    let policy = read_policy(choice)?;
    let policy = match measure {
        Some(more) => measured_by(&policy, more)?,
        None => policy,
    };
    let Some(limit) = max_rules else { return Ok(policy) };
    policy.at_most(usize::try_from(limit).unwrap_or(usize::MAX)).map_err(|error| {
        let reason = format!("line {}, {}", error.line, error.source);
        Failure::cannot(format!("use policy {choice}"), reason)
            .advise("allow more with --max-rules, or join rules")
    })
}

/// A policy with further rules behind its own, where they can only add: the first rule that fits decides.
fn measured_by(policy: &Policy, choice: &PolicyChoice) -> Result<Policy, Failure> {
    let more = read_policy(choice)?;
    if more.has_appraise() {
        return Err(Failure::cannot(format!("measure by {choice}"), "it has rules that appraise")
            .advise("name it with --policy"));
    }
    let text = format!("{policy}\n{more}\n");
    Policy::parse(text.as_bytes(), &ParseOptions::default())
        .map_err(|error| Failure::cannot(format!("measure by {choice}"), error.source))
}

fn read_policy(choice: &PolicyChoice) -> Result<Policy, Failure> {
    let shipped = |name: &str| {
        Policy::shipped(name).ok_or_else(|| Failure::cannot(format!("load policy {name}"), "missing"))
    };
    match choice {
        PolicyChoice::Default => shipped(DEFAULT_SHIPPED),
        PolicyChoice::Shipped(name) => shipped(name),
        PolicyChoice::Builtin(names) => Policy::builtin(names).map_err(|error| Failure::caused(&error)),
        PolicyChoice::File(path) => {
            let text = fs::read(path).map_err(|error| {
                Failure::cannot(format!("read policy {}", path.display()), plain(&error))
                    .advise("name a file, or one of the policies 'imafs mount --help' lists")
            })?;
            Policy::parse(&text, &ParseOptions::default()).map_err(|error| {
                policy_failure(path, &error)
                    .advise(format!("after mending it: imafs policy check {}", path.display()))
            })
        }
    }
}

/// A policy's error with its line and column.
pub fn policy_failure(path: &Path, error: &PolicyError) -> Failure {
    Failure::cannot(
        format!("use policy {}", path.display()),
        format!("line {}, {}", error.line, error.source),
    )
}

/// Reads certificates and blacklists as a mount does and says what is wrong with them.
///
/// # Errors
/// When one cannot be read, is no certificate, or is no blacklist.
pub fn check_keys(
    keys: &[PathBuf],
    blacklists: &[PathBuf],
    notice: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    ring(keys, blacklists, notice).map(drop)
}

fn ring(
    keys: &[PathBuf],
    blacklists: &[PathBuf],
    notice: &mut dyn FnMut(String),
) -> Result<Keyring, Failure> {
    let ring = Keyring::with_blacklist(RING, Arc::new(blacklist(blacklists)?));
    for path in keys {
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if !metadata.is_dir() {
            add(&ring, path, &read(path)?, notice)?;
            continue;
        }
        let before = ring.list().len();
        for file in certificate_files(path).map_err(|error| unreadable(path, &error))? {
            add(&ring, &file, &read(&file)?, notice)?;
        }
        if ring.list().len() == before {
            notice(format!("no certificate in {} (*.{})", path.display(), CERTIFICATE_ENDINGS.join(", *.")));
        }
    }
    Ok(ring)
}

fn blacklist(paths: &[PathBuf]) -> Result<Blacklist, Failure> {
    let mut all = Blacklist::default();
    for path in paths {
        let text = fs::read(path).map_err(|error| {
            Failure::cannot(format!("read blacklist {}", path.display()), plain(&error))
                .advise("name a file of bin:HEX and tbs:HEX lines with --blacklist")
        })?;
        all.extend(Blacklist::parse(&text).map_err(|error| {
            Failure::cannot(format!("use blacklist {}", path.display()), chain(&error))
                .advise("a line is bin: or tbs: and a digest in lowercase hex; comments begin with '#'")
        })?);
    }
    Ok(all)
}

fn certificate_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if CERTIFICATE_ENDINGS.contains(&ending) && path.is_file() {
            files.push(path);
        }
    }
    // The first of two certificates with the same keyid answers, so the order must not be the directory's.
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot(format!("read key {}", path.display()), plain(error))
        .advise("name a certificate, or a directory of certificates, with --key")
}

fn add(ring: &Keyring, path: &Path, bytes: &[u8], notice: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let certificates = Certificate::from_pem_or_der(bytes).map_err(|error| {
        Failure::cannot(format!("use key {}", path.display()), chain(&error)).advise(
            "a certificate in DER or PEM is needed (the public half, as 'imafs-sign keygen' makes it)",
        )
    })?;
    for certificate in certificates {
        let keyid = certificate.keyid();
        match ring.add(certificate) {
            // Of two certificates with one keyid the first answers, as in the kernel; the listing shows both.
            Added::New | Added::Present | Added::Shadowed { .. } => {}
            // The others are still wanted, and what this one signed is refused without it.
            Added::Blacklisted => {
                notice(format!("key {keyid} of {} is on the blacklist: not loaded", path.display()));
            }
        }
    }
    Ok(())
}

fn audit(config: &MountConfig, notice: &mut dyn FnMut(String)) -> Result<Audit, Failure> {
    let targets = match &config.audit {
        Some(targets) => targets.clone(),
        None if Path::new("/run/systemd/journal/socket").exists() => vec![AuditTarget::Journal],
        None => {
            notice(
                "no audit sink is named: the last records are kept in .imafs/audit alone (see --audit)"
                    .to_owned(),
            );
            Vec::new()
        }
    };
    let format = match config.audit_format {
        AuditFormat::Json => audit::Format::Json,
        AuditFormat::Kernel => audit::Format::Kernel,
    };
    let sinks = targets.iter().map(|target| open_sink(target, format)).collect::<Result<_, _>>()?;
    Audit::new(audit::Config::new(config.ns_id.as_str()), sinks)
        .map_err(|error| Failure::cannot("start the audit trail", plain(&error)))
}

fn open_sink(target: &AuditTarget, format: audit::Format) -> Result<Box<dyn Sink>, Failure> {
    let spec = match target {
        AuditTarget::File(path) => audit::SinkSpec::File(path.clone()),
        AuditTarget::Stdout => audit::SinkSpec::Stdout,
        AuditTarget::Journal => audit::SinkSpec::Journal,
        AuditTarget::Kernel => audit::SinkSpec::Kernel,
    };
    spec.open(format).map_err(|error| {
        let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<audit::SocketError>());
        let next_step = match refusal {
            Some(audit::SocketError::Disabled) => "switch it on with 'auditctl -e 1', or boot with audit=1",
            Some(audit::SocketError::Namespace | audit::SocketError::NotPermitted) => {
                "mount as root of the host itself, or name another sink with --audit"
            }
            Some(_) => "name another sink with --audit",
            None => "name a file in a directory that exists, or another sink, with --audit",
        };
        Failure::cannot(format!("open audit sink {target}"), plain(&error)).advise(next_step)
    })
}

fn list(config: &MountConfig, banks: &Banks, notice: &mut dyn FnMut(String)) -> Result<List, Failure> {
    let bank = banks.bank();
    let journal = journal::open(config, &*bank)?;
    if !journal::goes_on(journal.as_ref()) {
        banks.begin(config)?;
    }
    let options = ListOptions {
        default_algo: config.hash,
        pcr: config.pcr,
        list_algos: if banks.tpm().is_some() { bank.algos() } else { config.banks.clone() },
        journal,
        memory: config.list_memory,
        ..ListOptions::new(config.template.clone(), bank)
    };
    let list = List::new(options).map_err(|error| match &config.journal {
        Some(directory) => journal::not_continued(directory, &error),
        None => Failure::cannot("start the measurement list", chain(&error)),
    })?;
    journal::tell(&list, notice);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    fn config(change: impl FnOnce(&mut Options)) -> MountConfig {
        let mut options = Options {
            source: Some("/s".into()),
            target: Some("/t".into()),
            audit: vec![AuditTarget::Stdout],
            ..Options::default()
        };
        change(&mut options);
        MountConfig::resolve(options, true).unwrap()
    }

    fn build(config: &MountConfig) -> (Result<Parts, Failure>, Vec<String>) {
        let mut notices = Vec::new();
        let mut notice = |notice| notices.push(notice);
        let parts = Prepared::load(config, &mut notice).and_then(|parts| parts.begin(config, &mut notice));
        (parts, notices)
    }

    #[test]
    fn a_mount_without_a_policy_says_which_one_it_uses() {
        let (parts, notices) = build(&config(|_| {}));
        assert_eq!(parts.unwrap().policy.to_string(), Policy::shipped("measure").unwrap().to_string());
        assert!(notices[0].starts_with("no policy is named: using 'measure'"), "{notices:?}");
    }

    #[test]
    fn rules_to_measure_by_stand_behind_the_policys_and_appraise_nothing() {
        let with = |measure: &str| {
            let (parts, _) = build(&config(|options| {
                options.policy = Some("exec".into());
                options.measure = Some(measure.into());
            }));
            parts.map(|parts| parts.policy.to_string()).map_err(|failure| failure.to_string())
        };
        let exec = Policy::shipped("exec").unwrap().to_string();
        let both = with("tcb").unwrap();
        assert!(both.starts_with(exec.trim_end()), "{both}");
        assert!(both.len() > exec.len() && both.contains("func=FILE_CHECK"), "{both}");
        assert!(with("appraise_tcb").unwrap_err().contains("appraise"));
    }

    #[test]
    fn a_mount_that_asks_for_signatures_without_a_key_says_so() {
        let (_, notices) = build(&config(|options| options.policy = Some("exec".into())));
        assert!(notices.iter().any(|notice| notice.starts_with("no key is loaded")), "{notices:?}");
        let (_, notices) = build(&config(|options| {
            options.policy = Some("exec".into());
            options.appraise = Some(AppraiseMode::Off);
        }));
        assert_eq!(notices, Vec::<String>::new());
    }

    #[test]
    fn a_bad_policy_is_refused_with_line_and_column() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("p");
        fs::write(&path, "measure func=BPRM_CHECK\nappraise func=BPRM_CHEK\n").unwrap();
        let (parts, _) = build(&config(|options| options.policy = path.to_str().map(str::to_owned)));
        let text = parts.unwrap_err().to_string();
        assert!(text.contains("p: line 2, column 10: \"func=BPRM_CHEK\""), "{text}");
    }

    #[test]
    fn what_is_no_certificate_is_refused_by_name() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("k.der");
        fs::write(&path, "nonsense").unwrap();
        for key in [path.clone(), here.path().to_owned()] {
            let (parts, _) = build(&config(|options| options.key = vec![key]));
            let text = parts.unwrap_err().to_string();
            assert!(text.starts_with(&format!("imafs: cannot use key {}", path.display())), "{text}");
        }
        let missing = here.path().join("none");
        let text = build(&config(|options| options.key = vec![missing])).0.unwrap_err().to_string();
        assert!(text.contains("no such file or directory"), "{text}");
    }

    #[test]
    fn a_blacklisted_key_is_left_out_with_a_notice_and_another_is_loaded() {
        let here = tempfile::tempdir().unwrap();
        let blacklist = here.path().join("revoked");
        // The certificate of crates/keyring/testdata/vector-ec.pem; see the test there.
        let tbs = "tbs:e180132430a6cf6250737977ffb1ee1ac1ab848ed514d4636e4e5bf324eb34e4\n";
        fs::write(&blacklist, tbs).unwrap();
        let key = |name: &str| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../crates/keyring/testdata/vector-{name}.pem"))
        };
        let (parts, notices) = build(&config(|options| {
            options.key = vec![key("ec"), key("rsa")];
            options.blacklist = vec![blacklist];
        }));
        let subjects: Vec<_> =
            parts.unwrap().ring.list().iter().map(|key| key.subject().to_owned()).collect();
        assert_eq!(subjects, ["CN=imafs spec vector RSA"]);
        let told = |notice: &String| notice.starts_with("key d2d8a49d of ") && notice.ends_with("not loaded");
        assert!(notices.iter().any(told), "{notices:?}");
    }

    #[test]
    fn a_blacklist_that_cannot_be_read_whole_is_refused_by_name_and_line() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("revoked");
        let refusal = || {
            let (parts, _) = build(&config(|options| options.blacklist = vec![path.clone()]));
            parts.unwrap_err().to_string()
        };
        assert!(refusal().contains("no such file or directory"), "{}", refusal());
        fs::write(&path, "# revoked\nbin:AB\n").unwrap();
        let wanted = format!("imafs: cannot use blacklist {}: line 2: the digest is not of", path.display());
        assert!(refusal().starts_with(&wanted), "{}", refusal());
        fs::write(&path, "# revoked\nbin:ab\n").unwrap();
        assert!(build(&config(|options| options.blacklist = vec![path.clone()])).0.is_ok());
    }

    #[test]
    fn a_directory_without_certificates_is_told() {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("README"), "not a certificate").unwrap();
        let (parts, notices) = build(&config(|options| options.key = vec![here.path().to_owned()]));
        assert!(parts.is_ok());
        assert!(notices.iter().any(|notice| notice.starts_with("no certificate in")), "{notices:?}");
    }
}
