//! The plan of one access: which hooks it passes, and what policy says at each.
//!
//! Made in the reader thread, before anything slow; it takes no lock and makes no system call but, where a rule
//! asks for the opener's ids, the read of one `/proc` file.

use std::sync::Arc;

use appraise::{FileFacts, LabelPlace};
use policy::{Actions, Decision, Func, Mask, Query, Undecided};

use crate::access::Access;
use crate::kind::Kind;
use crate::monitor::Monitor;
use crate::object::{Names, Object};
use crate::options::{Layer, MmapCheck, Mode};
use crate::rules::Rules;
use crate::state::{HOST, LAYERS};
use crate::subject::ProcSubject;
use crate::uses::Uses;

/// The most hooks one open can pass: the open itself, then as a policy, as a program, under its credentials, as a
/// mapping.
const MOST: usize = 5;

/// One hook of one access, and each layer's decision there.
#[derive(Debug)]
pub(crate) struct Hook {
    pub func: Func,
    pub decisions: [Option<Decision>; LAYERS],
}

impl Hook {
    /// All that any layer wants done here.
    pub fn actions(&self) -> Actions {
        self.decisions.iter().flatten().fold(Actions::empty(), |all, decision| all | decision.actions)
    }
}

/// The hooks of one access, in the kernel's order.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    list: [Option<Hook>; MOST],
    /// The same hooks once more, with what is asked of the file's other names only. All must be content.
    others: Vec<Hook>,
}

impl Hooks {
    pub fn iter(&self) -> impl Iterator<Item = &Hook> {
        self.list.iter().flatten().chain(&self.others)
    }

    /// Takes up what is asked of another name, if it is not asked already.
    fn also(&mut self, mut hook: Hook) {
        for known in self.iter().filter(|known| known.func == hook.func) {
            for (decision, known) in hook.decisions.iter_mut().zip(&known.decisions) {
                if decision.as_ref().zip(known.as_ref()).is_some_and(|(new, known)| new.asks_the_same(known))
                {
                    *decision = None;
                }
            }
        }
        if hook.decisions.iter().any(Option::is_some) {
            self.others.push(hook);
        }
    }
}

/// Everything known of one access before any of its content has been looked at.
pub(crate) struct Plan {
    pub object: Arc<dyn Object>,
    pub access: Access,
    pub facts: FileFacts,
    /// Where its label was when the access arrived.
    pub label: LabelPlace,
    /// What the file was called when the access arrived, where rules ask for that.
    pub names: Names,
    /// The kernel opens this file as the interpreter of the program it has just opened.
    pub as_interpreter: bool,
    /// This open made the file, without a name.
    pub nameless: bool,
    /// The file is read to be loaded as a policy.
    pub reads_policy: bool,
    /// Read-only opens that stood before this access.
    pub readers_before: u32,
    /// Opens for writing that stood before this access.
    pub writers_before: u32,
    /// The writers' epoch at that moment.
    pub writer_epoch: u32,
    /// Opens for execution that stood before this access.
    pub executors_before: u32,
    /// The rules by which it is decided, to its end.
    pub rules: Arc<Rules>,
}

/// What of a file's kind matters for its hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapped {
    Yes,
    No,
}

impl Monitor {
    /// Whether telling the hooks of this access needs a look into the file.
    pub(crate) fn needs_kind(&self, uses: &Uses, access: &Access) -> bool {
        if access.is_exec() {
            return uses.any_exec;
        }
        uses.mmap && access.is_read() && self.options.mmap_check == MmapCheck::Elf
    }

    /// Whether this access counts as a mapping, given the kind of the file where it was needed.
    pub(crate) fn mapped(&self, access: &Access, kind: Option<&Kind>) -> Mapped {
        let elf = kind.is_some_and(Kind::is_elf);
        let maps = if access.is_exec() {
            elf
        } else {
            access.is_read()
                && match self.options.mmap_check {
                    MmapCheck::Elf => elf,
                    MmapCheck::All => true,
                    MmapCheck::Off => false,
                }
        };
        if maps { Mapped::Yes } else { Mapped::No }
    }

