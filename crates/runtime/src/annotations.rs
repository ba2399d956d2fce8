//! What a container asks for, by annotations of its `config.json` that begin with `org.imafs.`.
//!
//! Whoever starts a container writes them, so they choose among what the host permits (`config.rs`) and are refused,
//! not ignored, when they ask for anything else: a mistyped annotation must not start an unchecked container.

use std::collections::HashMap;

use crate::Error;

const PREFIX: &str = "org.imafs.";

/// Every annotation behind that prefix, with what it asks for.
pub const ALL: [(&str, &str); 8] = [
    ("profile", "a profile of runtime.yaml, by name"),
    ("policy", "a policy that the profile permits"),
    ("keys", "certificates that the profile permits, separated by commas"),
    ("appraise", "enforce, log, fix or off: what is stricter than the profile, or permitted by it"),
    ("measure", "measure or tcb, or a file of rules that the profile permits: measured by besides"),
    ("tpm", "a TPM that the profile permits"),
    ("contid", "the mount's name on the host and in records, instead of the container's id"),
    ("required", "true: do not start without a profile"),
];

/// The annotations of one container; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `org.imafs.profile`: a profile of the host, by name.
    pub profile: Option<String>,
    /// `org.imafs.policy`: a policy the profile permits.
    pub policy: Option<String>,
    /// `org.imafs.keys`: key files or directories the profile permits, separated by commas.
    pub keys: Vec<String>,
    /// `org.imafs.appraise`: an appraisal mode, as strict as the profile's or permitted by it.
    pub appraise: Option<String>,
    /// `org.imafs.measure`: rules to measure by besides the policy's.
    pub measure: Option<String>,
    /// `org.imafs.tpm`: a TPM the profile permits.
    pub tpm: Option<String>,
    /// `org.imafs.contid`: the mount's name on the host and in records, instead of the container's id.
    pub contid: Option<String>,
    /// `org.imafs.required`: do not start without a profile.
    pub required: bool,
}

impl Annotations {
    /// Reads those of ours among all annotations of a container.
    ///
    /// # Errors
    /// [`Error::Annotation`] for an unknown name or an impossible value.
    pub fn read(all: Option<&HashMap<String, String>>) -> Result<Self, Error> {
        let mut found = Self::default();
        for (name, value) in all.into_iter().flatten() {
            let Some(short) = name.strip_prefix(PREFIX) else { continue };
            let refuse = |reason: &str| Error::Annotation { name: name.clone(), reason: reason.to_owned() };
            if value.trim().is_empty() {
                return Err(refuse("it is empty"));
            }
            let text = Some(value.trim().to_owned());
            match short {
                "profile" => found.profile = text,
                "policy" => found.policy = text,
                "appraise" => found.appraise = text,
                "measure" => found.measure = text,
                "tpm" => found.tpm = text,
                "contid" => found.contid = text,
                "keys" => found.keys = value.split(',').map(|key| key.trim().to_owned()).collect(),
                "required" => {
                    found.required =
                        value.trim().parse().map_err(|_| refuse("it is neither true nor false"))?;
                }
                _ => {
                    let known = ALL.map(|(name, _)| name).join(", ");
                    return Err(refuse(&format!("there is no such annotation: {known}")));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Annotations, String> {
        let all = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Annotations::read(Some(&all)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_ours_is_not_looked_at() {
        let read = read(&[("io.podman.annotations.init", "TRUE"), ("org.imafsx", "x"), ("org.imafs", "x")]);
        assert_eq!(read, Ok(Annotations::default()));
        assert_eq!(Annotations::read(None).unwrap(), Annotations::default());
    }

    #[test]
    fn each_has_its_field() {
        let all = read(&[
            ("org.imafs.profile", "web"),
            ("org.imafs.policy", "immutable"),
            ("org.imafs.keys", "/a, /b"),
            ("org.imafs.appraise", "enforce"),
            ("org.imafs.measure", "tcb"),
            ("org.imafs.tpm", "swtpm"),
            ("org.imafs.contid", "web-1"),
            ("org.imafs.required", "true"),
        ]);
        let expected = Annotations {
            profile: Some("web".into()),
            policy: Some("immutable".into()),
            keys: vec!["/a".into(), "/b".into()],
            appraise: Some("enforce".into()),
            measure: Some("tcb".into()),
            tpm: Some("swtpm".into()),
            contid: Some("web-1".into()),
            required: true,
        };
        assert_eq!(all, Ok(expected));
    }

    #[test]
    fn what_the_help_names_can_be_said() {
        for (name, _) in ALL {
            let value = if name == "required" { "true" } else { "x" };
            assert!(read(&[(&format!("{PREFIX}{name}"), value)]).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_mistyped_or_empty_one_is_refused_by_name() {
        let refusal = |name, value| read(&[(name, value)]).unwrap_err();
        assert!(refusal("org.imafs.profil", "web").contains("org.imafs.profil"));
        assert!(refusal("org.imafs.Profile", "web").contains("org.imafs.Profile"));
        assert!(refusal("org.imafs.profile", " ").contains("empty"));
        assert!(refusal("org.imafs.required", "yes").contains("neither true nor false"));
    }
}
