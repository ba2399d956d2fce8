//! The options of a rule in the making.

use ima::{HashAlgo, PcrIndex, Template};

use super::Builder;
use crate::algos::AlgoSet;
use crate::error::Reason;
use crate::number;
use crate::rule::RuleFlags;
use crate::validate::Parts;
use crate::vocabulary::Action;

/// What each `appraise_type=` that wants a signature switches on (Linux 6.19: the blacklist too).
const SIGNED: RuleFlags = RuleFlags::SIGNATURE_REQUIRED.union(RuleFlags::CHECK_BLACKLIST);

impl Builder<'_> {
    /// The last one counts, as in the kernel.
    pub(super) fn set_pcr(&mut self, value: &str) -> Result<Parts, Reason> {
        let number = number::signed(value).ok_or(Reason::NotANumber { form: "decimal" })?;
        let index = u32::try_from(number).ok().and_then(PcrIndex::new);
        self.how.pcr = Some(index.ok_or(Reason::OutOfRange { expected: "0 to 63" })?);
        Ok(Parts::PCR)
    }

    pub(super) fn set_template(&mut self, value: &str) -> Result<Parts, Reason> {
        if !matches!(self.action, Some((Action::Measure, _))) {
            return Err(Reason::TemplateBeforeMeasure);
        }
        if self.how.template.is_some() {
            return Err(Reason::Repeated);
        }
        self.how.template = Some(Template::lookup(value).ok_or(Reason::UnknownTemplate)?);
        Ok(Parts::empty())
    }

    /// Flags of several types add up, as in the kernel.
    pub(super) fn set_appraise_type(&mut self, value: &str) -> Result<Parts, Reason> {
        let verity = self.how.flags.contains(RuleFlags::VERITY);
        let (part, flags) = match value {
            "imasig" | "imasig|modsig" | "deny" if verity => return Err(Reason::NotWithVerity),
            "sigv3" if !verity => return Err(Reason::VerityMissing),
            "imasig" | "sigv3" => (Parts::SIGNATURE, SIGNED),
            "imasig|modsig" => (Parts::SIGNATURE | Parts::MODSIG, SIGNED | RuleFlags::MODSIG_ALLOWED),
            "deny" => {
                self.extension()?;
                (Parts::DENY, SIGNED | RuleFlags::DENY)
            }
            _ => {
                let expected = if self.options.kernel_only {
                    "imasig, imasig|modsig or sigv3"
                } else {
                    "imasig, imasig|modsig, sigv3 or deny"
                };
                return Err(Reason::UnknownValue { expected });
            }
        };
        let other = if part == Parts::DENY { Parts::SIGNATURE } else { Parts::DENY };
        if self.has(other) {
            return Err(Reason::NotWithDeny);
        }
        self.how.flags |= flags;
        Ok(part)
    }

    /// Any value is taken and none has an effect, as in Linux 6.19; the policy warns of it.
    pub(super) fn set_appraise_flag(&mut self) -> Result<Parts, Reason> {
        self.how.appraise_flag = true;
        Ok(Parts::empty())
    }

    pub(super) fn set_appraise_algos(&mut self, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::ALGOS)?;
        let algos: Result<AlgoSet, Reason> = value.split(',').map(usable_algo).collect();
        self.how.algos = Some(algos?);
        Ok(part)
    }

    pub(super) fn set_digest_type(&mut self, value: &str) -> Result<Parts, Reason> {
        if self.how.flags.contains(RuleFlags::SIGNATURE_REQUIRED) {
            return Err(Reason::DigestTypeTooLate);
        }
        if value != "verity" {
            return Err(Reason::UnknownValue { expected: "verity" });
        }
        self.how.flags |= RuleFlags::VERITY;
        Ok(Parts::VERITY)
    }
}

fn usable_algo(name: &str) -> Result<HashAlgo, Reason> {
    if name.is_empty() {
        return Err(Reason::EmptyItem);
    }
    let name_owned = || name.to_owned();
    let algo = HashAlgo::from_name(name).ok_or_else(|| Reason::UnknownAlgo { name: name_owned() })?;
    if algo.is_in_kernels() { Ok(algo) } else { Err(Reason::UnavailableAlgo { name: name_owned() }) }
}
