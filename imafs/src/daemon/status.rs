//! The live facts of a mount, as one JSON object.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use audit::Audit;
use monitor::Monitor;
use tpm::Tpm;

use crate::config::{LabelChoice, MountConfig, PolicyChoice};
use crate::fs::Filesystem;

use super::banks;

/// Where the facts come from. The filesystem is attached once it exists, for it holds the control directory that
/// shows them.
#[derive(Debug)]
pub struct StatusSource {
    config: MountConfig,
    monitor: Arc<Monitor>,
    tpm: Option<Tpm>,
    started: Instant,
    since: u64,
    filesystem: OnceLock<Weak<Filesystem>>,
}

impl StatusSource {
    /// The facts of a mount that begins now.
    pub fn new(config: MountConfig, monitor: Arc<Monitor>, tpm: Option<Tpm>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { config, monitor, tpm, started: Instant::now(), since, filesystem: OnceLock::new() }
    }

    /// The mount's monitor.
    pub(super) fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Makes the filesystem's facts part of the status.
    pub fn attach(&self, filesystem: &Arc<Filesystem>) {
        // A mount has one filesystem; a second would be a mistake of ours and the first one stays.
        drop(self.filesystem.set(Arc::downgrade(filesystem)));
    }

    /// The facts as they are now.
    pub fn facts(&self) -> Value {
        let mut facts = Map::new();
        facts.extend(self.identity());
        facts.extend(self.decisions());
        facts.extend(self.records());
        facts.extend(self.service());
        Value::Object(facts)
    }

    /// The facts that the container may know: nothing of the host's paths and processes.
    pub fn facts_inside(&self) -> Value {
        let mut facts = object(self.facts());
        if matches!(self.config.policy, PolicyChoice::File(_)) {
            facts.insert("policy".to_owned(), Value::String("custom".to_owned()));
        }
        let of_the_host =
            ["pid", "source", "target", "audit-sinks", "journal", "tpm-at", "tpm-reason", "host-list"];
        for of_the_host in of_the_host {
            facts.remove(of_the_host);
        }
        Value::Object(facts)
    }

    fn identity(&self) -> Map<String, Value> {
        let config = &self.config;
        object(json!({
            "ns-id": config.ns_id.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime": self.started.elapsed().as_secs(),
            "since": self.since,
            "source": config.source.to_string(),
            "target": config.target.to_string_lossy(),
            "read-only": config.read_only,
        }))
    }

    fn decisions(&self) -> Map<String, Value> {
        let (options, rules) = (self.monitor.options(), self.monitor.rules());
        let ids = |ring: &keyring::Keyring| -> Vec<String> {
            ring.list().iter().map(|key| key.keyid().to_string()).collect()
        };
        let mut facts = object(json!({
            "policy": self.config.policy.to_string(),
            "rules": rules.host().policy.rules().len(),
            "appraise": crate::control::mode_name(rules.mode()),
            "labels": match self.config.labels {
                LabelChoice::Xattr => "xattr",
                LabelChoice::User => "user",
                LabelChoice::Manifest { .. } => "manifest",
            },
            "hash": options.hash.name(),
            "keys": ids(&rules.host().ring),
            "mmap-check": self.config.mmap_check,
            "verity": self.config.verity,
            "violation-mode": self.config.violations,
            "denials": self.monitor.denials(),
        }));
        facts.extend(options.labels.manifest().map(|manifest| {
            let void = options.labels.void().map(|why| why.to_string());
            ("manifest".to_owned(), of_manifest(manifest, void.as_deref()))
        }));
        if let Some(layer) = rules.container() {
            facts.extend(object(json!({
                "container-rules": layer.policy.rules().len(),
                "container-keys": ids(&layer.ring),
            })));
        }
        facts
    }

    fn records(&self) -> Map<String, Value> {
        let list = &self.monitor.options().list;
        let sinks: Vec<Value> = self.monitor.options().audit.sinks().into_iter().map(sink).collect();
        let mut facts = object(json!({
            "template": list.template().name(),
            "pcr": list.pcr().value(),
            "pcrs": self.pcrs(),
            "measurements": list.count(),
            "measurements-due": list.due(),
            "violations": list.violations(),
            "list-memory": list.resident(),
            "audit-records": records(&self.monitor.options().audit),
            "audit-dropped": self.monitor.options().audit.dropped(),
            "audit-sinks": sinks,
        }));
        facts.extend(list.journal().map(|journal| ("journal".to_owned(), self.journal(journal))));
        if let Some(tpm) = &self.tpm {
            facts.extend(object(banks::facts(tpm)));
            facts.extend(self.config.host_list.iter().map(|name| ("host-list".to_owned(), json!(name))));
        }
        facts
    }

    fn journal(&self, journal: &measure::Journal) -> Value {
        let facts = journal.facts();
        json!({
            "directory": self.config.journal.as_ref().map(|directory| directory.to_string_lossy()),
            "bytes": facts.bytes,
            "entries-written": facts.entries,
            "batches-written": facts.batches,
            "bytes-cut-at-start": journal.repaired(),
        })
    }

    /// The values of the default PCR, by bank.
    fn pcrs(&self) -> Map<String, Value> {
        let list = &self.monitor.options().list;
        let bank = list.bank();
        let value = |algo| bank.read(list.pcr(), algo).ok().flatten();
        let values = bank.algos().into_iter().filter_map(|algo| Some((algo.name().to_owned(), value(algo)?)));
        values.map(|(name, digest)| (name, Value::String(digest.to_hex()))).collect()
    }

    fn service(&self) -> Map<String, Value> {
        let config = &self.config;
        let mut facts = object(json!({
            "cache": config.cache,
            "control": config.control,
            "page-cache-limit": config.page_cache_limit,
            "hash-threads": config.hash_threads,
        }));
        let Some(filesystem) = self.filesystem.get().and_then(Weak::upgrade) else { return facts };
        let (cached, lent) = filesystem.opened();
        facts.extend(object(json!({
            "inodes": filesystem.records(),
            "descriptors-cached": filesystem.cached_descriptors(),
            "file-handles": filesystem.backing().has_handles(),
            "passthrough": filesystem.lends(),
            "opens-cached": cached,
            "opens-passthrough": lent,
        })));
        if let Some(kernel) = filesystem.negotiated() {
            facts.extend(object(json!({
                "fuse-abi": format!("{}.{}", kernel.abi.0, kernel.abi.1),
                "max-write": kernel.max_write,
                "fuse-features": kernel.features,
            })));
        }
        facts
    }
}

fn of_manifest(manifest: &manifest::Manifest, void: Option<&str>) -> Value {
    let header = manifest.header();
    let mut facts = object(json!({
        "image": header.image,
        "serial": header.serial,
        "labels": header.entries,
        "key": manifest.keyid().to_string(),
        "sha256": manifest.file_digest().map(|digest| digest.to_hex()),
        "memory": manifest.memory(),
    }));
    // All labels are as if they were not there.
    facts.extend(void.map(|why| ("void".to_owned(), json!(why))));
    Value::Object(facts)
}

fn records(audit: &Audit) -> u64 {
    audit.read_from(u64::MAX).next.saturating_sub(1)
}

fn sink(sink: audit::SinkStatus) -> Value {
    json!({ "name": sink.name, "written": sink.written, "dropped": sink.dropped })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
