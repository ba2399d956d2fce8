//! The conditions of a rule, and when each holds.
//!
//! Cheap ones are asked first; the subject's ids are asked for when everything else has matched, and
//! the digest last of all.

use crate::decide::{Object, SubjectIds};
use crate::glob::PathGlob;
use crate::token::Operator;
use crate::values::DigestList;
use crate::vocabulary::{Func, Mask};

/// Everything a rule demands of an access; absent means: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) func: Option<Func>,
    pub(crate) mask: Option<MaskTest>,
    pub(crate) fsmagic: Option<u64>,
    pub(crate) fsname: Option<Box<str>>,
    pub(crate) fs_subtype: Option<Box<str>>,
    pub(crate) keyrings: Option<Box<[Box<str>]>>,
    pub(crate) labels: Option<Box<[Box<str>]>>,
    pub(crate) fsuuid: Option<[u8; 16]>,
    pub(crate) user: Option<SubjectTest>,
    pub(crate) group: Option<SubjectTest>,
    pub(crate) fowner: Option<IdTest>,
    pub(crate) fgroup: Option<IdTest>,
    pub(crate) path: Option<PathGlob>,
    pub(crate) digests: Option<DigestList>,
}

/// `mask=M` or `mask=^M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaskTest {
    /// The access asks for this and nothing else.
    Exactly(Mask),
    /// The access asks for this, perhaps among other things.
    Including(Mask),
}

impl MaskTest {
    pub(crate) fn holds(self, mask: Mask) -> bool {
        match self {
            Self::Exactly(wanted) => mask == wanted,
            Self::Including(wanted) => mask.intersects(wanted),
        }
    }
}

/// A comparison with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdTest {
    pub(crate) operator: Operator,
    pub(crate) id: u32,
}

impl IdTest {
    pub(crate) fn holds(self, id: u32) -> bool {
        match self.operator {
            Operator::Equal => id == self.id,
            Operator::Above => id > self.id,
            Operator::Below => id < self.id,
        }
    }
}

/// Which id of the subject a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// `uid`, `gid`
    Real,
    /// `euid`, `egid`
    Effective,
}

/// A condition on a user or group id of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubjectTest {
    pub(crate) whose: Whose,
    pub(crate) test: IdTest,
}

impl SubjectTest {
    /// `others` are the ids the subject could switch to if it is `free` to (effective ids only).
    fn holds(self, real: u32, effective: u32, saved: u32, free: bool) -> bool {
        match self.whose {
            Whose::Real => self.test.holds(real),
            Whose::Effective if free => [effective, saved, real].into_iter().any(|id| self.test.holds(id)),
            Whose::Effective => self.test.holds(effective),
        }
    }
}

/// The condition of a rule that an access did not meet; the first that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mismatch {
    /// `func=`, or its absence where only rules that name the func count.
    Func,
    /// `mask=`
    Mask,
    /// `fsmagic=`
    FsMagic,
    /// `fsname=`
    FsName,
    /// `fs_subtype=`
    FsSubtype,
    /// `fsuuid=`
    FsUuid,
    /// `fowner`
    Fowner,
    /// `fgroup`
    Fgroup,
    /// `path=`
    Path,
    /// `uid` or `euid`
    User,
    /// `gid` or `egid`
    Group,
    /// `digest=`
    Digest,
    /// `keyrings=`
    Keyrings,
    /// `label=`
    Label,
}

/// `Some` of the mismatch unless the condition holds.
fn unless(holds: bool, mismatch: Mismatch) -> Option<Mismatch> {
    (!holds).then_some(mismatch)
}

impl Conditions {
    /// What of the object is not as the rule wants it.
    pub(crate) fn mismatch_of_object(&self, object: &Object<'_>) -> Option<Mismatch> {
        let path = || self.path.as_ref().is_none_or(|glob| glob.matches(object.path));
        self.mismatch_but_path(object).or_else(|| unless(path(), Mismatch::Path))
    }

