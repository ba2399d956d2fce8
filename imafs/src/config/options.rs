//! Every option of a mount, once.
//!
//! The same struct is the long flags of `imafs mount`, its `-o NAME=VALUE` list, the keys of a profile, and the JSON
//! schema; its doc comments are the help text and the schema's descriptions. All are optional here: what is not
//! written anywhere gets its default in [`MountConfig`](super::MountConfig).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attest_place::AttestPlace;
use super::list::one_or_many;
use super::modes::{
    AppraiseMode, AuditFormat, CacheMode, ControlMode, LabelStore, MmapCheck, MountFlag, PassthroughMode,
    PolicyLoads, PolicyOwner, TpmFail, VerityMode, ViolationMode,
};
use super::owner::Owner;
use super::policy_choice::is_policy_name;
use super::tpm_choice::TpmChoice;
use super::values::{AuditTarget, ByteSize, HashName, ImageName, NsId, Pcr, TemplateName};

/// What somebody asked for, before defaults and checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[schemars(title = "imafs mount profile")]
#[command(next_help_heading = "Mount options (each is also a profile key and a name for -o)")]
pub struct Options {
    /// Directory whose files are served
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,

    /// Directory to mount on
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,

    /// Read-only layers of an overlay, topmost first, instead of a source
    #[arg(long, value_name = "DIR", value_delimiter = ':', alias = "lowerdir")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<PathBuf>,

    /// Writable layer of the overlay; without it the mount is read-only
    #[arg(long, value_name = "DIR", alias = "upperdir")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<PathBuf>,

    /// Work directory of the overlay, on the filesystem of the writable layer
    #[arg(long, value_name = "DIR", alias = "workdir")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<PathBuf>,

    /// Policy: measure, exec, immutable, built-in names joined by '|' (tcb, appraise_tcb), or a file [default: measure]
    #[arg(long, value_name = "NAME|FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,

    /// Measure by these rules too: measure, tcb, or a file of rules that appraise nothing
    #[arg(long, value_name = "NAME|FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,

    /// Most rules a policy may have; the namespaces that were proposed for the kernel have 1024 [default: any number]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rules: Option<u32>,

    /// Certificate that signatures may be made by, DER or PEM, or a directory of them (repeatable)
    #[arg(long, value_name = "FILE|DIR")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<PathBuf>,

    /// File of revoked digests, 'bin:HEX' of content and 'tbs:HEX' of certificates, one a line (repeatable)
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub blacklist: Vec<PathBuf>,

    /// What happens when an appraisal does not pass [default: enforce]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appraise: Option<AppraiseMode>,

    /// Where the labels of files are kept [default: xattr]
    #[arg(long, value_name = "STORE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelStore>,

    /// Manifest of labels, for --labels manifest [default: .imafs-manifest in the source]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,

    /// Image that the manifest must be of [default: any that a trusted key signed]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_image: Option<ImageName>,

    /// Lowest serial that the manifest may have [default: the highest this host has seen of its image]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_serial: Option<u64>,

    /// Hash algorithm of labels written and of files that have none [default: sha256]
    #[arg(long, value_name = "ALGO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashName>,

    /// Template of the measurement list [default: ima-sig]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,

    /// PCR that measurements extend [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcr: Option<Pcr>,

    /// Hash algorithms of the PCR banks that are kept in the process [default: sha1,sha256]
    #[arg(long, value_name = "ALGO", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub bank: Vec<HashName>,

    /// Where the PCRs are: soft (in the process), none, a TPM (device:/dev/tpmrm0, swtpm:path=SOCKET), or
    /// swtpm[:STATE-DIR] for one of the mount's own [default: soft]
    #[arg(long, value_name = "TPM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmChoice>,

    /// Share the TPM's PCR with the other mounts that name this list, which has the lines of all of them
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_list: Option<NsId>,

    /// What becomes of an open whose measurement is not in the PCR [default: deny]
    #[arg(long, value_name = "WHAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm_fail: Option<TpmFail>,

    /// Directory where the measurement list is kept on disk, so that it goes on after a crash
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,

    /// Memory for the entries of the list; older ones are read back from the journal [default: all in memory]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_memory: Option<ByteSize>,

    /// Serve evidence (a quote and the list) to whoever connects: unix:PATH or tcp:ADDR:PORT; needs a TPM
    #[arg(long, value_name = "SOCKET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attest: Option<AttestPlace>,

    /// Certificates to hand on with evidence: the attestation key's, and its authorities' after it
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ak_cert: Option<PathBuf>,

