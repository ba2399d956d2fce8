//! Rules that are valid but will not do what their author may think.

use std::fmt;

use crate::policy::Policy;
use crate::rule::{Rule, RuleFlags};
use crate::vocabulary::{Action, Func};

/// A rule without the effect it seems to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// Its index in [`Policy::rules`].
    pub rule: usize,
    /// The line it came from, counted from 1, where it came from a text.
    pub line: Option<usize>,
    /// What is without effect.
    pub reason: WarningReason,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "policy line {line}: {}", self.reason),
            None => write!(f, "policy rule {}: {}", self.rule + 1, self.reason),
        }
    }
}

/// What is without effect in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningReason {
    /// The func never occurs in a container.
    NeverInContainer(Func),
    /// FUSE shows no requested protections, so this func is never asked about.
    ProtectionUnseen,
    /// `appraise_flag=` has no effect since Linux 6.19 checks the blacklist for every signature.
    AppraiseFlagIgnored,
    /// `gid=` is taken and ignored for keys and data.
    GroupIgnored(Func),
    /// `permit_directio` counts in appraise rules only; a kernel would let it leak into them.
    DirectioElsewhere,
    /// Only the first `SETXATTR_CHECK` rule counts.
    SecondSetxattrCheck,
}

impl fmt::Display for WarningReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverInContainer(func) => {
                write!(f, "the rule never matches: {func} does not happen in a container")
            }
            Self::ProtectionUnseen => f.write_str(
                "the rule never matches: imafs cannot see requested protections, write func=MMAP_CHECK",
            ),
            Self::AppraiseFlagIgnored => f.write_str(
                "appraise_flag= has no effect: rules that want a signature always check the blacklist",
            ),
            Self::GroupIgnored(func) => write!(f, "group ids are not looked at for {func}"),
            Self::DirectioElsewhere => f.write_str(
                "permit_directio has no effect here: in imafs it counts in the appraise rule itself only",
            ),
            Self::SecondSetxattrCheck => {
                f.write_str("the rule has no effect: only the first SETXATTR_CHECK rule counts")
            }
        }
    }
}

impl Policy {
    /// Rules that will not do what they seem to say, in the order of the rules.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut seen_setxattr = false;
        for (index, rule) in self.rules().iter().enumerate() {
            let is_setxattr = rule.func() == Some(Func::SetxattrCheck);
            let second = (is_setxattr && seen_setxattr).then_some(WarningReason::SecondSetxattrCheck);
            seen_setxattr |= is_setxattr;
            let reasons = [second, unseen(rule), ignored_flag(rule), ignored_group(rule), leaked(rule)];
            let line = self.line(index);
            warnings.extend(reasons.into_iter().flatten().map(|reason| Warning {
                rule: index,
                line,
                reason,
            }));
        }
        warnings
    }
}

fn unseen(rule: &Rule) -> Option<WarningReason> {
    let func = rule.func()?;
    match func {
        Func::ModuleCheck
        | Func::FirmwareCheck
        | Func::KexecKernelCheck
        | Func::KexecInitramfsCheck
        | Func::KexecCmdline
        | Func::CriticalData => Some(WarningReason::NeverInContainer(func)),
        Func::MmapCheckReqprot => Some(WarningReason::ProtectionUnseen),
        Func::FileCheck
        | Func::MmapCheck
        | Func::BprmCheck
        | Func::CredsCheck
        | Func::PolicyCheck
        | Func::KeyCheck
        | Func::SetxattrCheck
        | Func::PostSetattr => None,
    }
}

fn ignored_flag(rule: &Rule) -> Option<WarningReason> {
    rule.how.appraise_flag.then_some(WarningReason::AppraiseFlagIgnored)
}

fn ignored_group(rule: &Rule) -> Option<WarningReason> {
    let func = rule.func().filter(|func| func.is_data())?;
    rule.when.group.is_some().then_some(WarningReason::GroupIgnored(func))
}

fn leaked(rule: &Rule) -> Option<WarningReason> {
    let elsewhere = rule.action() != Action::Appraise && rule.flags().contains(RuleFlags::PERMIT_DIRECTIO);
    elsewhere.then_some(WarningReason::DirectioElsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::ParseOptions;

    fn warnings(text: &str) -> Vec<(Option<usize>, WarningReason)> {
        let policy = Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap();
        policy.warnings().into_iter().map(|warning| (warning.line, warning.reason)).collect()
    }

    #[test]
    fn rules_that_cannot_fire_are_named_with_line_and_reason() {
        use WarningReason::*;
        let text = "measure func=FILE_CHECK\n\nmeasure func=MODULE_CHECK\n# x\nappraise func=KEXEC_KERNEL_CHECK\n\
                    measure func=CRITICAL_DATA gid=5\nmeasure func=MMAP_CHECK_REQPROT\n";
        assert_eq!(
            warnings(text),
            [
                (Some(3), NeverInContainer(Func::ModuleCheck)),
                (Some(5), NeverInContainer(Func::KexecKernelCheck)),
                (Some(6), NeverInContainer(Func::CriticalData)),
                (Some(6), GroupIgnored(Func::CriticalData)),
                (Some(7), ProtectionUnseen),
            ]
        );
    }

    #[test]
    fn options_without_effect_are_named() {
        use WarningReason::*;
        let text = "measure permit_directio\nappraise permit_directio\nappraise appraise_flag=blacklist\n\
                    appraise func=SETXATTR_CHECK appraise_algos=sha256\n\
                    appraise func=SETXATTR_CHECK appraise_algos=sha512\n";
        let expected =
            [(Some(1), DirectioElsewhere), (Some(3), AppraiseFlagIgnored), (Some(5), SecondSetxattrCheck)];
        assert_eq!(warnings(text), expected);
    }

    #[test]
    fn a_built_in_rule_is_named_by_its_number() {
        let policy = Policy::builtin("secure_boot").unwrap();
        let first = policy.warnings().into_iter().next().unwrap();
        assert_eq!(
            first.to_string(),
            "policy rule 1: the rule never matches: MODULE_CHECK does not happen in a container"
        );
    }
}