    /// The same, whatever the object is called.
    pub(crate) fn mismatch_but_path(&self, object: &Object<'_>) -> Option<Mismatch> {
        unless(self.fsmagic.is_none_or(|magic| magic == object.fsmagic), Mismatch::FsMagic)
            .or_else(|| {
                unless(self.fsname.as_deref().is_none_or(|name| name == object.fsname), Mismatch::FsName)
            })
            .or_else(|| {
                let holds = self.fs_subtype.as_deref().is_none_or(|name| Some(name) == object.fs_subtype);
                unless(holds, Mismatch::FsSubtype)
            })
            .or_else(|| unless(self.fsuuid.is_none_or(|uuid| uuid == object.fsuuid), Mismatch::FsUuid))
            .or_else(|| unless(self.fowner.is_none_or(|test| test.holds(object.owner)), Mismatch::Fowner))
            .or_else(|| unless(self.fgroup.is_none_or(|test| test.holds(object.group)), Mismatch::Fgroup))
    }

    /// Whether the rule asks who the subject is.
    pub(crate) const fn needs_subject(&self) -> bool {
        self.user.is_some() || self.group.is_some()
    }

    /// What of the subject is not as the rule wants it.
    pub(crate) fn mismatch_of_subject(&self, ids: &SubjectIds) -> Option<Mismatch> {
        let group = || self.group.is_none_or(|test| test.holds(ids.gid, ids.egid, ids.sgid, ids.cap_setgid));
        self.mismatch_of_user(ids).or_else(|| unless(group(), Mismatch::Group))
    }

    /// Whether the subject's user is not as the rule wants it, whatever its groups.
    pub(crate) fn mismatch_of_user(&self, ids: &SubjectIds) -> Option<Mismatch> {
        let holds = self.user.is_none_or(|test| test.holds(ids.uid, ids.euid, ids.suid, ids.cap_setuid));
        unless(holds, Mismatch::User)
    }

    /// Whether a keyring or label of this name is not as the rule wants it.
    pub(crate) fn mismatch_of_data(&self, func: Func, name: Option<&str>) -> Option<Mismatch> {
        let (list, mismatch) = if func == Func::KeyCheck {
            (&self.keyrings, Mismatch::Keyrings)
        } else {
            (&self.labels, Mismatch::Label)
        };
        let holds = list.as_ref().is_none_or(|list| list.iter().any(|item| Some(&**item) == name));
        unless(holds, mismatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(uid: u32, euid: u32, suid: u32, cap_setuid: bool) -> SubjectIds {
        SubjectIds { uid, euid, suid, gid: uid, egid: euid, sgid: suid, cap_setuid, cap_setgid: cap_setuid }
    }

    #[test]
    fn who_may_change_its_user_is_matched_by_all_three_ids() {
        let test = |whose, id| SubjectTest { whose, test: IdTest { operator: Operator::Equal, id } };
        let table = [
            (test(Whose::Real, 1), ids(1, 2, 3, false), true),
            (test(Whose::Real, 2), ids(1, 2, 3, true), false),
            (test(Whose::Effective, 2), ids(1, 2, 3, false), true),
            (test(Whose::Effective, 1), ids(1, 2, 3, false), false),
            (test(Whose::Effective, 3), ids(1, 2, 3, false), false),
            (test(Whose::Effective, 1), ids(1, 2, 3, true), true),
            (test(Whose::Effective, 3), ids(1, 2, 3, true), true),
            (test(Whose::Effective, 4), ids(1, 2, 3, true), false),
        ];
        for (test, ids, expected) in table {
            let user = Conditions { user: Some(test), ..Conditions::default() };
            let group = Conditions { group: Some(test), ..Conditions::default() };
            let missed = |mismatch| (!expected).then_some(mismatch);
            assert_eq!(user.mismatch_of_subject(&ids), missed(Mismatch::User), "{test:?} {ids:?}");
            assert_eq!(group.mismatch_of_subject(&ids), missed(Mismatch::Group), "{test:?} {ids:?}");
        }
    }

    #[test]
    fn a_mask_is_exact_unless_it_has_a_caret() {
        let exact = MaskTest::Exactly(Mask::READ);
        let any = MaskTest::Including(Mask::READ);
        for (mask, by_exact, by_any) in [
            (Mask::READ, true, true),
            (Mask::READ | Mask::WRITE, false, true),
            (Mask::READ | Mask::APPEND, false, true),
            (Mask::EXEC, false, false),
            (Mask::ACCESS, false, false),
            (Mask::empty(), false, false),
        ] {
            assert_eq!((exact.holds(mask), any.holds(mask)), (by_exact, by_any), "{mask:?}");
        }
    }
}
