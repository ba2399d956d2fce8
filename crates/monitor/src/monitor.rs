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

use appraise::{FileFacts, facts};
use policy::{Actions, Func, RuleFlags};

use crate::access::Access;
use crate::denial::Denial;
use crate::exec::ExecNotes;
use crate::grant::Grant;
use crate::kind::Kind;
use crate::object::Object;
use crate::options::{Mode, Options};
use crate::plan::{Hooks, Plan};
use crate::records;
use crate::release::Closing;
use crate::state::Inner;
use crate::violation;
use crate::work::Work;

/// The reference monitor of one mount.
#[derive(Debug)]
pub struct Monitor {
    pub(crate) options: Options,
    pub(crate) uses: Uses,
    pub(crate) execs: ExecNotes,
    pub(crate) denials: AtomicU64,
}

/// What the loaded policies can ask at all, so that what none asks for is not found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uses {
    /// Some rule can act.
    pub anything: bool,
    /// Some rule measures.
    pub measure: bool,
    /// Some rule appraises, and the mode is not `off`.
    pub appraise: bool,
    /// Some rule can match at `MMAP_CHECK`.
    pub mmap: bool,
    /// Some rule can match differently for a program than for its interpreter, or at a mapping.
    pub any_exec: bool,
    /// Some rule looks at the path.
    pub path: bool,
}

impl Uses {
    fn of(options: &Options) -> Self {
        let policies = || {
            std::iter::once(&options.host)
                .chain(options.container.as_ref())
                .map(|layer| layer.policy.as_ref())
        };
        let any = |test: &dyn Fn(&policy::Policy) -> bool| policies().any(test);
        let mmap = any(&|policy| policy.uses_func(Func::MmapCheck));
        Self {
            anything: any(&|policy| !policy.active().is_empty()),
            measure: any(&policy::Policy::has_measure),
            appraise: options.mode != Mode::Off && any(&policy::Policy::has_appraise),
            mmap,
            any_exec: mmap
                || any(&|policy| policy.uses_func(Func::BprmCheck) || policy.uses_func(Func::CredsCheck)),
            path: any(&policy::Policy::needs_path),
        }
    }
}

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
        let uses = Uses::of(&options);
        Arc::new(Self { options, uses, execs: ExecNotes::new(), denials: AtomicU64::new(0) })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many accesses were refused since the mount began.
    #[must_use]
    pub fn denials(&self) -> u64 {
        self.denials.load(Ordering::Relaxed)
    }

    pub(crate) fn count_denial(&self) {
        self.denials.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins one open. Called in the reader thread, in the order the requests arrived.
    ///
    /// The open counts from here on, until [`Monitor::release`] or its refusal.
    #[must_use]
    pub fn begin_open(self: &Arc<Self>, object: Arc<dyn Object>, access: Access) -> Begun {
        let facts = match object.stat_fd().and_then(|fd| Ok(facts(fd)?)) {
            Ok(facts) => facts,
            Err(error) => {
                self.count_denial();
                return Begun::Done(Err(records::unreadable(self, object.as_ref(), &access, &error)));
            }
        };
        if !facts.is_regular() || !self.uses.anything {
            object.state().with(|inner| inner.count(access.is_write()));
            return Begun::Done(Ok(Grant::mint(object, facts.version, access.flags)));
        }
        let known = object.state().with(|inner| Known::of(inner, &access, &facts));
        let inode = (facts.version.dev(), facts.version.ino());
        let plan = Plan {
            as_interpreter: access.is_exec() && self.uses.any_exec && self.execs.take(access.tid, inode),
            readers_before: known.readers,
            writers_before: known.writers,
            writer_epoch: known.epoch,
            object,
            access,
            facts,
        };
        match self.remembered_grant(&plan, &known) {
            Some(grant) => Begun::Done(Ok(grant)),
            None => {
                plan.object.state().with(|inner| {
                    inner.count(access.is_write());
                    inner.pending = inner.pending.saturating_add(1);
                    inner.new |= access.created;
                });
                Begun::Work(Work::new(Arc::clone(self), plan))
            }
        }
    }

    /// The grant, when everything this access needs was done before and stands.
    fn remembered_grant(&self, plan: &Plan, known: &Known) -> Option<Grant> {
        let access = &plan.access;
        if known.pending || known.doubtful || access.created || access.is_direct() {
            return None;
        }
        if self.needs_kind(access) && known.kind.is_none() {
            return None;
        }
        let mapped = self.mapped(access, known.kind.as_ref());
        let hooks = self.hooks(plan, mapped, known.digest.as_ref()).ok()?;
        let stands = plan.object.state().with(|inner| {
            let stands = self.all_remembered(inner, plan, &hooks)
                && violation::due(self, inner, plan, &hooks, false).is_none();
            if stands {
                inner.count(access.is_write());
                violation::arm(inner, plan, &hooks);
                if access.is_write() && wants_relabel(&hooks) {
                    inner.relabel = true;
                }
            }
            stands
        });
        if !stands {
            return None;
        }
        self.note_interpreter(plan, known.kind.as_ref());
        Some(Grant::mint(Arc::clone(&plan.object), plan.facts.version, access.flags))
    }

    /// Whether nothing is left to do for any hook: measured, audited, appraised, and the results stand.
    fn all_remembered(&self, inner: &mut Inner, plan: &Plan, hooks: &Hooks) -> bool {
        inner.enter_generation(self.generation());
        if inner.pending > 0 {
            return false;
        }
        hooks.iter().all(|hook| {
            hook.decisions.iter().enumerate().all(|(layer, decision)| {
                let Some(decision) = decision else { return true };
                let actions = decision.actions;
                let strict = is_strict(inner, decision);
                if !inner.stands(&plan.facts.version, plan.writers_before, strict) {
                    return false;
                }
                let pcr = decision.pcr.unwrap_or(self.options.pcr);
                let measured = !actions.contains(Actions::MEASURE) || inner.is_measured(pcr);
                let audited = !actions.contains(Actions::AUDIT) || inner.audited;
                let hashed = !actions.contains(Actions::HASH) || inner.hashed;
                measured && audited && hashed && self.appraisal_remembered(inner, plan, layer, decision)
            })
        })
    }

    fn appraisal_remembered(
        &self,
        inner: &Inner,
        plan: &Plan,
        layer: usize,
        decision: &policy::Decision,
    ) -> bool {
        if !decision.actions.contains(Actions::APPRAISE) {
            return true;
        }
        if decision.flags.contains(RuleFlags::DENY) {
            return false;
        }
        let needs_signature = decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED);
        let algo_allowed = decision.algos.as_ref().is_none_or(|algos| {
            inner.collected.is_some_and(|collected| algos.contains(collected.digest.algo()))
        });
        let immutable = plan.access.is_write() && inner.signed && !inner.new;
        inner.has_passed(layer, decision.appraise_class)
            && (inner.signed || !needs_signature)
            && algo_allowed
            && !immutable
    }

    /// Notes which inode the kernel will open next as the interpreter of a program just granted.
    pub(crate) fn note_interpreter(&self, plan: &Plan, kind: Option<&Kind>) {
        if !plan.access.is_exec() || plan.as_interpreter {
            return;
        }
        if let Some(Kind::Elf { interpreter: Some(path) }) = kind
            && let Some(inode) = plan.object.resolve(path)
        {
            self.execs.expect(plan.access.tid, inode);
        }
    }

    /// Ends one open. Called in the reader thread, in request order.
    ///
    /// When it was the last writer, the work that is given back renews the hash label; it must run before any
    /// later request on this inode is answered.
    #[must_use]
    pub fn release(self: &Arc<Self>, object: Arc<dyn Object>, flags: i32) -> Option<Closing> {
        let write = crate::access::is_write(flags);
        let last = object.state().with(|inner| {
            inner.uncount(write);
            let last = write && inner.writers == 0;
            if last {
                inner.pending = inner.pending.saturating_add(1);
            }
            last
        });
        last.then(|| Closing::new(Arc::clone(self), object))
    }

    /// Says that an inode changed otherwise than through an open.
    pub fn changed(&self, object: &dyn Object, change: Change) {
        object.state().with(|inner| match change {
            Change::Created => inner.new = self.marks_new(),
            Change::Content => inner.forget_content(),
            Change::Label(kind) => {
                inner.forget_label();
                inner.signed = kind.is_some_and(|byte| byte == ima::label::TYPE_SIGNATURE);
            }
        });
    }

    /// Whether any rule makes it matter that a file is new.
    fn marks_new(&self) -> bool {
        self.uses.appraise
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

    /// The keys and rules in force, as one number that changes when any of them does.
    pub(crate) fn generation(&self) -> u64 {
        self.layers().map(|layer| layer.ring.generation()).sum::<u64>().wrapping_add(1)
    }
}

