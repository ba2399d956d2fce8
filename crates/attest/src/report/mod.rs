//! A verdict as one HTML page, for people.
//!
//! The page stands alone: no script, no picture, no font and nothing from a network, which its content security policy
//! also forbids. Text in it comes from hostile lists: it is escaped by the template, and characters that are invisible
//! or turn the direction of writing are spelled out first.
//!
//! It stays readable for any list: what is refused is shown first and in full up to a bound, what is accepted is counted
//! where there is too much of it.

mod denials;
mod timeline;
mod tree;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use denials::{Denial, Denials};

use crate::verdict::{CheckOutcome, Counts, EntryFacts, EntryVerdict, Overall, Verdict};
use words::{cause_words, grouped, place, shown};

/// The most refused entries that are shown each by itself.
const MAX_CARDS: usize = 500;

/// What a report is about, beside the verdict.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// What was judged: the evidence's file name.
    pub evidence: String,
    /// When, as it is to be read.
    pub time: String,
    /// What the mount's own audit records say, where they were given.
    pub denials: Option<Denials>,
}

/// The page. The verdict should list all entries ([`crate::verdict::EntrySelection::All`]).
#[must_use]
pub fn page(verdict: &Verdict, about: &About) -> String {
    let word = match verdict.verdict {
        Overall::Trusted => "Trusted",
        Overall::Refused => "Refused",
    };
    let title = format!("{word}: {}", shown(&about.evidence));
    let page = html! {
        (DOCTYPE)
        html lang="en" data-verdict=(word.to_lowercase()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (banner(verdict, word, about))
                main {
                    (reasons(verdict))
                    (offences(verdict))
                    @if let Some(denials) = &about.denials { (denials::section(denials)) }
                    (timeline::section(&verdict.entries))
                    (tree::section(&verdict.entries))
                    (checks(verdict))
                    (facts(verdict))
                }
                footer { "Made by imafs-attest " (env!("CARGO_PKG_VERSION")) ", " (about.time) }
            }
        }
    };
    page.into_string()
}

fn banner(verdict: &Verdict, word: &str, about: &About) -> Markup {
    let class = if verdict.is_trusted() { "banner accepted" } else { "banner refused" };
    let Counts { entries, proven, unproven, accepted, refused, violations, signed, other_mounts } =
        verdict.counts;
    let numbers = [
        ("entries", "Entries", entries),
        ("proven", "Proven by the quote", proven),
        ("accepted", "Accepted", accepted),
        ("refused", "Refused", refused),
        ("unproven", "Not proven", unproven),
        ("signed", "Signed", signed),
        ("violations", "Violations", violations),
        ("other-mounts", "Of other mounts", other_mounts),
    ];
    html! {
        header class=(class) {
            h1 id="verdict" { (word) }
            p {
                @if verdict.is_trusted() {
                    "Every check passed, and the reference accepts every entry of the list."
                } @else {
                    "Do not rely on what this list says. The reasons are below."
                }
            }
            p class="about" { (shown(&about.evidence)) }
            dl id="counts" {
                // Most lists are those of one mount.
                @for (id, label, number) in numbers.into_iter().filter(|(id, _, number)| *id != "other-mounts" || *number > 0) {
                    div { dt { (label) } dd id=(format!("count-{id}")) data-count=(number) { (grouped(number)) } }
                }
            }
        }
    }
}

fn reasons(verdict: &Verdict) -> Markup {
    html! {
        @if !verdict.reasons.is_empty() {
            section {
                h2 { "Why it is refused" }
                ul id="reasons" {
                    @for reason in &verdict.reasons {
                        li { (shown(&reason.text)) }
                    }
                }
            }
        }
    }
}

fn offences(verdict: &Verdict) -> Markup {
    let refused = || verdict.entries.iter().filter(|entry| entry.verdict == EntryVerdict::Refused);
    let hidden = verdict.counts.refused.saturating_sub(refused().take(MAX_CARDS).count() as u64);
    html! {
        @if verdict.counts.refused > 0 {
            section {
                h2 { "Entries that are refused" }
                ul id="refused" class="cards" {
                    @for entry in refused().take(MAX_CARDS) { (card(entry)) }
                }
                @if hidden > 0 { p class="note" { "And " (grouped(hidden)) " more." } }
            }
        }
    }
}

fn card(entry: &EntryFacts) -> Markup {
    html! {
        li class="card refused" {
            p class="path" { (place(entry)) }
            p { strong { (cause_words(entry.cause)) } }
            p class="small" {
                "Entry " (grouped(entry.index)) ", PCR " (entry.pcr) ", " (shown(&entry.template))
                @if let Some(keyid) = &entry.keyid { ", key " code { (shown(keyid)) } }
                @if let Some(digest) = &entry.digest { br; code { (shown(digest)) } }
            }
        }
    }
}

fn checks(verdict: &Verdict) -> Markup {
    html! {
        section {
            h2 { "Checks" }
            ul id="checks" class="checks" {
                @for check in &verdict.checks {
                    @let (class, word) = match check.outcome {
                        CheckOutcome::Passed => ("accepted", "passed"),
                        CheckOutcome::Failed => ("refused", "failed"),
                        CheckOutcome::Skipped => ("unproven", "skipped"),
                    };
                    li { span class=(format!("mark {class}")) { (word) } " " (shown(&check.text)) }
                }
            }
        }
    }
}

fn facts(verdict: &Verdict) -> Markup {
    let (key, quote) = (&verdict.key, &verdict.quote);
    html! {
        section {
            h2 { "What the TPM has signed" }
            dl class="facts" {
                dt { "Key" } dd { (shown(&key.kind)) br; code { (key.name) } }
                dt { "Qualified name" } dd {
                    code { (key.qualified_name) }
                    @if let Some(hierarchy) = &key.hierarchy { br; "a primary key of the " (hierarchy) " hierarchy" }
                }
                @if let Some(certificate) = &key.certificate { dt { "Certified as" } dd { (shown(certificate)) } }
                dt { "Nonce" } dd { code { (quote.nonce) } }
                dt { "Clock" } dd {
                    (grouped(quote.clock)) " ms, reset " (quote.reset_count) ", restart " (quote.restart_count)
                    @if !quote.clock_is_safe { ", not sure to be the latest" }
                }
                dt { "Firmware" } dd { code { (quote.firmware_version) } }
                dt { "Digest over the registers" } dd { code { (quote.pcr_digest) } }
                @for register in &verdict.registers {
                    dt { "PCR " (register.pcr) ", " (register.bank) }
                    dd {
                        code { (register.quoted) }
                        @if register.quoted != register.replayed { br; "the list gives " code { (register.replayed) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
