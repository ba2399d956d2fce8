//! Whether evidence goes on from earlier evidence: the same TPM and list, later.
//!
//! Registers and lists begin anew when a machine restarts, so that somebody could restart it, load what it pleases and
//! show an old list to whoever looks at one quote alone. With earlier evidence at hand a list that does not go on from
//! it, or a clock that went back, is refused.

use crate::list::lines;
use crate::verdict::{CheckName, ReasonKind};
use crate::verify::{Findings, Parsed, VerifyError};

/// Checks that `now` is a successor of the evidence in the file.
///
/// # Errors
/// When the earlier file cannot be read.
pub(crate) fn check(
    now: &Parsed<'_>,
    reached: Option<usize>,
    earlier: Option<&[u8]>,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let Some(file) = earlier else {
        findings.skipped(CheckName::Succession, "no earlier evidence was given");
        return Ok(());
    };
    let earlier = Parsed::of(file).map_err(|error| VerifyError::Earlier(Box::new(error)))?;
    match fault(now, reached, &earlier) {
        None => findings.passed(CheckName::Succession, "it goes on from the earlier evidence"),
        Some(text) => findings.failed(CheckName::Succession, ReasonKind::Rollback, text),
    }
    Ok(())
}

fn fault(now: &Parsed<'_>, reached: Option<usize>, earlier: &Parsed<'_>) -> Option<&'static str> {
    if now.public.name() != earlier.public.name() {
        return Some("the earlier evidence is of another key");
    }
    if !earlier.is_signed() {
        return Some("the earlier evidence is not signed by its key");
    }
    let (clock, before) = (now.attest.clock, earlier.attest.clock);
    if (clock.resets, clock.restarts) < (before.resets, before.restarts) {
        return Some("the TPM has restarted fewer times than in the earlier evidence");
    }
    // After a start the clock may be behind what it once showed, and says so.
    let restarted = (clock.resets, clock.restarts) != (before.resets, before.restarts);
    if clock.clock <= before.clock && (clock.safe || !restarted) {
        return Some("the TPM's clock is not later than in the earlier evidence");
    }
    if !now.evidence.list.starts_with(earlier.evidence.list) {
        return Some("the list does not begin with the list of the earlier evidence");
    }
    let entries = lines(earlier.evidence.list).map_while(Result::ok).count();
    if reached.is_none_or(|reached| reached < entries) {
        return Some("the quote does not prove all that was in the earlier evidence");
    }
    None
}
