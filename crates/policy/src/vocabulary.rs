//! The closed vocabulary of the language: actions and their classes, funcs, access masks.
//!
//! Names are the kernel's; each enum knows how it is spelled and nothing else.

use std::fmt;

use bitflags::bitflags;

/// One of the four kinds of action that are decided independently of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `measure` and `dont_measure`.
    Measure,
    /// `appraise` and `dont_appraise`.
    Appraise,
    /// `audit` and `dont_audit`.
    Audit,
    /// `hash` and `dont_hash`.
    Hash,
}

impl Class {
    /// All classes, in the order of their discriminants (the order of `Decision::deciding`).
    pub const ALL: [Self; 4] = [Self::Measure, Self::Appraise, Self::Audit, Self::Hash];

    /// This class as a set of one.
    #[must_use]
    pub const fn bit(self) -> Actions {
        match self {
            Self::Measure => Actions::MEASURE,
            Self::Appraise => Actions::APPRAISE,
            Self::Audit => Actions::AUDIT,
            Self::Hash => Actions::HASH,
        }
    }
}

bitflags! {
    /// A set of things to do about an access; empty means: let it pass.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Actions: u8 {
        /// Append to the measurement list and extend the PCR.
        const MEASURE = 1;
        /// Hold the content against its label.
        const APPRAISE = 2;
        /// Write an audit record with the digest.
        const AUDIT = 4;
        /// Label the file with its hash when it has been written.
        const HASH = 8;
    }
}

/// What a rule asks for, or asks not to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `measure`
    Measure,
    /// `dont_measure`
    DontMeasure,
    /// `appraise`
    Appraise,
    /// `dont_appraise`
    DontAppraise,
    /// `audit`
    Audit,
    /// `dont_audit` (Linux 6.19)
    DontAudit,
    /// `hash`
    Hash,
    /// `dont_hash`
    DontHash,
}

impl Action {
    const ALL: [Self; 8] = [
        Self::Measure,
        Self::DontMeasure,
        Self::Appraise,
        Self::DontAppraise,
        Self::Audit,
        Self::DontAudit,
        Self::Hash,
        Self::DontHash,
    ];

