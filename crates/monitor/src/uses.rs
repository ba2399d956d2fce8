//! What the loaded policies can ask for at all.

use policy::{Actions, AppraiseClass, Class, Decision, Func, RuleFlags};

use crate::options::{Layer, Mode};
use crate::plan::Hooks;
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
    keeps_labels: [bool; LAYERS],
}

impl Uses {
    pub fn of(mode: Mode, host: &Layer, container: Option<&Layer>, labels_are_writable: bool) -> Self {
        let policies = || std::iter::once(host).chain(container).map(|layer| layer.policy.as_ref());
        let any = |test: &dyn Fn(&policy::Policy) -> bool| policies().any(test);
        let mmap = any(&|policy| policy.uses_func(Func::MmapCheck));
        Self {
            anything: any(&|policy| !policy.active().is_empty()),
            measure: any(&policy::Policy::has_measure),
            appraise: mode != Mode::Off && any(&policy::Policy::has_appraise),
            mmap,
            any_exec: mmap
                || any(&|policy| policy.uses_func(Func::BprmCheck) || policy.uses_func(Func::CredsCheck)),
            path: any(&policy::Policy::needs_path),
            // The container's word must not make content pass at the host's rules. It cannot where those want
            // signatures. A store that takes no labels keeps none up, and then no verdict may stand in the hope of one.
            keeps_labels: [labels_are_writable, labels_are_writable && only_signatures(&host.policy)],
        }
    }
}

impl Uses {
    /// Whether hash labels are written at this layer's word.
    pub fn keeps_labels(&self, layer: usize) -> bool {
        self.keeps_labels.get(layer).copied().unwrap_or(false)
    }

    /// Whether an open for writing that these hooks allow has its label redone at the last close: a rule for opens
    /// asks for it. One for mappings only judges labels, and must find the one that was there.
    pub fn wants_relabel(&self, hooks: &Hooks) -> bool {
        let asks = |decision: &Decision| {
            let appraised = decision.actions.contains(Actions::APPRAISE);
            decision.actions.contains(Actions::HASH)
                || (appraised && decision.appraise_class == AppraiseClass::File)
        };
        hooks.iter().any(|hook| {
            let keepers = hook.decisions.iter().zip(self.keeps_labels).filter(|(_, keeps)| *keeps);
            keepers.filter_map(|(decision, _)| decision.as_ref()).any(asks)
        })
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
