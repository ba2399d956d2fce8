//! The options that choose among a few words; evmctl's and the kernel's words where those have one.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to an open whose appraisal does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppraiseMode {
    /// Deny it.
    #[default]
    Enforce,
    /// Record it and let it pass.
    Log,
    /// Write a fresh hash label and let it pass; signatures are left alone.
    Fix,
    /// Do not appraise at all.
    Off,
}

impl fmt::Display for AppraiseMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Fix => "fix",
            Self::Off => "off",
        })
    }
}

/// Who else may change the source while it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// Nobody: the kernel may cache names and attributes for long.
    #[default]
    Exclusive,
    /// Others may: their changes are seen at the next open.
    Shared,
}

/// How the control directory `.imafs` appears in the mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlMode {
    /// Readable, and writable where the kernel's files are.
    Rw,
    /// Readable.
    #[default]
    Ro,
    /// Not in the mount; served on the host only (`imafs status`).
    Host,
    /// Nowhere but in `imafs status`.
    None,
}

/// Whose the policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyOwner {
    /// The host's alone.
    #[default]
    Host,
    /// The container may add rules of its own, which can only deny and measure more.
    Container,
}

/// How often the container may load rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLoads {
    /// Once, as with Debian's kernels.
    #[default]
    Once,
    /// Again and again, later rules behind earlier ones, as with CONFIG_IMA_WRITE_POLICY.
    Many,
}

/// Which opens for reading count as mappings, for FUSE never sees an mmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MmapCheck {
    /// Opens of ELF executables and shared objects.
    #[default]
    Elf,
    /// Every open for reading.
    All,
    /// None.
    Off,
}

/// Whether the kernel may serve reads and writes from the backing file by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PassthroughMode {
    /// Where it offers to.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How often open_writers and ToMToU violations of one file are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ViolationMode {
    /// Once per span of writing, as Linux 6.15 and later do.
    #[default]
    Once,
    /// At every open that finds one, as Linux 6.1 does.
    Each,
}

/// Where the labels of files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelStore {
    /// In security.ima of each file, as the kernel's IMA has it.
    #[default]
    Xattr,
    /// In user.imafs.ima of each file, for storage that drops security.ima.
    User,
    /// In one signed manifest of the whole image, for storage that keeps no attributes.
    Manifest,
}

/// Where the fs-verity digests come from that rules with `digest_type=verity` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerityMode {
    /// From the kernel where the source has fs-verity on for the file, else computed from the content.
    #[default]
    Computed,
    /// From the kernel alone: other files have none and are refused, as Linux does.
    Backing,
}

/// What an access does whose measurement is not in the PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TpmFail {
    /// It is denied.
    #[default]
    Deny,
    /// It is recorded and let through; the PCR is extended as soon as that works again.
    Log,
}

/// The shape of audit records in files and on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// The kernel's `type=1800 ...` line.
    Kernel,
}

/// What the kernel is to leave out of the mount, whatever the source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MountFlag {
    /// Device nodes are only names.
    Nodev,
    /// Set-id bits and file capabilities have no effect.
    Nosuid,
    /// Nothing is executed.
    Noexec,
}