    /// The keyword.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::DontMeasure => "dont_measure",
            Self::Appraise => "appraise",
            Self::DontAppraise => "dont_appraise",
            Self::Audit => "audit",
            Self::DontAudit => "dont_audit",
            Self::Hash => "hash",
            Self::DontHash => "dont_hash",
        }
    }

    /// The action of exactly this spelling.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// The class a rule with this action decides.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Measure | Self::DontMeasure => Class::Measure,
            Self::Appraise | Self::DontAppraise => Class::Appraise,
            Self::Audit | Self::DontAudit => Class::Audit,
            Self::Hash | Self::DontHash => Class::Hash,
        }
    }

    /// Whether something is to be done (`measure`), rather than left alone (`dont_measure`).
    #[must_use]
    pub const fn acts(self) -> bool {
        match self {
            Self::Measure | Self::Appraise | Self::Audit | Self::Hash => true,
            Self::DontMeasure | Self::DontAppraise | Self::DontAudit | Self::DontHash => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The occasion of a check: the kernel's `enum ima_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Func {
    /// A file is opened.
    FileCheck,
    /// A file is mapped executable.
    MmapCheck,
    /// A mapping asks for execution, before the kernel adds or drops protections (6.3).
    MmapCheckReqprot,
    /// A program is started.
    BprmCheck,
    /// A program is started, seen with its new credentials.
    CredsCheck,
    /// A kernel module is loaded.
    ModuleCheck,
    /// Firmware is loaded.
    FirmwareCheck,
    /// A kernel is loaded by kexec.
    KexecKernelCheck,
    /// An initramfs is loaded by kexec.
    KexecInitramfsCheck,
    /// A policy is loaded by path.
    PolicyCheck,
    /// The command line of a kexec kernel.
    KexecCmdline,
    /// A key is added to a keyring.
    KeyCheck,
    /// A kernel subsystem hands over data to be measured.
    CriticalData,
    /// `security.ima` is written.
    SetxattrCheck,
    /// Attributes of a file have changed. Internal: rules cannot name it, and the func and mask of
    /// rules are ignored for it.
    PostSetattr,
}

impl Func {
    /// All funcs, in the order of their discriminants.
    pub const ALL: [Self; 15] = [
        Self::FileCheck,
        Self::MmapCheck,
        Self::MmapCheckReqprot,
        Self::BprmCheck,
        Self::CredsCheck,
        Self::ModuleCheck,
        Self::FirmwareCheck,
        Self::KexecKernelCheck,
        Self::KexecInitramfsCheck,
        Self::PolicyCheck,
        Self::KexecCmdline,
        Self::KeyCheck,
        Self::CriticalData,
        Self::SetxattrCheck,
        Self::PostSetattr,
    ];

    /// The canonical spelling, as the policy is read back.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileCheck => "FILE_CHECK",
            Self::MmapCheck => "MMAP_CHECK",
            Self::MmapCheckReqprot => "MMAP_CHECK_REQPROT",
            Self::BprmCheck => "BPRM_CHECK",
            Self::CredsCheck => "CREDS_CHECK",
            Self::ModuleCheck => "MODULE_CHECK",
            Self::FirmwareCheck => "FIRMWARE_CHECK",
            Self::KexecKernelCheck => "KEXEC_KERNEL_CHECK",
            Self::KexecInitramfsCheck => "KEXEC_INITRAMFS_CHECK",
            Self::PolicyCheck => "POLICY_CHECK",
            Self::KexecCmdline => "KEXEC_CMDLINE",
            Self::KeyCheck => "KEY_CHECK",
            Self::CriticalData => "CRITICAL_DATA",
            Self::SetxattrCheck => "SETXATTR_CHECK",
            Self::PostSetattr => "POST_SETATTR",
        }
    }

    /// The func a rule means by `name`: canonical names and the old aliases `PATH_CHECK` and
    /// `FILE_MMAP`, never the internal `POST_SETATTR`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "PATH_CHECK" => return Some(Self::FileCheck),
            "FILE_MMAP" => return Some(Self::MmapCheck),
            _ => {}
        }
        Self::ALL.into_iter().find(|func| *func != Self::PostSetattr && func.name() == name)
    }

    /// Whether the check is of a buffer named by a keyring or a label, not of a file.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self, Self::KeyCheck | Self::CriticalData)
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

bitflags! {
    /// What an access wants to do; the kernel's `MAY_*` bits.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Mask: u8 {
        /// `MAY_EXEC`
        const EXEC = 1;
        /// `MAY_WRITE`
        const WRITE = 2;
        /// `MAY_READ`
        const READ = 4;
        /// `MAY_APPEND`
        const APPEND = 8;
        /// `MAY_ACCESS`: what is asked when a new file is made. No rule can name it, so a rule
        /// with `mask=` never matches there.
        const ACCESS = 0x10;
    }
}

impl Mask {
    /// The four bits a rule can name.
    const NAMED: [(&'static str, Self); 4] = [
        ("MAY_EXEC", Self::EXEC),
        ("MAY_WRITE", Self::WRITE),
        ("MAY_READ", Self::READ),
        ("MAY_APPEND", Self::APPEND),
    ];

    /// The bit a rule means by `name` (`MAY_READ`), without the caret.
    #[must_use]
    pub fn from_keyword(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, mask)| mask)
    }

    /// The spelling of a single bit a rule can name.
    #[must_use]
    pub fn keyword(self) -> Option<&'static str> {
        Self::NAMED.into_iter().find(|(_, mask)| *mask == self).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_func_but_the_internal_one_is_found_by_its_name() {
        for (index, func) in Func::ALL.into_iter().enumerate() {
            assert_eq!(func as usize, index);
            let expected = (func != Func::PostSetattr).then_some(func);
            assert_eq!(Func::from_name(func.name()), expected);
        }
        assert_eq!(Func::from_name("PATH_CHECK"), Some(Func::FileCheck));
        assert_eq!(Func::from_name("FILE_MMAP"), Some(Func::MmapCheck));
        assert_eq!(Func::from_name("NONE"), None);
        assert_eq!(Func::from_name("file_check"), None);
    }

    #[test]
    fn classes_are_numbered_as_listed() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(action));
            assert_eq!(action.acts(), !action.name().starts_with("dont_"));
        }
    }
}
