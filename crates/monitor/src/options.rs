//! What a monitor is made of. All of it is set before the first request, so nothing races the first process. What
//! changes afterwards, the mode and the container's layer, is in [`Rules`](crate::Rules).

use std::sync::Arc;

use appraise::{Labels, VerityDigests};
use audit::Audit;
use ima::{HashAlgo, PcrIndex, Template};
use keyring::Keyring;
use measure::List;
use policy::Policy;

/// `FUSE_SUPER_MAGIC`, include/uapi/linux/magic.h.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// The appraisal mode of a mount (`ima_appraise=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Deny what does not pass.
    Enforce,
    /// Record what does not pass, and serve it.
    Log,
    /// Record what does not pass, write the hash label it lacks, and serve it.
    Fix,
    /// Ignore appraise rules.
    Off,
}

impl Mode {
    /// Whether this mode lets through nothing that `other` refuses or would judge, and vouches for nothing that
    /// `other` does not: fix writes the labels that later opens pass by, so nothing but itself is as lax.
    #[must_use]
    pub fn is_at_least(self, other: Self) -> bool {
        match self {
            Self::Enforce => true,
            Self::Log => other != Self::Enforce,
            Self::Fix => other == Self::Fix,
            Self::Off => other == Self::Off,
        }
    }
}

/// When an open for reading also counts as a mapping (`MMAP_CHECK`), since FUSE never shows the mapping itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MmapCheck {
    /// When the file is an ELF executable or shared object.
    Elf,
    /// Always.
    All,
    /// Never, except for what the kernel opens to execute.
    Off,
}

/// How often a violation is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationRule {
    /// Once per writer epoch and measured open, as kernels since 6.15 do.
    Once,
    /// At every offending open, as 6.1 does.
    Each,
}

/// What happens to an access whose measurement could not be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMeasureFailure {
    /// It is denied, whatever the appraisal mode.
    Deny,
    /// It is recorded in the audit trail and served.
    Log,
}

/// One layer of policy with the ring its signatures are verified by.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The rules.
    pub policy: Arc<Policy>,
    /// The trusted certificates.
    pub ring: Arc<Keyring>,
}

/// What the conditions `fsmagic=`, `fsname=`, `fs_subtype=` and `fsuuid=` are held against: the backing
/// filesystem, because that is where the files are, not the FUSE mount that shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingFacts {
    /// Superblock magic, as `statfs(2)` gives it.
    pub magic: u64,
    /// Filesystem type name, such as `ext4`.
    pub name: String,
    /// Subtype, for FUSE backings.
    pub subtype: Option<String>,
    /// Superblock UUID; all zero when it has none.
    pub uuid: [u8; 16],
    /// What audit records call the device: `vda`, or the type name where there is no device.
    pub device: String,
}

impl BackingFacts {
    /// Whether the kernel would say of this filesystem that what it shows once need not be what it shows next
    /// (`SB_I_IMA_UNVERIFIABLE_SIGNATURE`, which FUSE alone has).
    #[must_use]
    pub fn is_unverifiable(&self) -> bool {
        self.magic == FUSE_MAGIC
    }
}

/// The parts and settings of one mount's monitor.
#[derive(Debug, Clone)]
pub struct Options {
    /// Appraisal mode to begin with.
    pub mode: Mode,
    /// The rules that bind.
    pub host: Layer,
    /// The container's own rules to begin with, where the host allows them: empty, or none at all.
    pub container: Option<Layer>,
    /// The default hash algorithm: for files without a label, for labels written, for deduplication.
    pub hash: HashAlgo,
    /// Where labels are kept.
    pub labels: Labels,
    /// The default template.
    pub template: Template,
    /// The PCR of measure rules without `pcr=`.
    pub pcr: PcrIndex,
    /// When a read counts as a mapping.
    pub mmap_check: MmapCheck,
    /// Where fs-verity digests come from (`digest_type=verity`).
    pub verity: VerityDigests,
    /// How often violations are recorded.
    pub violations: ViolationRule,
    /// What a failed measurement does.
    pub on_measure_failure: OnMeasureFailure,
    /// Put before each recorded path.
    pub path_prefix: Vec<u8>,
    /// The backing filesystem.
    pub backing: BackingFacts,
    /// Whether each new entry and each that was there already leaves a record (`integrity_audit=1`).
    pub audit_info: bool,
    /// The measurement list.
    pub list: Arc<List>,
    /// The audit trail.
    pub audit: Arc<Audit>,
}
