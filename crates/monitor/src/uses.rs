//! What the loaded policies can ask for at all.

use policy::{Class, Func, RuleFlags};

use crate::options::{Mode, Options};
use crate::state::LAYERS;

/// What the loaded policies can ask at all, so that what none asks for is not found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uses {
    /// Some rule can act.
    pub anything: bool,
    /// Some rule measures.
    pub measure: bool,
    /// Some rule appraises, and the mode is not `off`.
    pub appraise: bool,
    /// Some rule can match at `MMAP_CHECK`.
    pub mmap: bool,
    /// Some rule can match differently for a program than for its interpreter, or at a mapping.
    pub any_exec: bool,
    /// Some rule looks at the path.
    pub path: bool,
    /// The layers at whose word a hash label is redone.
    pub keeps_labels: [bool; LAYERS],
}

impl Uses {
    pub fn of(options: &Options) -> Self {
        let policies = || {
            std::iter::once(&options.host)
                .chain(options.container.as_ref())
                .map(|layer| layer.policy.as_ref())
        };
        let any = |test: &dyn Fn(&policy::Policy) -> bool| policies().any(test);
        let mmap = any(&|policy| policy.uses_func(Func::MmapCheck));
        Self {
            anything: any(&|policy| !policy.active().is_empty()),
            measure: any(&policy::Policy::has_measure),
            appraise: options.mode != Mode::Off && any(&policy::Policy::has_appraise),
            mmap,
            any_exec: mmap
                || any(&|policy| policy.uses_func(Func::BprmCheck) || policy.uses_func(Func::CredsCheck)),
            path: any(&policy::Policy::needs_path),
            // The container's word must not make content pass at the host's rules. It cannot where those want
            // signatures.
            keeps_labels: [true, only_signatures(&options.host.policy)],
        }
    }
}

/// Whether no hash label satisfies any rule of this policy.
fn only_signatures(policy: &policy::Policy) -> bool {
    let hash_will_do = |rule: &policy::Rule| !rule.flags().contains(RuleFlags::SIGNATURE_REQUIRED);
    let appraises = |rule: &&policy::Rule| rule.action().acts() && rule.action().class() == Class::Appraise;
    !policy
        .rules()
        .iter()
        .filter(appraises)
        .any(|rule| rule.func() != Some(Func::SetxattrCheck) && hash_will_do(rule))
}
