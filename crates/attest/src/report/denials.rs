//! What the mount itself refused, from its audit records.

use maud::{Markup, html};
use serde::Deserialize;

use super::words::{grouped, shown};

/// The most denials that are kept; the latest are.
const MAX_DENIALS: usize = 2000;

/// One access that the mount refused, as its audit record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Denial {
    /// When.
    pub time: String,
    /// What was done.
    pub op: String,
    /// Why it was refused.
    pub cause: String,
    /// The path.
    pub name: String,
    /// The program.
    pub comm: String,
    /// Whose process.
    pub uid: Option<u32>,
    /// Its id.
    pub pid: Option<u32>,
    /// The rule that asked.
    pub rule: String,
    /// The content's digest.
    pub digest: String,
}

/// Denials, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Denials {
    /// The latest of them.
    pub latest: Vec<Denial>,
    /// Older ones that were left out.
    pub left_out: u64,
    /// Lines that are no records.
    pub unreadable: u64,
}

#[derive(Deserialize)]
struct Record {
    res: Option<u8>,
    #[serde(flatten)]
    denial: Denial,
}

impl Denials {
    /// Reads audit records in JSON, one a line, and keeps those of refusals.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut denials = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if record.res == Some(0) => denials.latest.push(record.denial),
                Ok(_) => {}
                Err(_) => denials.unreadable += 1,
            }
        }
        let surplus = denials.latest.len().saturating_sub(MAX_DENIALS);
        denials.latest.drain(..surplus);
        denials.left_out = surplus as u64;
        denials
    }
}

pub(super) fn section(denials: &Denials) -> Markup {
    html! {
        section {
            h2 { "What the mount refused" }
            p class="note" { "From the audit records, which no quote proves." }
            @if denials.latest.is_empty() { p { "Nothing." } }
            ul id="denials" class="cards" {
                @for denial in denials.latest.iter().rev() { (card(denial)) }
            }
            @if denials.left_out > 0 { p class="note" { (grouped(denials.left_out)) " older ones are left out." } }
            @if denials.unreadable > 0 {
                p class="note" { (grouped(denials.unreadable)) " lines are no records." }
            }
        }
    }
}

fn card(denial: &Denial) -> Markup {
    html! {
        li class="card refused" {
            p class="path" { (shown(&denial.name)) }
            p { strong { (shown(&denial.cause)) } " (" (shown(&denial.op)) ")" }
            p class="small" {
                (shown(&denial.time)) ", " (shown(&denial.comm))
                @if let Some(pid) = denial.pid { ", process " (pid) }
                @if let Some(uid) = denial.uid { ", user " (uid) }
                @if !denial.rule.is_empty() { br; code { (shown(&denial.rule)) } }
                @if !denial.digest.is_empty() { br; code { (shown(&denial.digest)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_kept_and_the_rest_is_not() {
        // Lines as an imafs 0.1 wrote them.
        let text = concat!(
            r#"{"type":1800,"time":"2026-11-22T03:04:05.000000006Z","serial":1,"ns":"web","pid":5,"uid":0,"#,
            r#""op":"appraise_data","cause":"invalid-signature","comm":"sh","name":"/usr/bin/id","res":0,"errno":0}"#,
            "\n",
            r#"{"type":1805,"time":"x","serial":2,"ns":"web","name":"/usr/bin/ls","digest":"sha256:00"}"#,
            "\n",
            r#"{"type":1802,"time":"x","serial":3,"ns":"web","op":"policy_update","cause":"completed","res":1}"#,
            "\n\nno record\n",
        );
        let denials = Denials::parse(text.as_bytes());
        assert_eq!((denials.latest.len(), denials.left_out, denials.unreadable), (1, 0, 1));
        assert_eq!((denials.latest[0].name.as_str(), denials.latest[0].pid), ("/usr/bin/id", Some(5)));
    }
}
