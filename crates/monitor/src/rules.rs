//! The rules in force: both layers, the mode, and what they can ask at all.
//!
//! One value, never changed, only replaced whole. An access takes the one in force when it arrives and keeps it to
//! its end, so no access is decided half by old rules and half by new ones.

use std::sync::Arc;

use policy::{Action, Func, Policy};

use crate::options::{Layer, Mode};
use crate::state::Generation;
use crate::uses::Uses;

/// The rules in force at one moment.
#[derive(Debug)]
pub struct Rules {
    pub(crate) mode: Mode,
    pub(crate) host: Layer,
    pub(crate) container: Option<Layer>,
    pub(crate) uses: Uses,
    /// Whether the store of labels takes any.
    labels_are_writable: bool,
    /// Counts the replacements.
    number: u64,
}

impl Rules {
    /// `labels_are_writable`: whether the store of labels takes any.
    pub(crate) fn first(
        mode: Mode,
        host: Layer,
        container: Option<Layer>,
        labels_are_writable: bool,
    ) -> Self {
        let uses = Uses::of(mode, &host, container.as_ref(), labels_are_writable);
        Self { mode, host, container, uses, labels_are_writable, number: 1 }
    }

    /// These rules with another mode.
    pub(crate) fn with_mode(&self, mode: Mode) -> Self {
        self.followed_by(mode, self.container.clone())
    }

    /// These rules with another policy in the container's layer, if there is such a layer.
    pub(crate) fn with_container(&self, policy: Arc<Policy>) -> Option<Self> {
        let ring = Arc::clone(&self.container.as_ref()?.ring);
        Some(self.followed_by(self.mode, Some(Layer { policy, ring })))
    }

    fn followed_by(&self, mode: Mode, container: Option<Layer>) -> Self {
        let host = self.host.clone();
        let labels_are_writable = self.labels_are_writable;
        let uses = Uses::of(mode, &host, container.as_ref(), labels_are_writable);
        Self { mode, host, container, uses, labels_are_writable, number: self.number + 1 }
    }

    /// The appraisal mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The rules that bind.
    #[must_use]
    pub fn host(&self) -> &Layer {
        &self.host
    }

    /// The container's own rules, where the host allows them.
    #[must_use]
    pub fn container(&self) -> Option<&Layer> {
        self.container.as_ref()
    }

    /// The layers in order: host, then container.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.host).chain(&self.container)
    }

    /// Whether a policy is taken only from a file that passes appraisal: some rule appraises `POLICY_CHECK`.
    /// Rules are never taken away, so once it holds it holds for good.
    ///
    /// Source: `ima_appraise_flag` in security/integrity/ima/ima_policy.c.
    #[must_use]
    pub fn wants_signed_policy(&self) -> bool {
        let mut rules = self.layers().flat_map(|layer| layer.policy.rules());
        rules.any(|rule| rule.action() == Action::Appraise && rule.func() == Some(Func::PolicyCheck))
    }

    /// Keys and rules in force, as a value that changes when any of them does.
    pub(crate) fn generation(&self) -> Generation {
        let rings = self.layers().map(|layer| layer.ring.generation()).sum();
        Generation { rules: self.number, rings }
    }
}
