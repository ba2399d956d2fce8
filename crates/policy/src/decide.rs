//! From an access to what is to be done about it: one walk over the rules, first match per class.
//!
//! Nothing here allocates. The rules that can matter for a func are listed beforehand
//! ([`Policy`]), the subject is asked once at most, and only for a rule that matches otherwise.

use ima::{Digest, HashAlgo, PcrIndex, Template};

use crate::algos::AlgoSet;
use crate::condition::Mismatch;
use crate::policy::Policy;
use crate::rule::{Rule, RuleFlags};
use crate::vocabulary::{Actions, Class, Func, Mask};

/// What an access is to, as far as rules can tell.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The magic number of the file system.
    pub fsmagic: u64,
    /// The name of the file system's type (`ext4`).
    pub fsname: &'a str,
    /// The subtype of a FUSE file system.
    pub fs_subtype: Option<&'a str>,
    /// The UUID of the file system; zeros when it has none.
    pub fsuuid: [u8; 16],
    /// The file's owner, as the container sees it.
    pub owner: u32,
    /// The file's group, as the container sees it.
    pub group: u32,
    /// The absolute path in the mount by which the file was reached.
    pub path: &'a [u8],
}

/// Who is acting. Asked only when a rule's condition needs it, for the answer costs a read of /proc.
pub trait Subject {
    /// The ids of the acting task.
    ///
    /// # Errors
    /// [`SubjectUnknown`] when they cannot be told, for instance because the task is gone.
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown>;
}

/// The ids of a task, as the container sees them. Supplementary groups and fsuid are never asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubjectIds {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Whether CAP_SETUID is effective: `euid=` then matches real and saved ids too.
    pub cap_setuid: bool,
    /// Whether CAP_SETGID is effective: `egid=` then matches real and saved ids too.
    pub cap_setgid: bool,
}

/// The ids of a task could not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot tell the ids of task {tid} (errno {errno})")]
pub struct SubjectUnknown {
    /// The task, as the caller counts them.
    pub tid: u32,
    /// What reading them gave.
    pub errno: i32,
}

/// No decision could be made. Not an allowance: what cannot be decided is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecided {
    /// A rule asks for the ids of a subject that cannot be told.
    #[error("a rule asks who is acting")]
    Subject(#[source] SubjectUnknown),
    /// A `digest=` rule asks for a digest of the content that the query does not carry. All such
    /// rules of a policy use this one algorithm, so asking again with it decides.
    #[error("a rule asks for the content's {0} digest")]
    Digest(HashAlgo),
    /// A `path=` rule stands in the policy, and the object has no absolute path.
    #[error("a rule asks for the path, and none is known")]
    Path,
}

/// One access, to be decided.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The occasion.
    pub func: Func,
    /// What the access wants to do.
    pub mask: Mask,
    /// What it is to.
    pub object: &'a Object<'a>,
    /// Who is acting.
    pub subject: &'a dyn Subject,
    /// The digest of the content where it is known, for `digest=`.
    pub digest: Option<&'a Digest>,
}

impl std::fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query")
            .field("func", &self.func)
            .field("mask", &self.mask)
            .field("object", &self.object)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Which of an inode's cached appraisals an access is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AppraiseClass {
    /// Opening; also whatever a rule without `func=` matched.
    #[default]
    File,
    /// Mapping executable.
    Mmap,
    /// Starting.
    Bprm,
    /// Starting, with the new credentials.
    Creds,
    /// Everything else the kernel reads whole.
    Read,
}

impl AppraiseClass {
    const fn of(func: Func) -> Self {
        match func {
            Func::FileCheck => Self::File,
            Func::MmapCheck | Func::MmapCheckReqprot => Self::Mmap,
            Func::BprmCheck => Self::Bprm,
            Func::CredsCheck => Self::Creds,
            Func::ModuleCheck
            | Func::FirmwareCheck
            | Func::KexecKernelCheck
            | Func::KexecInitramfsCheck
            | Func::PolicyCheck
            | Func::KexecCmdline
            | Func::KeyCheck
            | Func::CriticalData
            | Func::SetxattrCheck
            | Func::PostSetattr => Self::Read,
        }
    }
}

