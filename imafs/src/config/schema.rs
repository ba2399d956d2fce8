//! The JSON schema of profiles, from the struct that reads them.

use serde_json::Value;

use super::options::Options;

/// The JSON schema (2020-12) of a profile, for editors and `imafs profile schema`.
pub fn profile_schema() -> Value {
    schemars::schema_for!(Options).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_schema_is_the_programs_own() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/profile.schema.json");
        let shipped: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(shipped, profile_schema(), "remake it: imafs profile schema > docs/profile.schema.json");
    }

    #[test]
    fn the_schema_refuses_unknown_keys_too() {
        assert_eq!(profile_schema().pointer("/additionalProperties"), Some(&Value::Bool(false)));
    }
}
