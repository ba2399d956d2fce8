//! From the host's configuration and a container's annotations: whether and how it is checked. Touches nothing.

use crate::Error;
use crate::annotations::Annotations;
use crate::config::{Config, Profile};

/// Appraisal modes, strictest first.
const STRICTNESS: [&str; 4] = ["enforce", "log", "fix", "off"];

/// Rules that any container may be measured by in addition: they are names, not files of the host, and only add.
const MEASURED_FREELY: [&str; 2] = ["measure", "tcb"];

/// What becomes of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It runs as if we were not there.
    Unchecked,
    /// It runs on imafs.
    Checked {
        /// The profile's name.
        name: String,
        /// The profile.
        profile: Box<Profile>,
        /// The mount's name on the host.
        ns_id: String,
        /// Options over the profile's, each with its value.
        options: Vec<(&'static str, String)>,
    },
}

/// Decides for one container. `name_on_host` is its mount's name where it names none itself. `entry` is the profile that
/// the engine's own configuration names (`--imafs-profile`); `value_of` reads the value that a profile's file gives a key.
///
/// # Errors
/// [`Error::NoProfile`], [`Error::Required`], and [`Error::Annotation`] for what the host does not permit.
pub fn plan(
    config: &Config,
    entry: Option<&str>,
    annotations: &Annotations,
    name_on_host: &str,
    value_of: impl Fn(&Profile, &str) -> Result<Option<String>, Error>,
) -> Result<Plan, Error> {
    let given = entry.or(config.default.as_deref());
    let name = match (annotations.profile.as_deref(), given) {
        (Some(asked), Some(given))
            if asked != given && !config.choosable.iter().any(|name| name == asked) =>
        {
            return Err(refused("profile", format!("'{asked}' may not be chosen instead of '{given}'")));
        }
        (Some(asked), Some(_) | None) => asked,
        (None, Some(given)) => given,
        (None, None) if config.required || annotations.required => return Err(Error::Required),
        (None, None) => return unchecked(annotations),
    };
    let profile = config
        .profiles
        .get(name)
        .ok_or_else(|| Error::NoProfile { name: name.to_owned(), known: config.known() })?;
    let options = options(profile, annotations, value_of)?;
    let ns_id = annotations.contid.clone().unwrap_or_else(|| name_on_host.to_owned());
    Ok(Plan::Checked { name: name.to_owned(), profile: Box::new(profile.clone()), ns_id, options })
}

/// A container without a profile must not have asked for anything that only a profile can give.
fn unchecked(annotations: &Annotations) -> Result<Plan, Error> {
    if *annotations == Annotations::default() {
        return Ok(Plan::Unchecked);
    }
    Err(Error::Required)
}

fn options(
    profile: &Profile,
    annotations: &Annotations,
    value_of: impl Fn(&Profile, &str) -> Result<Option<String>, Error>,
) -> Result<Vec<(&'static str, String)>, Error> {
    let permit = &profile.permit;
    let mut options = Vec::new();
    if let Some(policy) = &annotations.policy {
        permitted("policy", policy, &permit.policy)?;
        options.push(("--policy", policy.clone()));
    }
    for key in &annotations.keys {
        permitted("keys", key, &permit.keys)?;
        options.push(("--key", key.clone()));
    }
    if let Some(mode) = &annotations.appraise {
        let strictness = |mode: &str| STRICTNESS.iter().position(|word| *word == mode);
        let asked = strictness(mode)
            .ok_or_else(|| refused("appraise", format!("'{mode}' is none of {}", STRICTNESS.join(", "))))?;
        let floor = value_of(profile, "appraise")?;
        if strictness(floor.as_deref().unwrap_or("enforce")).is_none_or(|floor| asked > floor) {
            permitted("appraise", mode, &permit.appraise)?;
        }
        options.push(("--appraise", mode.clone()));
    }
    if let Some(measure) = &annotations.measure {
        let set = value_of(profile, "measure")?;
        let more = set.is_none() && MEASURED_FREELY.contains(&measure.as_str());
        if !more && set.as_ref() != Some(measure) {
            permitted("measure", measure, &permit.measure)?;
        }
        options.push(("--measure", measure.clone()));
    }
    if let Some(tpm) = &annotations.tpm {
        permitted("tpm", tpm, &permit.tpm)?;
        options.push(("--tpm", tpm.clone()));
    }
    Ok(options)
}

fn permitted(name: &str, value: &str, list: &[String]) -> Result<(), Error> {
    if list.iter().any(|known| known == value) {
        return Ok(());
    }
    let which =
        if list.is_empty() { "none is".to_owned() } else { format!("permitted are {}", list.join(", ")) };
    Err(refused(name, format!("'{value}' is not permitted by the host's profile: {which}")))
}