    /// Asks every layer at every hook of this access.
    ///
    /// # Errors
    /// [`Undecided`] when a rule needs something of the opener that cannot be found out.
    pub(crate) fn hooks(
        &self,
        plan: &Plan,
        mapped: Mapped,
        digests: &[ima::Digest],
    ) -> Result<Hooks, Undecided> {
        let access = &plan.access;
        let program = access.is_exec() && !plan.as_interpreter;
        let passes = [
            Some((Func::FileCheck, access.file_mask())),
            plan.reads_policy.then_some((Func::PolicyCheck, Mask::READ)),
            program.then_some((Func::BprmCheck, Mask::EXEC)),
            program.then_some((Func::CredsCheck, Mask::EXEC)),
            // An interpreter is mapped whatever we make of it: the kernel has its own idea of what is ELF.
            (mapped == Mapped::Yes || plan.as_interpreter).then_some((Func::MmapCheck, Mask::EXEC)),
        ];
        let subject = ProcSubject::new(access.tid);
        let names = &plan.names;
        // What no path leads to would slip through every rule about paths.
        let lost = names.paths.is_empty() || names.paths.iter().any(|path| !path.starts_with(b"/"));
        if plan.rules.uses.path && lost {
            return Err(Undecided::Path);
        }
        let (path, others) = names.paths.split_first().map_or((&[][..], &[][..]), |(path, o)| (path, o));
        let object = self.policy_object(&plan.facts, path);
        let asking = Asking { rules: &plan.rules, digests };
        let mut hooks = Hooks::default();
        for (slot, pass) in hooks.list.iter_mut().zip(passes) {
            let Some((func, mask)) = pass else { continue };
            let query = Query { func, mask, object: &object, subject: &subject, digest: None };
            *slot = Some(asking.at_hook(&query)?);
        }
        for (func, mask) in passes.into_iter().flatten().filter(|_| names.more || !others.is_empty()) {
            for path in others {
                let object = self.policy_object(&plan.facts, path);
                let query = Query { func, mask, object: &object, subject: &subject, digest: None };
                hooks.also(asking.at_hook(&query)?);
            }
            if names.more {
                let query = Query { func, mask, object: &object, subject: &subject, digest: None };
                asking.by_any_name(&query, &mut hooks)?;
            }
        }
        Ok(hooks)
    }

    pub(crate) fn policy_object<'a>(&'a self, facts: &FileFacts, path: &'a [u8]) -> policy::Object<'a> {
        let backing = &self.options.backing;
        policy::Object {
            fsmagic: backing.magic,
            fsname: &backing.name,
            fs_subtype: backing.subtype.as_deref(),
            fsuuid: backing.uuid,
            owner: facts.owner,
            group: facts.group,
            path,
        }
    }
}

/// The layers being asked, and what is known of the content for them.
struct Asking<'a> {
    rules: &'a Rules,
    digests: &'a [ima::Digest],
}

impl Asking<'_> {
    /// Takes up whatever may be asked of a name that is not known.
    fn by_any_name(&self, query: &Query<'_>, hooks: &mut Hooks) -> Result<(), Undecided> {
        for (index, layer) in self.rules.layers().enumerate() {
            for decision in layer.policy.decide_whatever_path(&self.to(layer, query))? {
                let mut decisions = [None, None];
                if let Some(slot) = decisions.get_mut(index) {
                    *slot = self.in_force(index, decision);
                }
                hooks.also(Hook { func: query.func, decisions });
            }
        }
        Ok(())
    }

    /// What each layer wants done at one hook.
    fn at_hook(&self, query: &Query<'_>) -> Result<Hook, Undecided> {
        let mut decisions = [None, None];
        for (index, (slot, layer)) in decisions.iter_mut().zip(self.rules.layers()).enumerate() {
            *slot = self.in_force(index, layer.policy.decide(&self.to(layer, query))?);
        }
        Ok(Hook { func: query.func, decisions })
    }

    /// The question as it is put to one layer, whose digests may be of another algorithm than the other's.
    fn to<'q>(&'q self, layer: &Layer, query: &Query<'q>) -> Query<'q> {
        let algo = layer.policy.digest_algo();
        Query { digest: self.digests.iter().find(|digest| Some(digest.algo()) == algo), ..*query }
    }

    /// What of a layer's decision counts, if anything does. The container is not heard about the audit trail, which is
    /// the host's.
    fn in_force(&self, index: usize, mut decision: Decision) -> Option<Decision> {
        if self.rules.mode == Mode::Off {
            decision.actions.remove(Actions::APPRAISE);
        }
        if index != HOST {
            decision.actions.remove(Actions::AUDIT);
        }
        (!decision.actions.is_empty()).then_some(decision)
    }
}