/// Whether what was remembered may serve while writers have the file open.
pub(crate) fn is_strict(inner: &Inner, decision: &policy::Decision) -> bool {
    decision.actions.contains(Actions::APPRAISE)
        && (inner.signed || decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED))
}

/// Whether an open for writing that these hooks allow has its label redone at the last close.
pub(crate) fn wants_relabel(hooks: &Hooks) -> bool {
    hooks.iter().any(|hook| hook.actions().intersects(Actions::APPRAISE | Actions::HASH))
}

/// What the record held when the access began.
struct Known {
    readers: u32,
    writers: u32,
    epoch: u32,
    pending: bool,
    /// No open for writing stands, but a mapping made under an earlier one may.
    doubtful: bool,
    kind: Option<Kind>,
    digest: Option<ima::Digest>,
}

impl Known {
    fn of(inner: &Inner, access: &Access, facts: &FileFacts) -> Self {
        let kind = inner.kind.as_ref().filter(|(version, _)| *version == facts.version);
        let digest = inner.collected.filter(|_| inner.stands(&facts.version, inner.writers, true));
        Self {
            readers: inner.readers,
            writers: inner.writers,
            epoch: if access.is_write() && inner.writers == 0 { 0 } else { inner.writer_epoch },
            pending: inner.pending > 0,
            doubtful: inner.was_written && inner.writers == 0,
            kind: kind.map(|(_, kind)| kind.clone()),
            digest: digest.map(|collected| collected.digest),
        }
    }
}
