//! Whether options make sense together; each that does not is told by name, with what to do about it.

use std::path::PathBuf;

use super::modes::{AppraiseMode, ControlMode, LabelStore, PolicyOwner};
use super::mount_config::Source;
use super::options::Options;
use super::tpm_choice::TpmChoice;
use super::values::AuditTarget;

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option, as it is spelled on the command line without dashes.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub next_step: String,
}

/// All that is wrong with a configuration, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|p| format!("{}: {}", p.key, p.message)).collect::<Vec<_>>().join("; "))]
pub struct InvalidConfig(pub Vec<Problem>);

/// Problems found so far.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add(
        &mut self,
        key: &'static str,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) {
        self.0.push(Problem { key, message: message.into(), next_step: next_step.into() });
    }
}

/// The source or the layers; `None`, with a problem, when there is neither or both.
pub(super) fn source(options: &Options, problems: &mut Problems) -> Option<Source> {
    let upper = match (&options.upper, &options.work) {
        (Some(upper), Some(work)) => Some((upper.clone(), work.clone())),
        (None, None) => None,
        (Some(_), None) => {
            problems.add(
                "upper",
                "a writable layer needs a work directory",
                "add --work DIR on its filesystem",
            );
            None
        }
        (None, Some(_)) => {
            problems.add(
                "work",
                "a work directory belongs to a writable layer",
                "add --upper DIR or drop --work",
            );
            None
        }
    };
    match (&options.source, options.lower.is_empty()) {
        (Some(source), true) if options.upper.is_none() => Some(Source::Directory(source.clone())),
        (Some(_), true) => {
            problems.add(
                "upper",
                "layers and a source exclude each other",
                "write the source as --lower DIR",
            );
            None
        }
        (Some(_), false) => {
            problems.add(
                "lower",
                "layers and a source exclude each other",
                "name only the target beside --lower",
            );
            None
        }
        (None, false) => layers(&options.lower, upper),
        (None, true) => {
            problems.add("source", "no source is named", "say what to mount: imafs mount SOURCE TARGET");
            None
        }
    }
}

fn layers(lower: &[PathBuf], upper: Option<(PathBuf, PathBuf)>) -> Option<Source> {
    match (lower, upper) {
        ([only], None) => Some(Source::Directory(only.clone())),
        (lower, Some((upper, work))) => Some(Source::Overlay { lower: lower.to_vec(), upper, work }),
        (layers, None) => Some(Source::Stack(layers.to_vec())),
    }
}

/// Options that contradict each other or make no sense alone.
pub(super) fn settings(options: &Options, foreground: bool, problems: &mut Problems) {
    if !foreground && options.audit.contains(&AuditTarget::Stdout) {
        problems.add(
            "audit",
            "stdout is closed for a mount in the background",
            "add --foreground or use file:PATH, journal or kernel",
        );
    }
    if options.hash_threads.is_some_and(|threads| !(1..=256).contains(&threads)) {
        problems.add("hash-threads", "a number from 1 to 256 is needed", "leave it out for one per CPU");
    }
    let own_rules = options.policy_owner == Some(PolicyOwner::Container);
    if own_rules && options.control != Some(ControlMode::Rw) {
        problems.add(
            "policy-owner",
            "the container loads rules through the control directory, which it cannot write",
            "add --control rw",
        );
    }
    if !own_rules && (options.policy_loads.is_some() || options.policy_rules.is_some()) {
        let key = if options.policy_loads.is_some() { "policy-loads" } else { "policy-rules" };
        problems.add(key, "the container loads no rules", "add --policy-owner container");
    }
    if options.policy_rules == Some(0) {
        problems.add("policy-rules", "a number from 1 on is needed", "use --policy-owner host for none");
    }
    match &options.tpm {
        Some(_) | None if options.bank.is_empty() => {}
        Some(TpmChoice::None) => {
            problems.add("bank", "there are no banks with tpm none", "drop --bank or use --tpm soft");
        }
        Some(TpmChoice::Tcti(_)) if options.host_list.is_some() => {}
        Some(TpmChoice::Own(_) | TpmChoice::Tcti(_)) => {
            problems.add("bank", "the banks of a TPM are those that are active in it", "drop --bank");
        }
        Some(TpmChoice::Soft) | None => {}
    }
    if options.host_list.is_some() && !matches!(options.tpm, Some(TpmChoice::Tcti(_))) {
        let message = "a host list is for a TPM that several mounts use";
        problems.add("host-list", message, "name the TPM: --tpm device:/dev/tpmrm0");
    }
    let has_tpm = matches!(options.tpm, Some(TpmChoice::Tcti(_) | TpmChoice::Own(_)));
    for (key, is_named) in [("attest", options.attest.is_some()), ("ak-cert", options.ak_cert.is_some())] {
        if is_named && !has_tpm {
            problems.add(key, "there is nothing to quote without a TPM", "name one with --tpm");
        }
    }
    // Whoever asks is given the lists of all mounts, and those who may connect are not known.
    if options.attest.is_some() && options.host_list.is_some() {
        let message = "a TPM that mounts share is quoted with the lists of all of them";
        problems.add("attest", message, "leave it out, and ask as root: imafs-attest quote --mount DIR");
    }
    if options.read_only == Some(true) && options.appraise == Some(AppraiseMode::Fix) {
        problems.add(
            "appraise",
            "fix writes labels, which read-only forbids",
            "drop --read-only to label files",
        );
    }
    labels(options, problems);
    if options.list_memory.is_some() && options.journal.is_none() {
        problems.add(
            "list-memory",
            "older entries are read back from a journal, and there is none",
            "add --journal DIR, or drop --list-memory to keep the list in memory",
        );
    }
    let prefix = options.path_prefix.as_deref();
    if prefix.is_some_and(|prefix| !prefix.as_os_str().is_empty() && !prefix.is_absolute()) {
        problems.add("path-prefix", "paths are recorded from the root, so it begins with '/'", "write /NAME");
    }
}

fn labels(options: &Options, problems: &mut Problems) {
    if options.labels == Some(LabelStore::Manifest) {
        if options.appraise == Some(AppraiseMode::Fix) {
            let message = "fix writes labels, which a manifest does not take";
            problems.add("appraise", message, "label the tree with imafs-sign, and make a manifest of it");
        }
        return;
    }
    let named = [
        ("manifest", options.manifest.is_some()),
        ("manifest-image", options.manifest_image.is_some()),
        ("manifest-serial", options.manifest_serial.is_some()),
    ];
    for (key, _) in named.into_iter().filter(|(_, named)| *named) {
        problems.add(key, "labels are not looked for in a manifest", "add --labels manifest");
    }
}
