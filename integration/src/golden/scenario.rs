//! One scenario as it lies on disk, and what the kernel made of it.

use crate::golden::list::{self, Entry};
use crate::golden::outcome::{Operation, normal_record};
use crate::process::repository;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A scenario's input.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its directory's name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
}

/// What the kernel made of a scenario, in the form that outcomes have.
#[derive(Debug)]
pub struct Recording {
    /// What was done before the policy was loaded.
    pub before: Vec<Operation>,
    /// The operations and their results, in order.
    pub operations: Vec<Operation>,
    /// The measurement list, boot_aggregate first.
    pub list: Vec<Entry>,
    /// All files at the end, a line each.
    pub tree: Vec<Vec<u8>>,
    /// `runtime_measurements_count` and `violations`.
    pub counts: (u64, u64),
    /// The `pcr` file: bank, PCR and value; empty when there was no TPM.
    pub registers: String,
}

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), dir: recordings().join(name) }
    }

    /// Names of all scenarios, sorted.
    ///
    /// # Errors
    /// Fails when the directory cannot be listed.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(recordings()).context("cannot list the recordings")? {
            let entry = entry.context("cannot list the recordings")?;
            if entry.path().join("ops").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The lines of `ops` (or `pre`) that are operations; none when there is no such file.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn operations(&self, file: &str) -> Result<Vec<Vec<u8>>> {
        let path = self.dir.join(file);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = read(&path)?;
        let lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_start().to_vec());
        Ok(lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect())
    }

    /// Whether an operation makes the kernel forget cached inodes, everybody's.
    ///
    /// # Errors
    /// As [`Scenario::operations`].
    pub fn drops_caches(&self) -> Result<bool> {
        Ok(self.operations("ops")?.iter().any(|op| op.ends_with(b" dropcaches")))
    }

    /// Whether operations write to the policy file.
    ///
    /// # Errors
    /// As [`Scenario::operations`].
    pub fn loads_policies(&self) -> Result<bool> {
        let loads = |op: &Vec<u8>| {
            let mut words = op.split(|byte| *byte == b' ').skip(1);
            words.next().is_some_and(|verb| matches!(verb, b"policy" | b"rule"))
        };
        Ok(self.operations("ops")?.iter().any(loads))
    }

    /// The mount options that mean what the kernel's command line and policy meant. `scratch` takes a policy file
    /// where the kernel had none.
    ///
    /// # Errors
    /// Fails on an argument of `cmdline` that has no meaning here.
    pub fn mount_options(&self, scratch: &Path) -> Result<Vec<OsString>> {
        let mut options: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| options.extend([name.into(), value]);
        let text = std::fs::read_to_string(self.dir.join("cmdline")).context("cannot read cmdline")?;
        let mut policy = self.dir.join("policy");
        if !policy.exists() {
            policy = scratch.join("no-policy");
            std::fs::write(&policy, "").context("cannot write an empty policy")?;
        }
        let mut policy = policy.into_os_string();
        let mut banks = true;
        for word in text.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("ima_appraise", mode) => option("--appraise", mode.into()),
                ("ima_template" | "ima_template_fmt", template) => option("--template", template.into()),
                ("ima_hash", algo) => option("--hash", algo.into()),
                ("ima_policy", name) => policy = name.into(),
                ("oracle.notpm", _) => banks = false,
                _ => anyhow::bail!("{}: no mount option for {word}", self.name),
            }
        }
        option("--policy", policy);
        if banks {
            option("--bank", "sha1,sha256,sha384,sha512".into());
        } else {
            option("--tpm", "none".into());
        }
        if self.loads_policies()? {
            option("--control", "rw".into());
            option("--policy-owner", "container".into());
        }
        if self.dir.join("keys").exists() {
            option("--key", self.dir.join("keys").into_os_string());
        }
        Ok(options)
    }

    /// Reads what the kernel made of it.
    ///
    /// # Errors
    /// Fails when a file is missing or malformed.
    pub fn recording(&self) -> Result<Recording> {
        let kernel = self.dir.join("kernel");
        let ascii = read(&kernel.join("ascii_runtime_measurements"))?;
        let binary = read(&kernel.join("binary_runtime_measurements"))?;
        let registers = kernel.join("pcr");
        let registers =
            if registers.exists() { String::from_utf8(read(&registers)?)? } else { String::new() };
        let before = kernel.join("pre.tsv");
        Ok(Recording {
            before: if before.exists() { operations(&read(&before)?, b"")? } else { Vec::new() },
            operations: operations(&read(&kernel.join("ops.tsv"))?, &read(&kernel.join("audit.tsv"))?)?,
            list: list::parse(&ascii, &binary).context("in the recorded list")?,
            tree: lines(&read(&kernel.join("tree"))?),
            counts: (
                number(&kernel.join("runtime_measurements_count"))?,
                number(&kernel.join("violations"))?,
            ),
            registers,
        })
    }
}

/// Joins `ops.tsv` with the records of `audit.tsv`.
fn operations(results: &[u8], records: &[u8]) -> Result<Vec<Operation>> {
    let results = lines(results).into_iter().filter(|line| !line.starts_with(b"#"));
    let mut operations = results.map(|line| Operation::parse(&line)).collect::<Result<Vec<_>>>()?;
    for line in lines(records) {
        let tab = line.iter().position(|byte| *byte == b'\t').context("no tab in audit.tsv")?;
        let (number, record) = line.split_at(tab);
        let number: usize = std::str::from_utf8(number)?.parse().context("no operation in audit.tsv")?;
        let place = number.checked_sub(1).and_then(|index| operations.get_mut(index));
        let operation = place.context("audit.tsv names an operation that is not there")?;
        operation.records.push(normal_record(record.trim_ascii()));
    }
    Ok(operations)
}

/// Where the recordings are.
fn recordings() -> PathBuf {
    repository().join("integration/golden")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn number(path: &Path) -> Result<u64> {
    let text = String::from_utf8(read(path)?)?;
    text.trim().parse().with_context(|| format!("{} is not a number", path.display()))
}

/// The lines of a text, which all end in a newline.
pub(super) fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The source of the program that plays operations.
///
/// # Errors
/// Fails when it is not there.
pub fn player_source() -> Result<PathBuf> {
    let path = recordings().join("tools/op.c");
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}
