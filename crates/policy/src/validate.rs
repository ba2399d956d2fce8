//! Which parts may stand together in one rule (`ima_validate_rule`).
//!
//! The parser notes every part with its place; here the whole is held against one table per func, so
//! that a refusal can point at the part that does not belong.

use bitflags::bitflags;

use crate::error::Reason;
use crate::vocabulary::{Action, Func};

bitflags! {
    /// The kinds of parts a rule can have. `template=` is missing: the kernel does not look at it here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Parts: u32 {
        const MASK = 1;
        const FSMAGIC = 1 << 1;
        const FSNAME = 1 << 2;
        const FS_SUBTYPE = 1 << 3;
        const FSUUID = 1 << 4;
        const UID = 1 << 5;
        const EUID = 1 << 6;
        const GID = 1 << 7;
        const EGID = 1 << 8;
        const FOWNER = 1 << 9;
        const FGROUP = 1 << 10;
        const PCR = 1 << 11;
        const KEYRINGS = 1 << 12;
        const LABEL = 1 << 13;
        const SIGNATURE = 1 << 14;
        const MODSIG = 1 << 15;
        const ALGOS = 1 << 16;
        const VERITY = 1 << 17;
        const DIRECTIO = 1 << 18;
        const PATH = 1 << 19;
        const DIGEST = 1 << 20;
        const DENY = 1 << 21;

        const FILE_SYSTEM = Self::FSMAGIC.bits() | Self::FSNAME.bits() | Self::FS_SUBTYPE.bits()
            | Self::FSUUID.bits();
        const IDS = Self::UID.bits() | Self::EUID.bits() | Self::GID.bits() | Self::EGID.bits()
            | Self::FOWNER.bits() | Self::FGROUP.bits();
        const APPRAISAL = Self::SIGNATURE.bits() | Self::MODSIG.bits() | Self::ALGOS.bits() | Self::DENY.bits();
        /// What every rule about files takes.
        const FILE = Self::MASK.bits() | Self::FILE_SYSTEM.bits() | Self::IDS.bits() | Self::PCR.bits()
            | Self::SIGNATURE.bits() | Self::ALGOS.bits() | Self::DIRECTIO.bits() | Self::PATH.bits()
            | Self::DIGEST.bits() | Self::DENY.bits();
    }
}

/// The parts a rule with this func may have.
const fn allowed(func: Option<Func>) -> Parts {
    let Some(func) = func else { return Parts::FILE.union(Parts::VERITY) };
    match func {
        Func::FileCheck
        | Func::MmapCheck
        | Func::MmapCheckReqprot
        | Func::BprmCheck
        | Func::CredsCheck
        | Func::FirmwareCheck
        | Func::PolicyCheck => Parts::FILE.union(Parts::VERITY),
        Func::ModuleCheck | Func::KexecKernelCheck | Func::KexecInitramfsCheck => {
            Parts::FILE.union(Parts::MODSIG)
        }
        Func::KexecCmdline => Parts::FILE_SYSTEM.union(Parts::IDS).union(Parts::PCR),
        Func::KeyCheck => Parts::UID.union(Parts::GID).union(Parts::PCR).union(Parts::KEYRINGS),
        Func::CriticalData => Parts::UID.union(Parts::GID).union(Parts::PCR).union(Parts::LABEL),
        Func::SetxattrCheck => Parts::ALGOS,
        Func::PostSetattr => Parts::empty(),
    }
}

const fn action_allowed(func: Func, action: Action) -> bool {
    match func {
        Func::KexecCmdline | Func::KeyCheck | Func::CriticalData => {
            matches!(action, Action::Measure | Action::DontMeasure)
        }
        Func::SetxattrCheck => matches!(action, Action::Appraise),
        Func::PostSetattr => false,
        Func::FileCheck
        | Func::MmapCheck
        | Func::MmapCheckReqprot
        | Func::BprmCheck
        | Func::CredsCheck
        | Func::ModuleCheck
        | Func::FirmwareCheck
        | Func::KexecKernelCheck
        | Func::KexecInitramfsCheck
        | Func::PolicyCheck => true,
    }
}

/// What is wrong with a rule as a whole, and where to point.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One of these parts is at fault.
    Part(Parts, Reason),
    /// The func is at fault.
    Func(Reason),
    /// The action is at fault.
    Action(Reason),
}

/// Holds a rule's parts against its action and func.
pub(crate) fn validate(action: Action, func: Option<Func>, parts: Parts) -> Result<(), Fault> {
    let only_with = |part: Parts, wanted: Action| {
        if parts.intersects(part) && action != wanted {
            return Err(Fault::Part(part, Reason::WrongAction { action: wanted }));
        }
        Ok(())
    };
    only_with(Parts::PCR, Action::Measure)?;
    only_with(Parts::APPRAISAL, Action::Appraise)?;

    if let Some(func) = func.filter(|func| !action_allowed(*func, action)) {
        return Err(Fault::Action(Reason::ActionNotForFunc { func }));
    }
    let stray = parts.difference(allowed(func));
    if !stray.is_empty() {
        return Err(Fault::Part(stray, Reason::NotForFunc { func }));
    }
    if func == Some(Func::SetxattrCheck) && !parts.contains(Parts::ALGOS) {
        return Err(Fault::Func(Reason::AlgosMissing));
    }
    if action == Action::Appraise && parts.contains(Parts::VERITY) && !parts.contains(Parts::SIGNATURE) {
        return Err(Fault::Part(Parts::VERITY, Reason::Sigv3Missing));
    }
    if parts.contains(Parts::DENY | Parts::DIRECTIO) {
        return Err(Fault::Part(Parts::DIRECTIO, Reason::NotWithDeny));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table of ima-policy, func by func: actions, then the parts beyond what all of a row share.
    #[test]
    fn each_func_takes_its_row_of_the_table() {
        for func in Func::ALL {
            for part in Parts::all().iter() {
                let data = func.is_data();
                let setxattr = func == Func::SetxattrCheck;
                let whole_file =
                    !data && !setxattr && func != Func::KexecCmdline && func != Func::PostSetattr;
                let modules =
                    matches!(func, Func::ModuleCheck | Func::KexecKernelCheck | Func::KexecInitramfsCheck);
                let expected = match part {
                    Parts::KEYRINGS => func == Func::KeyCheck,
                    Parts::LABEL => func == Func::CriticalData,
                    Parts::UID | Parts::GID | Parts::PCR => func != Func::PostSetattr && !setxattr,
                    Parts::ALGOS => whole_file || setxattr,
                    Parts::MODSIG => modules,
                    Parts::VERITY => whole_file && !modules,
                    Parts::MASK | Parts::SIGNATURE | Parts::DIRECTIO => whole_file,
                    Parts::PATH | Parts::DIGEST | Parts::DENY => whole_file,
                    _ => whole_file || func == Func::KexecCmdline,
                };
                if part.bits().count_ones() == 1 {
                    assert_eq!(allowed(Some(func)).contains(part), expected, "{func} {part:?}");
                }
            }
        }
    }
}
