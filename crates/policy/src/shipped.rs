//! The policies that come with imafs, from the room `policy/`.

use crate::parse::ParseOptions;
use crate::policy::Policy;

/// Names and texts of the shipped policies.
pub const SHIPPED: [(&str, &str); 3] = [
    ("measure", include_str!("../../../policy/measure")),
    ("exec", include_str!("../../../policy/exec")),
    ("immutable", include_str!("../../../policy/immutable")),
];

/// The shipped policy that is used when none is named: it denies nothing.
pub const DEFAULT_SHIPPED: &str = "measure";

impl Policy {
    /// The shipped policy of this name.
    #[must_use]
    pub fn shipped(name: &str) -> Option<Self> {
        let (_, text) = SHIPPED.into_iter().find(|(known, _)| *known == name)?;
        Self::parse(text.as_bytes(), &ParseOptions::default()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_policy_opens_with_what_it_protects_and_parses_without_a_warning() {
        for (name, text) in SHIPPED {
            assert!(text.starts_with(&format!("# {name}: ")), "{name}");
            assert!(text.contains("\n# Lets through"), "{name}");
            let policy = Policy::parse(text.as_bytes(), &ParseOptions { kernel_only: true }).unwrap();
            assert!(!policy.is_empty());
            assert_eq!(policy.warnings(), [], "{name}");
            assert_eq!(Policy::shipped(name).unwrap().to_string(), policy.to_string());
        }
        assert!(Policy::shipped(DEFAULT_SHIPPED).is_some_and(|policy| !policy.has_appraise()));
        assert!(Policy::shipped("nosuch").is_none());
    }
}
