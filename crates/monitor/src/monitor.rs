//! The monitor's face: accesses begin here, in the reader thread and in request order.
//!
//! What was checked before and still stands is answered at once, with one look at the inode's record. Everything
//! else becomes [`Work`] for another thread: collecting, verifying, extending. Accounting (who has the file open,
//! in which order) happens here and nowhere else, so it is right at any number of worker threads.
//!
//! Lock order: an inode's state alone; nothing else is taken while it is held, and no system call is made.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use appraise::{FileFacts, LabelPlace, Requirement, facts};
use arc_swap::ArcSwap;
use ima::{DigestKind, LabelType};
use parking_lot::Mutex;
use policy::{Actions, Class, Decision, Func, Mask, Policy, Query, RuleFlags};

use crate::access::{Access, is_write};
use crate::denial::Denial;
use crate::digests::{by_kind, kind};
use crate::exec::{ExecNotes, Ticket};
use crate::grant::Grant;
use crate::kind::Kind;
use crate::object::{Names, Object};
use crate::options::{Mode, Options};
use crate::plan::{Hooks, Plan};
use crate::reading::Leaving;
use crate::records;
use crate::release::Closing;
use crate::rules::Rules;
use crate::seldom::Seldom;
use crate::setlabel::is_signature;
use crate::state::{Inner, LAYERS, RuleId};
use crate::subject::Nobody;
use crate::violation;
use crate::work::Work;

/// The reference monitor of one mount.
#[derive(Debug)]
pub struct Monitor {
    pub(crate) options: Options,
    rules: ArcSwap<Rules>,
    /// Held while rules are replaced by ones made from them.
    replacing: Mutex<()>,
    pub(crate) execs: ExecNotes,
    /// Set when the mount is gone.
    pub(crate) leaving: Leaving,
    pub(crate) denials: AtomicU64,
    /// When the log last had a measurement that failed, by cause.
    pub(crate) unmeasured: Seldom,
}

/// The host allows the container no rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the container has no policy of its own")]
pub struct NoContainerLayer;

/// Another mode would let through more than the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mode can only be tightened")]
pub struct WouldWeaken;

/// How an open began.
#[derive(Debug)]
pub enum Begun {
    /// It is decided.
    Done(Result<Grant, Denial>),
    /// It takes longer; run the work in another thread, in order with other work of the same inode.
    Work(Work),
}

/// A change of an inode that did not come through an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The inode was made by `mknod`, and nobody has opened it yet.
    Created,
    /// The content was truncated or otherwise changed by path.
    Content,
    /// `security.ima` was set to a value of this type byte, or removed.
    Label(Option<u8>),
}

impl Monitor {
    /// Makes the monitor of one mount.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let writable = options.labels.are_writable();
        let rules = Rules::first(options.mode, options.host.clone(), options.container.clone(), writable);
        let (rules, replacing) = (ArcSwap::from_pointee(rules), Mutex::new(()));
        let (execs, leaving, denials) = (ExecNotes::new(), Leaving::new(), AtomicU64::new(0));
        let unmeasured = Seldom::default();
        Arc::new(Self { options, rules, replacing, execs, leaving, denials, unmeasured })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether any rule looks at paths, or may yet come that does.
    #[must_use]
    pub fn goes_by_path(&self) -> bool {
        let rules = self.rules.load();
        rules.uses.path || rules.container.is_some()
    }

