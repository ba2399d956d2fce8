//! One rule as data: what it asks for, when it applies, and how.

use bitflags::bitflags;
use ima::{PcrIndex, Template};

use crate::algos::AlgoSet;
use crate::condition::Conditions;
use crate::error::{Reason, RuleError};
use crate::vocabulary::{Action, Func};

bitflags! {
    /// How content is to be collected and appraised, as rules say it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RuleFlags: u16 {
        /// Only a signature will do (`appraise_type=`).
        const SIGNATURE_REQUIRED = 1;
        /// Opens with O_DIRECT pass although they cannot be appraised (`permit_directio`).
        const PERMIT_DIRECTIO = 2;
        /// The digest is fs-verity's (`digest_type=verity`).
        const VERITY = 4;
        /// The digest is held against the blacklist (every rule that wants a signature).
        const CHECK_BLACKLIST = 8;
        /// An appended signature will do too (`imasig|modsig`).
        const MODSIG_ALLOWED = 0x10;
        /// Content on file systems whose signatures cannot be trusted fails (`fail_securely`).
        const FAIL_UNVERIFIABLE = 0x20;
        /// No label satisfies this rule: the content is refused (`appraise_type=deny`, an
        /// extension). Always together with `SIGNATURE_REQUIRED`.
        const DENY = 0x40;
    }
}

/// A valid rule. Its `Display` is the canonical read-back of the kernel, each part followed by a
/// space and without the newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(crate) action: Action,
    pub(crate) when: Conditions,
    pub(crate) how: Options,
}

/// What a rule says besides its action and conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) flags: RuleFlags,
    pub(crate) pcr: Option<PcrIndex>,
    pub(crate) algos: Option<AlgoSet>,
    pub(crate) template: Option<Template>,
    /// `appraise_flag=` was given: taken and without effect, as in Linux 6.19.
    pub(crate) appraise_flag: bool,
}

impl Rule {
    /// What the rule asks for.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The occasion the rule is about; none: every file.
    #[must_use]
    pub const fn func(&self) -> Option<Func> {
        self.when.func
    }

    /// What the rule says about collecting and appraising.
    #[must_use]
    pub const fn flags(&self) -> RuleFlags {
        self.how.flags
    }

    /// The algorithms of `appraise_algos=`.
    #[must_use]
    pub const fn algos(&self) -> Option<AlgoSet> {
        self.how.algos
    }

    /// The template of `template=`.
    #[must_use]
    pub const fn template(&self) -> Option<&Template> {
        self.how.template.as_ref()
    }

    /// Makes sure that the rule names none but these registers, a bit each.
    pub(crate) fn fits(&self, registers: u64) -> Result<(), RuleError> {
        match self.how.pcr {
            Some(pcr) if registers & (1 << pcr.value()) == 0 => {
                let reason = Reason::NoSuchRegister;
                let (token, errno) = (format!("pcr={pcr}"), reason.errno());
                Err(RuleError { column: 1, token, reason, errno })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The PCR of `pcr=`.
    #[must_use]
    pub const fn pcr(&self) -> Option<PcrIndex> {
        self.how.pcr
    }

    /// Whether deciding by this rule may need the ids of the subject.
    #[must_use]
    pub const fn needs_subject(&self) -> bool {
        self.when.needs_subject()
    }

    /// Whether the rule uses an extension of imafs.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.when.path.is_some() || self.when.digests.is_some() || self.how.flags.contains(RuleFlags::DENY)
    }
}