/// What is to be done about one access.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// What to do; empty: nothing, let it pass.
    pub actions: Actions,
    /// Which cached appraisal counts; meaningful with [`Actions::APPRAISE`].
    pub appraise_class: AppraiseClass,
    /// The appraise rule has no func (or `FILE_CHECK`): from here on the access counts as an open.
    pub treat_as_file_check: bool,
    /// The PCR of the deciding measure rule; none: the default.
    pub pcr: Option<PcrIndex>,
    /// The template of the deciding measure rule; none: the default.
    pub template: Option<Template>,
    /// The algorithms the deciding appraise rule allows; none: any. The empty set with
    /// [`RuleFlags::DENY`], so that also who looks at nothing else refuses.
    pub algos: Option<AlgoSet>,
    /// How to appraise: the flags of the deciding appraise rule alone, empty when nothing is to be
    /// appraised. The kernel also adds those of the rules that decided the other classes, so that a
    /// `measure permit_directio` lets unappraised content through; see [`Decision::all_flags`].
    pub flags: RuleFlags,
    /// The rule that decided each class, `dont_` rules included, as an index into
    /// [`Policy::rules`]; in the order of [`Class::ALL`].
    pub deciding: [Option<usize>; 4],
    class_flags: [RuleFlags; 4],
}

impl Decision {
    /// The rule that decided this class, as an index into [`Policy::rules`].
    #[must_use]
    pub fn deciding(&self, class: Class) -> Option<usize> {
        self.deciding.get(class as usize).copied().flatten()
    }

    /// The flags of the rule that decided this class.
    #[must_use]
    pub fn flags_of(&self, class: Class) -> RuleFlags {
        self.class_flags.get(class as usize).copied().unwrap_or_default()
    }

    /// The flags of all deciding rules together, `dont_` rules included: what the kernel goes by.
    #[must_use]
    pub fn all_flags(&self) -> RuleFlags {
        self.class_flags.into_iter().fold(RuleFlags::empty(), RuleFlags::union)
    }

    /// Whether both ask for the same, by whatever rules.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.actions == other.actions
            && (self.pcr, &self.template) == (other.pcr, &other.template)
            && (self.appraise_class, self.algos) == (other.appraise_class, other.algos)
            && self.class_flags == other.class_flags
    }

    /// Takes up a rule that matched and whose class is still open.
    fn take(&mut self, index: usize, rule: &Rule, policy: &Policy) {
        let class = rule.action.class();
        if let Some(slot) = self.deciding.get_mut(class as usize) {
            *slot = Some(index);
        }
        let mut flags = rule.how.flags;
        if rule.action.acts() {
            self.actions |= class.bit();
            match class {
                Class::Measure => {
                    self.pcr = rule.how.pcr;
                    self.template.clone_from(&rule.how.template);
                }
                Class::Appraise => {
                    // A hash rule further down can still set it again, as in the kernel.
                    self.actions -= Actions::HASH;
                    self.appraise_class = rule.when.func.map_or(AppraiseClass::File, AppraiseClass::of);
                    self.treat_as_file_check = self.appraise_class == AppraiseClass::File;
                    // What is refused whatever its label has no algorithm left to be labelled with.
                    let refused = flags.contains(RuleFlags::DENY);
                    self.algos = if refused { Some(AlgoSet::default()) } else { rule.how.algos };
                    flags.set(RuleFlags::FAIL_UNVERIFIABLE, policy.fails_securely());
                    self.flags = flags;
                }
                Class::Audit | Class::Hash => {}
            }
        }
        if let Some(slot) = self.class_flags.get_mut(class as usize) {
            *slot = flags;
        }
    }
}

/// The ids of the subject, asked for once.
pub(crate) struct Asked<'a> {
    subject: &'a dyn Subject,
    ids: Option<SubjectIds>,
}

impl<'a> Asked<'a> {
    pub(crate) const fn of(subject: &'a dyn Subject) -> Self {
        Self { subject, ids: None }
    }

    fn ids(&mut self) -> Result<SubjectIds, Undecided> {
        if let Some(ids) = self.ids {
            return Ok(ids);
        }
        let ids = self.subject.ids().map_err(Undecided::Subject)?;
        self.ids = Some(ids);
        Ok(ids)
    }
}

impl Policy {
    /// Decides an access to a file. A query about a keyring or label here matches only rules that
    /// name none; those go to [`Policy::decide_data`].
    ///
    /// # Errors
    /// [`Undecided`] when a rule asks for something that cannot be told; the access is to be denied.
    pub fn decide(&self, query: &Query<'_>) -> Result<Decision, Undecided> {
        self.decide_among(query, Actions::all())
    }

    /// As [`Policy::decide`], for these classes of action only; the others stay undecided.
    ///
    /// # Errors
    /// As [`Policy::decide`].
    pub fn decide_among(&self, query: &Query<'_>, wanted: Actions) -> Result<Decision, Undecided> {
        let mut asked = Asked::of(query.subject);
        self.walk(query.func, wanted, |_, rule| mismatch(rule, query, &mut asked))
    }