    /// Where audit records go: file:PATH, stdout, journal or kernel (repeatable) [default: journal, where there is one]
    #[arg(long, value_name = "SINK")]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub audit: Vec<AuditTarget>,

    /// Shape of audit records in files and on stdout [default: json]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_format: Option<AuditFormat>,

    /// Record each addition to the measurement list too, as integrity_audit=1 does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrity_audit: Option<bool>,

    /// Which opens for reading MMAP_CHECK rules apply to [default: elf]
    #[arg(long, value_name = "WHICH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mmap_check: Option<MmapCheck>,

    /// Where digests for digest_type=verity come from [default: computed]
    #[arg(long, value_name = "FROM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<VerityMode>,

    /// Whether others may change the source meanwhile [default: exclusive]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheMode>,

    /// How the control directory .imafs appears in the mount [default: ro]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlMode>,

    /// Whose the control directory is: the container's root, as the host sees it [default: 0:0]
    #[arg(long, value_name = "UID:GID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_owner: Option<Owner>,

    /// Who may load rules: with 'container' it may add to the host's through .imafs, given --control rw [default: host]
    #[arg(long, value_name = "WHO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_owner: Option<PolicyOwner>,

    /// How often the container may load rules [default: once]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_loads: Option<PolicyLoads>,

    /// How many rules the container may load [default: 1024]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub policy_rules: Option<u32>,

    /// Whether the kernel may read and write backing files by itself [default: auto]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<PassthroughMode>,

    /// Files up to this size are read through the page cache [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache_limit: Option<ByteSize>,

    /// Threads that hash and verify [default: number of CPUs, at least 2, with a journal 16]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub hash_threads: Option<u16>,

    /// How often a violation of one file is listed [default: once]
    #[arg(long, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<ViolationMode>,

    /// Name of this mount on this host [default: made from the target]
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,

    /// Put this before every path in lists and records
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<PathBuf>,

    /// Refuse every change
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,

    /// Mount without device nodes, set-id programs, or programs (repeatable) [default: with all of them]
    #[arg(long, value_name = "FLAG", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub mount_flag: Vec<MountFlag>,

    /// Where a mount in the background logs [default: mounts/NS-ID.log in the run directory]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

impl Options {
    /// Lays these options over `under`: where both name one, these win; a list is taken whole from one side.
    ///
    /// A source on either side hides the other side's layers and the other way round, so that the command line can
    /// replace a profile's source by an overlay.
    #[must_use]
    pub fn over(self, under: Self) -> Self {
        let names_layers = |options: &Self| !options.lower.is_empty() || options.upper.is_some();
        let (hide_layers, hide_source) = (self.source.is_some(), names_layers(&self));
        let under = Self {
            source: under.source.filter(|_| !hide_source),
            lower: if hide_layers { Vec::new() } else { under.lower },
            upper: under.upper.filter(|_| !hide_layers),
            work: under.work.filter(|_| !hide_layers),
            ..under
        };
        Self {
            source: self.source.or(under.source),
            target: self.target.or(under.target),
            lower: list_over(self.lower, under.lower),
            upper: self.upper.or(under.upper),
            work: self.work.or(under.work),
            policy: self.policy.or(under.policy),
            measure: self.measure.or(under.measure),
            max_rules: self.max_rules.or(under.max_rules),
            key: list_over(self.key, under.key),
            blacklist: list_over(self.blacklist, under.blacklist),
            appraise: self.appraise.or(under.appraise),
            labels: self.labels.or(under.labels),
            manifest: self.manifest.or(under.manifest),
            manifest_image: self.manifest_image.or(under.manifest_image),
            manifest_serial: self.manifest_serial.or(under.manifest_serial),
            hash: self.hash.or(under.hash),
            template: self.template.or(under.template),
            pcr: self.pcr.or(under.pcr),
            bank: list_over(self.bank, under.bank),
            tpm: self.tpm.or(under.tpm),
            host_list: self.host_list.or(under.host_list),
            tpm_fail: self.tpm_fail.or(under.tpm_fail),
            journal: self.journal.or(under.journal),
            list_memory: self.list_memory.or(under.list_memory),
            attest: self.attest.or(under.attest),
            ak_cert: self.ak_cert.or(under.ak_cert),
            audit: list_over(self.audit, under.audit),
            audit_format: self.audit_format.or(under.audit_format),
            integrity_audit: self.integrity_audit.or(under.integrity_audit),
            mmap_check: self.mmap_check.or(under.mmap_check),
            verity: self.verity.or(under.verity),
            cache: self.cache.or(under.cache),
            control: self.control.or(under.control),
            control_owner: self.control_owner.or(under.control_owner),
            policy_owner: self.policy_owner.or(under.policy_owner),
            policy_loads: self.policy_loads.or(under.policy_loads),
            policy_rules: self.policy_rules.or(under.policy_rules),
            passthrough: self.passthrough.or(under.passthrough),
            page_cache_limit: self.page_cache_limit.or(under.page_cache_limit),
            hash_threads: self.hash_threads.or(under.hash_threads),
            violations: self.violations.or(under.violations),
            ns_id: self.ns_id.or(under.ns_id),
            path_prefix: self.path_prefix.or(under.path_prefix),
            read_only: self.read_only.or(under.read_only),
            mount_flag: list_over(self.mount_flag, under.mount_flag),
            log: self.log.or(under.log),
        }
    }

