//! The canonical form of a rule, as the kernel shows it when its policy file is read
//! (`ima_policy_show`, Linux 6.19): fixed order, one space behind each part.
//!
//! Some of it does not parse back, and that is the kernel's: ids above 2^31 are shown negative,
//! file system names are cut at 63 characters, and `digest_type=verity` stands behind the
//! `appraise_type=sigv3` it must precede. The extensions of imafs follow at the end.

use std::fmt;

use crate::condition::{Conditions, IdTest, MaskTest, SubjectTest, Whose};
use crate::rule::{Options, Rule, RuleFlags};

/// The kernel prints file system names through a buffer of 64 bytes.
const SHOWN_NAME: usize = 63;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.action)?;
        conditions_on_occasion(f, &self.when)?;
        if let Some(pcr) = self.how.pcr {
            write!(f, "pcr={} ", pcr.value())?;
        }
        conditions_on_ids(f, &self.when)?;
        options(f, &self.how)?;
        extensions(f, self)
    }
}

fn conditions_on_occasion(f: &mut fmt::Formatter<'_>, when: &Conditions) -> fmt::Result {
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
        write!(f, "fsname={} ", cut(name))?;
    }
    if let Some(name) = &when.fs_subtype {
        write!(f, "fs_subtype={} ", cut(name))?;
    }
    if let Some(names) = &when.keyrings {
        write!(f, "keyrings={} ", names.join("|"))?;
    }
    if let Some(names) = &when.labels {
        write!(f, "label={} ", names.join("|"))?;
    }
    Ok(())
}

fn conditions_on_ids(f: &mut fmt::Formatter<'_>, when: &Conditions) -> fmt::Result {
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
    subject(f, when.user, "uid", "euid")?;
    subject(f, when.group, "gid", "egid")?;
    id(f, when.fowner, "fowner")?;
    id(f, when.fgroup, "fgroup")
}

fn subject(
    f: &mut fmt::Formatter<'_>,
    subject: Option<SubjectTest>,
    real: &str,
    effective: &str,
) -> fmt::Result {
    subject.map_or(Ok(()), |subject| {
        let key = match subject.whose {
            Whose::Real => real,
            Whose::Effective => effective,
        };
        id(f, Some(subject.test), key)
    })
}

fn id(f: &mut fmt::Formatter<'_>, test: Option<IdTest>, key: &str) -> fmt::Result {
    test.map_or(Ok(()), |test| write!(f, "{key}{}{} ", test.operator.symbol(), test.id.cast_signed()))
}

fn options(f: &mut fmt::Formatter<'_>, how: &Options) -> fmt::Result {
    if let Some(algos) = how.algos {
        write!(f, "appraise_algos={algos} ")?;
    }
    if let Some(template) = &how.template {
        write!(f, "template={} ", template.name())?;
    }
    if how.flags.contains(RuleFlags::SIGNATURE_REQUIRED) {
        let kind = if how.flags.contains(RuleFlags::DENY) {
            "deny"
        } else if how.flags.contains(RuleFlags::VERITY) {
            "sigv3"
        } else if how.flags.contains(RuleFlags::MODSIG_ALLOWED) {
            "imasig|modsig"
        } else {
            "imasig"
        };
        write!(f, "appraise_type={kind} ")?;
    }
    if how.flags.contains(RuleFlags::VERITY) {
        f.write_str("digest_type=verity ")?;
    }
    if how.flags.contains(RuleFlags::PERMIT_DIRECTIO) {
        f.write_str("permit_directio ")?;
    }
    Ok(())
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

fn cut(name: &str) -> &str {
    let end = name.floor_char_boundary(SHOWN_NAME);
    name.get(..end).unwrap_or(name)
}