    /// As [`Policy::decide`] where the object's path cannot be told: all that may be asked of the access. The first
    /// decision supposes that no rule with `path=` matches; each other one is of such a rule alone, once for those that
    /// ask the same. `dont_` rules with `path=` are supposed not to match.
    ///
    /// # Errors
    /// As [`Policy::decide`].
    pub fn decide_whatever_path(&self, query: &Query<'_>) -> Result<Vec<Decision>, Undecided> {
        let mut asked = Asked::of(query.subject);
        let mut decisions = vec![Decision::default()];
        let mut open = self.active();
        for (index, rule) in self.candidates(query.func) {
            let class = rule.action.class().bit();
            let by_path = rule.when.path.is_some();
            if !open.contains(class) || (by_path && !rule.action.acts()) {
                continue;
            }
            let of_object = || rule.when.mismatch_but_path(query.object);
            if mismatch_given(rule, query, of_object, &mut asked)?.is_some() {
                continue;
            }
            if by_path {
                let mut alone = Decision::default();
                alone.take(index, rule, self);
                if !decisions.iter().any(|other| other.asks_the_same(&alone)) {
                    decisions.push(alone);
                }
            } else if let Some(pathless) = decisions.first_mut() {
                pathless.take(index, rule, self);
                open -= class;
            }
        }
        Ok(decisions)
    }

    /// Decides the measurement of a buffer: a key for a keyring `name`, data with the label `name`.
    ///
    /// # Errors
    /// As [`Policy::decide`].
    pub fn decide_data(&self, func: Func, name: &str, subject: &dyn Subject) -> Result<Decision, Undecided> {
        let mut asked = Asked::of(subject);
        self.walk(func, Actions::MEASURE, |_, rule| mismatch_of_data(rule, func, Some(name), &mut asked))
    }

    /// The one walk over the rules. `mismatch` says what keeps a rule, by its index, from matching.
    pub(crate) fn walk(
        &self,
        func: Func,
        wanted: Actions,
        mut mismatch: impl FnMut(usize, &Rule) -> Result<Option<Mismatch>, Undecided>,
    ) -> Result<Decision, Undecided> {
        let mut decision = Decision::default();
        let mut open = wanted & self.active();
        for (index, rule) in self.candidates(func) {
            if open.is_empty() {
                break;
            }
            let class = rule.action.class().bit();
            if open.contains(class) && mismatch(index, rule)?.is_none() {
                decision.take(index, rule, self);
                open -= class;
            }
        }
        Ok(decision)
    }
}

/// What keeps a rule that can match the query's func from matching the query.
pub(crate) fn mismatch(
    rule: &Rule,
    query: &Query<'_>,
    asked: &mut Asked<'_>,
) -> Result<Option<Mismatch>, Undecided> {
    mismatch_given(rule, query, || rule.when.mismatch_of_object(query.object), asked)
}

/// The same, given what of the object does not match.
fn mismatch_given(
    rule: &Rule,
    query: &Query<'_>,
    of_object: impl FnOnce() -> Option<Mismatch>,
    asked: &mut Asked<'_>,
) -> Result<Option<Mismatch>, Undecided> {
    if query.func.is_data() {
        return mismatch_of_data(rule, query.func, None, asked);
    }
    let when = &rule.when;
    let mask_ignored = query.func == Func::PostSetattr;
    if !mask_ignored && !when.mask.is_none_or(|test| test.holds(query.mask)) {
        return Ok(Some(Mismatch::Mask));
    }
    if let Some(mismatch) = of_object() {
        return Ok(Some(mismatch));
    }
    if when.needs_subject()
        && let Some(mismatch) = when.mismatch_of_subject(&asked.ids()?)
    {
        return Ok(Some(mismatch));
    }
    let Some(digests) = &when.digests else { return Ok(None) };
    match query.digest.filter(|digest| digest.algo() == digests.algo()) {
        Some(digest) => Ok((!digests.contains(digest)).then_some(Mismatch::Digest)),
        None => Err(Undecided::Digest(digests.algo())),
    }
}

/// Of ids, only the user's count here: the kernel takes `gid=` and ignores it.
pub(crate) fn mismatch_of_data(
    rule: &Rule,
    func: Func,
    name: Option<&str>,
    asked: &mut Asked<'_>,
) -> Result<Option<Mismatch>, Undecided> {
    let when = &rule.when;
    if when.func != Some(func) {
        return Ok(Some(Mismatch::Func));
    }
    if let Some(mismatch) = when.mismatch_of_data(func, name) {
        return Ok(Some(mismatch));
    }
    if when.user.is_none() { Ok(None) } else { Ok(when.mismatch_of_user(&asked.ids()?)) }
}
