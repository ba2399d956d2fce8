//! The two written forms of a rule: as the kernel shows it, and as it can be read again.
//!
//! The first is what the policy file gives (`ima_policy_show`, Linux 6.19): fixed order, one space behind each part.
//! Some of it does not parse back, and that is the kernel's: ids above 2^31 are shown negative, file system names are
//! cut at 63 characters, `appraise_flag=` is left out, and `digest_type=verity` stands behind the
//! `appraise_type=sigv3` it must precede. The second form differs in these four. The extensions of imafs follow at the
//! end.

use std::fmt;

use crate::condition::{Conditions, IdTest, MaskTest, SubjectTest, Whose};
use crate::rule::{Options, Rule, RuleFlags};

/// The kernel prints file system names through a buffer of 64 bytes.
const SHOWN_NAME: usize = 63;

/// For whom a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the kernel's policy file shows it.
    Kernel,
    /// As the parser takes it.
    Source,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rule(f, self, Form::Kernel)
    }
}

impl Rule {
    /// The rule in words that parse back to the very same rule, which the kernel's read-back (`Display`) does not
    /// always do.
    #[must_use]
    pub fn to_source(&self) -> String {
        let mut text = Source(self).to_string();
        // The last part's space; what else looks blank belongs to a value.
        text.pop();
        text
    }
}

struct Source<'a>(&'a Rule);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rule(f, self.0, Form::Source)
    }
}

fn rule(f: &mut fmt::Formatter<'_>, rule: &Rule, form: Form) -> fmt::Result {
    write!(f, "{} ", rule.action)?;
    conditions_on_occasion(f, &rule.when, form)?;
    if let Some(pcr) = rule.how.pcr {
        write!(f, "pcr={} ", pcr.value())?;
    }
    conditions_on_ids(f, &rule.when, form)?;
    options(f, &rule.how, form)?;
    extensions(f, rule)
}

fn conditions_on_occasion(f: &mut fmt::Formatter<'_>, when: &Conditions, form: Form) -> fmt::Result {
    if let Some(func) = when.func {
        write!(f, "func={func} ")?;
    }
    match when.mask {
        Some(MaskTest::Exactly(mask)) => write!(f, "mask={} ", mask.keyword().unwrap_or_default())?,
        Some(MaskTest::Including(mask)) => write!(f, "mask=^{} ", mask.keyword().unwrap_or_default())?,
        None => {}
    }
    if let Some(magic) = when.fsmagic {
        write!(f, "fsmagic={magic:#x} ")?;
    }
    if let Some(name) = &when.fsname {
        write!(f, "fsname={} ", shown_name(name, form))?;
    }
    if let Some(name) = &when.fs_subtype {
        write!(f, "fs_subtype={} ", shown_name(name, form))?;
    }
    if let Some(names) = &when.keyrings {
        write!(f, "keyrings={} ", names.join("|"))?;
    }
    if let Some(names) = &when.labels {
        write!(f, "label={} ", names.join("|"))?;
    }
    Ok(())
}

fn conditions_on_ids(f: &mut fmt::Formatter<'_>, when: &Conditions, form: Form) -> fmt::Result {
    if let Some(uuid) = &when.fsuuid {
        f.write_str("fsuuid=")?;
        for (index, byte) in uuid.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        f.write_str(" ")?;
    }
    subject(f, when.user, ("uid", "euid"), form)?;
    subject(f, when.group, ("gid", "egid"), form)?;
    id(f, when.fowner, "fowner", form)?;
    id(f, when.fgroup, "fgroup", form)
}

fn subject(
    f: &mut fmt::Formatter<'_>,
    subject: Option<SubjectTest>,
    (real, effective): (&str, &str),
    form: Form,
) -> fmt::Result {
    subject.map_or(Ok(()), |subject| {
        let key = match subject.whose {
            Whose::Real => real,
            Whose::Effective => effective,
        };
        id(f, Some(subject.test), key, form)
    })
}

fn id(f: &mut fmt::Formatter<'_>, test: Option<IdTest>, key: &str, form: Form) -> fmt::Result {
    let Some(IdTest { operator, id }) = test else { return Ok(()) };
    match form {
        Form::Kernel => write!(f, "{key}{}{} ", operator.symbol(), id.cast_signed()),
        Form::Source => write!(f, "{key}{}{id} ", operator.symbol()),
    }
}

fn options(f: &mut fmt::Formatter<'_>, how: &Options, form: Form) -> fmt::Result {
    if let Some(algos) = how.algos {
        write!(f, "appraise_algos={algos} ")?;
    }
    if let Some(template) = &how.template {
        write!(f, "template={} ", template.name())?;
    }
    let digest_type = if how.flags.contains(RuleFlags::VERITY) { "digest_type=verity " } else { "" };
    let (before, behind) = if form == Form::Source { (digest_type, "") } else { ("", digest_type) };
    f.write_str(before)?;
    if let Some(kind) = appraise_type(how.flags) {
        write!(f, "appraise_type={kind} ")?;
    }
    f.write_str(behind)?;
    if how.appraise_flag && form == Form::Source {
        f.write_str("appraise_flag=check_blacklist ")?;
    }
    if how.flags.contains(RuleFlags::PERMIT_DIRECTIO) {
        f.write_str("permit_directio ")?;
    }
    Ok(())
}

fn appraise_type(flags: RuleFlags) -> Option<&'static str> {
    flags.contains(RuleFlags::SIGNATURE_REQUIRED).then_some(if flags.contains(RuleFlags::DENY) {
        "deny"
    } else if flags.contains(RuleFlags::VERITY) {
        "sigv3"
    } else if flags.contains(RuleFlags::MODSIG_ALLOWED) {
        "imasig|modsig"
    } else {
        "imasig"
    })
}

fn extensions(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    if let Some(glob) = &rule.when.path {
        write!(f, "path={glob} ")?;
    }
    if let Some(digests) = &rule.when.digests {
        write!(f, "digest={digests} ")?;
    }
    Ok(())
}

fn shown_name(name: &str, form: Form) -> &str {
    let end = if form == Form::Kernel { name.floor_char_boundary(SHOWN_NAME) } else { name.len() };
    name.get(..end).unwrap_or(name)
}