fn refused(name: &str, reason: String) -> Error {
    Error::Annotation { name: format!("org.imafs.{name}"), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Permit;

    fn config() -> Config {
        let permit = Permit {
            policy: vec!["immutable".into()],
            keys: vec!["/k/a".into(), "/k/b".into()],
            appraise: vec!["fix".into()],
            measure: vec!["/etc/rules".into()],
            tpm: vec!["swtpm".into()],
        };
        let profile = |file: &str, permit| Profile { file: file.into(), permit };
        Config {
            profiles: [
                ("exec".to_owned(), profile("/exec.yaml", permit)),
                ("loose".to_owned(), profile("/loose.yaml", Permit::default())),
                ("strict".to_owned(), profile("/strict.yaml", Permit::default())),
            ]
            .into(),
            choosable: vec!["strict".into()],
            ..Config::default()
        }
    }

    fn decide(config: &Config, entry: Option<&str>, annotations: Annotations) -> Result<Plan, String> {
        plan(config, entry, &annotations, "c1", |_, key| Ok((key == "appraise").then(|| "log".to_owned())))
            .map_err(|error| error.to_string())
    }

    fn asking(profile: &str) -> Annotations {
        Annotations { profile: Some(profile.into()), ..Annotations::default() }
    }

    fn chosen(plan: Result<Plan, String>) -> String {
        match plan {
            Ok(Plan::Checked { name, .. }) => name,
            Ok(Plan::Unchecked) => "none".to_owned(),
            Err(error) => error,
        }
    }

    #[test]
    fn without_a_default_a_container_may_name_any_profile_or_none() {
        let config = config();
        assert_eq!(chosen(decide(&config, None, Annotations::default())), "none");
        assert_eq!(chosen(decide(&config, None, asking("loose"))), "loose");
        assert!(chosen(decide(&config, None, asking("nosuch"))).contains("no imafs profile 'nosuch'"));
    }

    #[test]
    fn a_default_binds_but_for_the_choosable_ones() {
        let config = Config { default: Some("exec".into()), ..config() };
        assert_eq!(chosen(decide(&config, None, Annotations::default())), "exec");
        assert_eq!(chosen(decide(&config, None, asking("exec"))), "exec");
        assert_eq!(chosen(decide(&config, None, asking("strict"))), "strict");
        assert!(chosen(decide(&config, None, asking("loose"))).contains("may not be chosen"));
    }

    #[test]
    fn the_engines_own_entry_wins_over_the_default_and_binds_as_it() {
        let config = Config { default: Some("loose".into()), ..config() };
        assert_eq!(chosen(decide(&config, Some("exec"), Annotations::default())), "exec");
        assert!(chosen(decide(&config, Some("exec"), asking("loose"))).contains("may not be chosen"));
        assert!(chosen(decide(&config, Some("nosuch"), Annotations::default())).contains("nosuch"));
    }

    #[test]
    fn required_refuses_a_container_without_profile_from_either_side() {
        let required = Config { required: true, ..config() };
        assert!(decide(&required, None, Annotations::default()).is_err());
        let asked = Annotations { required: true, ..Annotations::default() };
        assert!(decide(&config(), None, asked).is_err());
        assert_eq!(chosen(decide(&required, None, asking("exec"))), "exec");
    }

    #[test]
    fn wishes_without_a_profile_are_refused_rather_than_ignored() {
        let asked = Annotations { policy: Some("immutable".into()), ..Annotations::default() };
        assert!(decide(&config(), None, asked).is_err());
    }

    #[test]
    fn annotations_choose_what_is_permitted_and_nothing_else() {
        let config = config();
        let with = |annotations: Annotations| {
            let annotations = Annotations { profile: Some("exec".into()), ..annotations };
            match decide(&config, None, annotations) {
                Ok(Plan::Checked { options, .. }) => Ok(options),
                Ok(Plan::Unchecked) => panic!("unchecked"),
                Err(error) => Err(error),
            }
        };
        let policy = |name: &str| with(Annotations { policy: Some(name.into()), ..Annotations::default() });
        assert_eq!(policy("immutable"), Ok(vec![("--policy", "immutable".to_owned())]));
        assert!(policy("measure").unwrap_err().contains("permitted are immutable"));
        let keys = |list: &[&str]| {
            let keys = list.iter().map(|key| (*key).to_owned()).collect();
            with(Annotations { keys, ..Annotations::default() })
        };
        assert_eq!(keys(&["/k/b", "/k/a"]).unwrap().len(), 2);
        assert!(keys(&["/k/a", "/k/a/../c"]).is_err());
        let tpm = |name: &str| with(Annotations { tpm: Some(name.into()), ..Annotations::default() });
        assert!(tpm("swtpm").is_ok());
        assert!(tpm("none").is_err());
    }

    #[test]
    fn the_mode_can_be_tightened_freely_and_weakened_only_as_permitted() {
        let with = |mode: &str| {
            let annotations = Annotations { appraise: Some(mode.into()), ..asking("exec") };
            decide(&config(), None, annotations)
        };
        for (mode, allowed) in [("enforce", true), ("log", true), ("fix", true), ("off", false), ("x", false)]
        {
            assert_eq!(with(mode).is_ok(), allowed, "{mode}");
        }
        let unknown = plan(
            &config(),
            None,
            &Annotations { appraise: Some("log".into()), ..asking("loose") },
            "c",
            |_, _| Ok(Some("something later".to_owned())),
        );
        assert!(unknown.is_err(), "a floor that is not understood lets nothing pass");
    }
    #[test]
    fn more_may_be_measured_freely_and_other_rules_only_as_permitted() {
        let with = |set: Option<&'static str>, measure: &str| {
            let annotations = Annotations { measure: Some(measure.into()), ..asking("exec") };
            plan(&config(), None, &annotations, "c", |_, _| Ok(set.map(str::to_owned))).is_ok()
        };
        assert!(with(None, "tcb") && with(None, "measure") && with(None, "/etc/rules"));
        assert!(!with(None, "/etc/other") && !with(None, "exec"));
        // What the profile sets is not replaced by less.
        assert!(with(Some("tcb"), "tcb") && with(Some("tcb"), "/etc/rules"));
        assert!(!with(Some("tcb"), "measure"));
    }
}