    /// The rules in force now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Puts a policy in the place of the container's, for every access that begins from now on. Appraisals that were
    /// remembered end; what has been measured and audited stays so, as in the kernel.
    ///
    /// # Errors
    /// [`NoContainerLayer`] when the host allows none.
    pub fn load_container(&self, policy: Arc<Policy>) -> Result<(), NoContainerLayer> {
        let _replacing = self.replacing.lock();
        let rules = self.rules.load().with_container(policy).ok_or(NoContainerLayer)?;
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    /// Sets the appraisal mode, for every access that begins from now on. This can weaken the mount, so it is for the
    /// host alone; see [`Monitor::tighten_mode`].
    pub fn set_mode(&self, mode: Mode) {
        let _replacing = self.replacing.lock();
        let rules = self.rules.load().with_mode(mode);
        self.rules.store(Arc::new(rules));
    }

    /// Sets the appraisal mode where the new one lets through no more than the one in force.
    ///
    /// # Errors
    /// [`WouldWeaken`] otherwise; nothing has changed then.
    pub fn tighten_mode(&self, mode: Mode) -> Result<(), WouldWeaken> {
        let _replacing = self.replacing.lock();
        let rules = self.rules.load();
        if !mode.is_at_least(rules.mode) {
            return Err(WouldWeaken);
        }
        self.rules.store(Arc::new(rules.with_mode(mode)));
        Ok(())
    }

    /// Says that the mount is gone: nobody waits for checks any more, so that content is not read on for them, and labels
    /// are renewed for a while only.
    pub fn leave(&self) {
        self.leaving.get_or_init(Instant::now);
    }

    /// How many accesses were refused since the mount began.
    #[must_use]
    pub fn denials(&self) -> u64 {
        self.denials.load(Ordering::Relaxed)
    }

    /// Counts an answer that refuses.
    pub(crate) fn count_denial_if(&self, denial: &Denial) {
        if denial.is_refusal() {
            self.count_denial();
        }
    }

    pub(crate) fn count_denial(&self) {
        self.denials.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins one open. Called in the reader thread, in the order the requests arrived.
    ///
    /// The open counts from here on, until [`Monitor::release`] or its refusal.
    #[must_use]
    pub fn begin_open(self: &Arc<Self>, object: Arc<dyn Object>, access: Access) -> Begun {
        self.begin_held_open(object, access, None)
    }

    /// Begins the open of a file that this open itself made without a name (`O_TMPFILE`); else as
    /// [`Monitor::begin_open`].
    ///
    /// The kernel asks no hook then, so nothing is measured or appraised of a file that has no content yet. Where rules
    /// for opens appraise, its label follows when the last writer closes (`ima_post_create_tmpfile` in ima_main.c). A
    /// rule that denies the file whatever its label says, which the kernel has not, denies this too.
    #[must_use]
    pub fn begin_nameless(self: &Arc<Self>, object: Arc<dyn Object>, access: Access) -> Begun {
        self.begin(object, access, None, true)
    }

    /// What the object is called now, for an open that arrives now and begins later; none where no rule asks.
    #[must_use]
    pub fn names_now(&self, object: &dyn Object) -> Option<Names> {
        let facts = || facts(object.stat_fd().ok()?).ok();
        self.rules.load().uses.path.then(|| facts().map(|facts| object.names(facts.links))).flatten()
    }

    /// Begins one open that was held, by the names that [`Monitor::names_now`] gave when it arrived.
    #[must_use]
    pub fn begin_held_open(
        self: &Arc<Self>,
        object: Arc<dyn Object>,
        access: Access,
        names: Option<Names>,
    ) -> Begun {
        self.begin(object, access, names, false)
    }

    fn begin(
        self: &Arc<Self>,
        object: Arc<dyn Object>,
        access: Access,
        names: Option<Names>,
        nameless: bool,
    ) -> Begun {
        let facts = match object.stat_fd().and_then(|fd| Ok(facts(fd)?)) {
            Ok(facts) => facts,
            Err(error) => {
                self.count_denial();
                return Begun::Done(Err(records::unreadable(self, object.as_ref(), &access, &error)));
            }
        };
        let rules = self.rules();
        if !facts.is_regular() || !rules.uses.anything {
            object.state().with(|inner| inner.count(access.flags));
            return Begun::Done(Ok(Grant::mint(object, facts.version, access.flags, Ticket::NONE)));
        }
        let label = self.find_label(object.as_ref());
        let known = object.state().with(|inner| Known::of(inner, &facts, label));
        let inode = (facts.version.dev(), facts.version.ino());
        let as_interpreter = access.is_exec() && rules.uses.any_exec && self.execs.take(access.tid, inode);
        let plan = Plan { as_interpreter, nameless, ..known.plan(object, access, facts, rules, names) };
        match self.remembered_grant(&plan, &known) {
            Some(grant) => Begun::Done(Ok(grant)),
            None => {
                plan.object.state().with(|inner| {
                    inner.count(access.flags);
                    inner.pending = inner.pending.saturating_add(1);
                });
                Begun::Work(Work::new(Arc::clone(self), plan))
            }
        }
    }

    /// Where the label of an object is for the access that arrives now. What the record knows by another is forgotten.
    pub(crate) fn find_label(&self, object: &dyn Object) -> LabelPlace {
        let labels = &self.options.labels;
        let place = labels.place_of(|| object.path());
        if object.state().with(|inner| inner.label_is_at(place)) {
            let label = object.stat_fd().ok().and_then(|fd| labels.read(place, fd).ok());
            let kind = label.as_ref().and_then(|label| label.value()).and_then(ima::label_type);
            object.state().with(|inner| inner.signed = kind.is_some_and(is_signature));
        }
        place
    }

    /// The grant, when everything this access needs was done before and stands.
    fn remembered_grant(&self, plan: &Plan, known: &Known) -> Option<Grant> {
        let access = &plan.access;
        if known.pending || known.doubtful || access.created || plan.nameless {
            return None;
        }
        // What is written is not started, and what is started not written: see `Check::nobody_writes_it`.
        if (access.is_write() && known.executors > 0) || (access.is_exec() && known.writers > 0) {
            return None;
        }
        if access.is_write() && known.served_signed {
            return None;
        }
        if self.needs_kind(&plan.rules.uses, access) && known.kind.is_none() {
            return None;
        }
        let mapped = self.mapped(access, known.kind.as_ref());
        let hooks = self.hooks(plan, mapped, known.digest.as_slice()).ok()?;
        let stands = plan.object.state().with(|inner| {
            let stands = self.all_remembered(inner, plan, &hooks)
                && violation::due(self, inner, plan, &hooks, false).is_none();
            if stands {
                inner.count(access.flags);
                violation::arm(inner, plan, &hooks);
                note_served(inner, plan, &hooks);
                if access.is_write() {
                    inner.relabel |= inner.hash_owed || plan.rules.uses.wants_relabel(&hooks);
                }
            }
            stands
        });
        if !stands {
            return None;
        }
        let ticket = self.note_interpreter(plan, known.kind.as_ref());
        Some(Grant::mint(Arc::clone(&plan.object), plan.facts.version, access.flags, ticket))
    }

    /// Whether nothing is left to do for any hook: measured, audited, appraised, and the results stand.
    fn all_remembered(&self, inner: &mut Inner, plan: &Plan, hooks: &Hooks) -> bool {
        inner.enter_generation(plan.rules.generation());
        if inner.pending > 0 || !inner.knows_by(plan.label) {
            return false;
        }
        hooks.iter().all(|hook| {
            hook.decisions.iter().enumerate().all(|(layer, decision)| {
                let Some(decision) = decision else { return true };
                let actions = decision.actions;
                let strict = is_strict(inner, decision);
                let wanted = by_kind(decision);
                let alone = wanted.iter().all(|(_, actions)| actions.is_empty());
                let stands = |kind| inner.stands(kind, &plan.facts.version, plan.writers_before, strict);
                if !wanted.iter().all(|(kind, actions)| actions.is_empty() || stands(*kind))
                    || (alone && !stands(DigestKind::Ima))
                {
                    return false;
                }
                let pcr = decision.pcr.unwrap_or(self.options.pcr);
                let measured = !actions.contains(Actions::MEASURE) || inner.is_measured(layer, pcr);
                let audited = !actions.contains(Actions::AUDIT) || inner.audited;
                let hashed = !actions.contains(Actions::HASH) || inner.hashed;
                measured && audited && hashed && self.appraisal_remembered(inner, plan, layer, decision)
            })
        })
    }

    fn appraisal_remembered(&self, inner: &Inner, plan: &Plan, layer: usize, decision: &Decision) -> bool {
        if !decision.actions.contains(Actions::APPRAISE) {
            return true;
        }
        if decision.flags.contains(RuleFlags::DENY) {
            return false;
        }
        let needs_signature = decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED);
        let algo_allowed = decision.algos.as_ref().is_none_or(|algos| {
            let collected = inner.collected.of(kind(decision, Class::Appraise));
            collected.is_some_and(|collected| algos.contains(collected.digest.algo()))
        });
        let immutable = plan.access.is_write() && inner.signed && !inner.is_new(layer);
        inner.has_passed(layer, decision.appraise_class, requirement(decision))
            && (inner.signed || !needs_signature)
            && algo_allowed
            && !immutable
    }

    /// Notes which inode the kernel will open next as the interpreter of a program just granted.
    pub(crate) fn note_interpreter(&self, plan: &Plan, kind: Option<&Kind>) -> Ticket {
        if !plan.access.is_exec() || plan.as_interpreter {
            return Ticket::NONE;
        }
        if let Some(Kind::Elf { interpreter: Some(path) }) = kind
            && let Some(inode) = plan.object.resolve(path)
        {
            return self.execs.expect(plan.access.tid, inode);
        }
        Ticket::NONE
    }

    /// Ends one open. Called in the reader thread, in request order, with the ticket of the open's grant.
    ///
    /// When it was the last writer, the work that is given back renews the hash label; it must run before any
    /// later request on this inode is answered.
    #[must_use]
    pub fn release(self: &Arc<Self>, object: Arc<dyn Object>, flags: i32, ticket: Ticket) -> Option<Closing> {
        self.execs.end(ticket);
        let last = object.state().with(|inner| {
            inner.uncount(flags);
            let last = is_write(flags) && inner.writers == 0;
            if last {
                inner.pending = inner.pending.saturating_add(1);
            }
            last.then_some(inner.writer_epoch)
        });
        last.map(|epoch| Closing::new(Arc::clone(self), object, epoch))
    }

    /// The work of renewing a label that is owed since a close that came to [`Closed::Mapped`](crate::Closed), if it
    /// still is. To be run like that close's own. Nobody tells when a mapping ends, so this is to be asked now and then.
    #[must_use]
    pub fn owed(self: &Arc<Self>, object: Arc<dyn Object>) -> Option<Closing> {
        let epoch = object.state().with(|inner| {
            // Writers that have come since leave it to their own close.
            let owed = inner.relabel && inner.was_written && inner.writers == 0;
            if owed {
                inner.pending = inner.pending.saturating_add(1);
            }
            owed.then_some(inner.writer_epoch)
        });
        epoch.map(|epoch| Closing::again(Arc::clone(self), object, epoch))
    }

    /// Says that an inode changed otherwise than through an open.
    pub fn changed(&self, object: &dyn Object, change: Change) {
        let new = match change {
            Change::Created => self.new_to(object),
            Change::Content | Change::Label(_) => [false; LAYERS],
        };
        let appraises = self.rules().uses.appraise;
        object.state().with(|inner| {
            inner.changes = inner.changes.wrapping_add(1);
            match change {
                Change::Created => new.iter().enumerate().for_each(|(layer, new)| inner.set_new(layer, *new)),
                // Under a writer it is one more write (`O_TRUNC` comes like this), and ends as those do.
                Change::Content if inner.writers > 0 => {}
                Change::Content => inner.forget_content(),
                // A policy that does not appraise takes no notice of labels (`ima_reset_appraise_flags`).
                Change::Label(_) if !appraises => {}
                Change::Label(kind) => {
                    inner.forget_content();
                    inner.signed = kind.is_some_and(|byte| is_signature(LabelType::from_byte(byte)));
                }
            }
        });
    }

    /// The layers whose rules for opens would appraise or hash a file that `mknod` made
    /// (`ima_post_path_mknod` in ima_main.c). Who made it is not known here, so a rule that asks counts.
    fn new_to(&self, object: &dyn Object) -> [bool; LAYERS] {
        let mut new = [false; LAYERS];
        let Ok(facts) = object.stat_fd().and_then(|fd| Ok(facts(fd)?)) else { return new };
        let rules = self.rules();
        let path = if rules.uses.path { object.path() } else { Vec::new() };
        let query = Query {
            func: Func::FileCheck,
            mask: Mask::ACCESS,
            object: &self.policy_object(&facts, &path),
            subject: &Nobody,
            digest: None,
        };
        for (slot, layer) in new.iter_mut().zip(rules.layers()) {
            let decision = layer.policy.decide_among(&query, Actions::APPRAISE | Actions::HASH);
            let none = decision.is_ok_and(|decision| decision.actions.is_empty());
            *slot = rules.uses.appraise && !none;
        }
        new
    }

    /// Asks whether `security.ima` or `security.evm` may be set to `value`, or removed.
    ///
    /// Whoever asks has `CAP_SYS_ADMIN` already: the VFS saw to that. Other attributes are none of the monitor's
    /// business and are allowed.
    ///
    /// # Errors
    /// `EINVAL` for a value no label can have, `EPERM` for `security.evm`, `EACCES` for an algorithm that the
    /// policy's `SETXATTR_CHECK` rule does not list or that nothing here can compute.
    pub fn check_label(
        &self,
        object: &dyn Object,
        access: &Access,
        name: &OsStr,
        value: Option<&[u8]>,
    ) -> Result<(), Denial> {
        crate::setlabel::check(self, object, access, name, value)
    }
}

/// Whether content must be looked at anew while writers have the file open: unless its label will be redone, what
/// they write need not pass.
pub(crate) fn is_strict(inner: &Inner, decision: &Decision) -> bool {
    decision.actions.contains(Actions::APPRAISE) && (!inner.relabel || asks_signature(inner, decision))
}

/// Notes that content is being served because of its signature, and by which rule.
pub(crate) fn note_served(inner: &mut Inner, plan: &Plan, hooks: &Hooks) {
    if plan.access.is_write() {
        return;
    }
    if plan.access.is_exec() {
        inner.started_by = first_appraising(hooks, |_| true);
    }
    let rule = first_appraising(hooks, |decision| asks_signature(inner, decision));
    inner.served_signed = rule.or(inner.served_signed);
}

/// The first rule that has the content appraised and of whose decision `that` holds.
pub(crate) fn first_appraising(hooks: &Hooks, that: impl Fn(&Decision) -> bool) -> Option<RuleId> {
    hooks.iter().flat_map(|hook| hook.decisions.iter().enumerate()).find_map(|(layer, decision)| {
        let appraises = |decision: &&Decision| decision.actions.contains(Actions::APPRAISE);
        let decision = decision.as_ref().filter(appraises).filter(|decision| that(decision))?;
        Some(RuleId { layer, index: decision.deciding(Class::Appraise)? })
    })
}

/// Whether a signature is asked for or found.
pub(crate) fn asks_signature(inner: &Inner, decision: &Decision) -> bool {
    inner.signed || decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED)
}

