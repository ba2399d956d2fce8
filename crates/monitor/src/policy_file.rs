//! Reading a file to load it as a policy: an open for reading that also passes `POLICY_CHECK`, and whose content is
//! given out only if it is what was checked.
//!
//! `spec/ima-policy.md` section 7; `ima_read_policy` in security/integrity/ima/ima_fs.c. There the content is read into
//! memory and the hook sees those bytes; here what is read after the check is held against its digest.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use appraise::{ContentVersion, facts};
use audit::RecordType;
use ima::Digest;

use crate::access::Access;
use crate::check::{Check, Left, NotYet};
use crate::denial::Denial;
use crate::monitor::{Known, Monitor};
use crate::object::Object;
use crate::plan::Plan;
use crate::reading::{Lane, Reading, Unfinished};
use crate::records::{self, Event};
use crate::work::{Progress, Step};

/// A policy file about to be checked and read. It counts as open for reading until it is dropped.
///
/// Must run in its place among the work of the same inode.
#[must_use = "a policy that is not read is not loaded"]
pub struct PolicyRead {
    monitor: Arc<Monitor>,
    plan: Plan,
    progress: Progress,
}

impl Monitor {
    /// Begins reading `object` as a policy for `access`, which is an open for reading.
    ///
    /// # Errors
    /// The denial, when the file cannot be looked at.
    pub fn begin_policy_read(
        self: &Arc<Self>,
        object: Arc<dyn Object>,
        access: Access,
    ) -> Result<PolicyRead, Denial> {
        let facts = object.stat_fd().and_then(|fd| Ok(facts(fd)?)).map_err(|error| {
            self.count_denial();
            records::unreadable(self, object.as_ref(), &access, &error)
        })?;
        let label = self.find_label(object.as_ref());
        let known = object.state().with(|inner| {
            let known = Known::of(inner, &facts, label);
            inner.count(access.flags);
            inner.pending = inner.pending.saturating_add(1);
            known
        });
        let plan = Plan { reads_policy: true, ..known.plan(object, access, facts, self.rules(), None) };
        Ok(PolicyRead { monitor: Arc::clone(self), plan, progress: Progress::default() })
    }
}

impl PolicyRead {
    /// Checks the file and gives its content; none when it is longer than `limit`. Of a denial the audit record has
    /// been written.
    pub fn run(mut self, limit: u64) -> Step<Self, Result<Option<Vec<u8>>, Denial>> {
        let lane = self.progress.lane;
        let left = Left::find(&self.monitor, &self.plan, lane, &mut self.progress.waits);
        match left.and_then(|left| self.decide(left, limit)) {
            Ok(outcome) => Step::Done(outcome.inspect_err(|denial| self.monitor.count_denial_if(denial))),
            Err(NotYet::Until(at)) => Step::Later { work: self, at },
            Err(NotYet::TooLarge) => {
                self.progress.lane = Lane::Large;
                let user = self.plan.access.fsuid;
                Step::Large { work: self, user }
            }
        }
    }

    fn decide(&self, left: Left, limit: u64) -> Result<Result<Option<Vec<u8>>, Denial>, NotYet> {
        let reading = Reading::for_task(&self.monitor, self.progress.lane, self.plan.access.tid);
        let check = Check::new(&self.monitor, &self.plan, left, &reading, &self.progress);
        let decided = check.decide();
        if check.unfinished() == Some(Unfinished::TooLarge) {
            return Err(NotYet::TooLarge);
        }
        Ok(decided.and_then(|(version, _)| self.read(&check, version, limit)))
    }

    fn read(
        &self,
        check: &Check<'_>,
        version: ContentVersion,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Denial> {
        let (content, after) = self.content(limit).map_err(|error| {
            records::unreadable(&self.monitor, self.plan.object.as_ref(), &self.plan.access, &error)
        })?;
        let too_long = content.len() as u64 > limit;
        if too_long || is_same(&content, check.content_digest(), version, after) {
            return Ok(Some(content).filter(|_| !too_long));
        }
        records::emit(check, &Event::new(RecordType::IntegrityData, "appraise_data", "open_writers"));
        Err(Denial::open("open_writers"))
    }

    /// The content, one byte more than `limit` of it at most, and the version it has afterwards.
    fn content(&self, limit: u64) -> std::io::Result<(Vec<u8>, ContentVersion)> {
        let fd = self.plan.object.read_fd()?;
        let mut content = Vec::new();
        File::from(fd.try_clone()?).take(limit.saturating_add(1)).read_to_end(&mut content)?;
        Ok((content, facts(&fd)?.version))
    }
}

/// Whether content read after the check is what was checked. Of a file that no rule wanted looked at, or that was judged
/// by its fs-verity digest, the version must do.
fn is_same(content: &[u8], digest: Option<Digest>, before: ContentVersion, after: ContentVersion) -> bool {
    let by_digest = |digest: Digest| ima::hash(digest.algo(), content).is_ok_and(|found| found == digest);
    before == after && digest.is_none_or(by_digest)
}

impl Drop for PolicyRead {
    fn drop(&mut self) {
        self.plan.object.state().with(|inner| {
            inner.pending = inner.pending.saturating_sub(1);
            inner.uncount(self.plan.access.flags);
        });
    }
}

impl fmt::Debug for PolicyRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyRead").field("access", &self.plan.access).finish_non_exhaustive()
    }
}