    /// Makes every relative path of these options start at `base`.
    ///
    /// A policy is a path when it has a slash in it, or when it is no policy's name and names a file in `base`.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        let place = |path: &mut PathBuf| *path = base.join(&*path);
        let singles = [
            &mut self.source,
            &mut self.target,
            &mut self.upper,
            &mut self.work,
            &mut self.manifest,
            &mut self.journal,
            &mut self.ak_cert,
            &mut self.log,
        ];
        singles.into_iter().flatten().for_each(place);
        self.lower.iter_mut().chain(&mut self.key).chain(&mut self.blacklist).for_each(place);
        for audit in &mut self.audit {
            if let AuditTarget::File(path) = audit {
                place(path);
            }
        }
        self.attest = self.attest.map(|place| place.relative_to(base));
        self.tpm = self.tpm.map(|tpm| tpm.relative_to(base));
        for policy in [&mut self.policy, &mut self.measure].into_iter().flatten() {
            let beside = base.join(&*policy);
            if let Some(beside) = beside
                .to_str()
                .filter(|_| policy.contains('/') || (!is_policy_name(policy) && beside.is_file()))
            {
                beside.clone_into(policy);
            }
        }
        self
    }
}

fn list_over<T>(list: Vec<T>, under: Vec<T>) -> Vec<T> {
    if list.is_empty() { under } else { list }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_profile_key_by_key() {
        let line =
            Options { appraise: Some(AppraiseMode::Log), key: vec!["/a".into()], ..Options::default() };
        let profile = Options {
            appraise: Some(AppraiseMode::Enforce),
            key: vec!["/b".into(), "/c".into()],
            policy: Some("exec".into()),
            ..Options::default()
        };
        let both = line.over(profile);
        assert_eq!(both.appraise, Some(AppraiseMode::Log));
        assert_eq!(both.key, [PathBuf::from("/a")]);
        assert_eq!(both.policy.as_deref(), Some("exec"));
    }

    #[test]
    fn a_source_on_the_command_line_replaces_the_layers_of_the_profile() {
        let layers = || Options {
            lower: vec!["/l".into()],
            upper: Some("/u".into()),
            work: Some("/w".into()),
            ..Options::default()
        };
        let source = || Options { source: Some("/s".into()), ..Options::default() };
        let both = source().over(layers());
        assert_eq!((both.source, both.lower, both.upper, both.work), (Some("/s".into()), vec![], None, None));
        let both = layers().over(source());
        assert_eq!((both.source, both.lower), (None, vec![PathBuf::from("/l")]));
    }

    #[test]
    fn relative_paths_of_a_profile_start_where_the_profile_is() {
        let here = tempfile::tempdir().unwrap();
        std::fs::write(here.path().join("mine"), "").unwrap();
        let written = |policy: &str| Options {
            policy: Some(policy.into()),
            key: vec!["keys/a.der".into(), "/abs".into()],
            blacklist: vec!["revoked".into()],
            audit: vec![AuditTarget::File("a.json".into()), AuditTarget::Journal],
            ..Options::default()
        };
        let placed = written("mine").relative_to(here.path());
        assert_eq!(placed.policy, Some(here.path().join("mine").display().to_string()));
        assert_eq!(placed.blacklist, [here.path().join("revoked")]);
        assert_eq!(placed.key, [here.path().join("keys/a.der"), "/abs".into()]);
        assert_eq!(placed.audit[0], AuditTarget::File(here.path().join("a.json")));
        assert_eq!(written("exec").relative_to(here.path()).policy.as_deref(), Some("exec"));
    }
}