/// What a rule asks of the label.
pub(crate) fn requirement(decision: &Decision) -> Requirement {
    if decision.flags.contains(RuleFlags::VERITY) {
        Requirement::VeritySignature
    } else if decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED) {
        Requirement::Signature
    } else {
        Requirement::AnyLabel
    }
}

/// What the record held when the access began.
pub(crate) struct Known {
    label: LabelPlace,
    readers: u32,
    writers: u32,
    epoch: u32,
    executors: u32,
    served_signed: bool,
    pending: bool,
    /// No open for writing stands, but a mapping made under an earlier one may.
    doubtful: bool,
    kind: Option<Kind>,
    digest: Option<ima::Digest>,
}

impl Known {
    /// The plan of an access that begins now, for a file as such; by its names now, unless it arrived earlier.
    pub(crate) fn plan(
        &self,
        object: Arc<dyn Object>,
        access: Access,
        facts: FileFacts,
        rules: Arc<Rules>,
        names: Option<Names>,
    ) -> Plan {
        let names = match names {
            _ if !rules.uses.path => Names::default(),
            Some(names) => names,
            None => object.names(facts.links),
        };
        Plan {
            label: self.label,
            names,
            as_interpreter: false,
            nameless: false,
            reads_policy: false,
            readers_before: self.readers,
            writers_before: self.writers,
            writer_epoch: self.epoch,
            executors_before: self.executors,
            rules,
            object,
            access,
            facts,
        }
    }

    pub(crate) fn of(inner: &Inner, facts: &FileFacts, label: LabelPlace) -> Self {
        let kind = inner.kind_at(&facts.version, inner.writers);
        let stands = inner.stands(DigestKind::Ima, &facts.version, inner.writers, true);
        let digest = inner.collected.of(DigestKind::Ima).filter(|_| stands);
        Self {
            label,
            readers: inner.readers,
            writers: inner.writers,
            epoch: inner.writer_epoch,
            executors: inner.executors,
            served_signed: inner.served_signed.is_some(),
            pending: inner.pending > 0,
            doubtful: inner.was_written && inner.writers == 0,
            kind: kind.cloned(),
            digest: digest.map(|collected| collected.digest),
        }
    }
}
