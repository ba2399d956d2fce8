//! Text as it may stand on a page.

use crate::verdict::{EntryCause, EntryFacts, EntryVerdict};

/// Hostile text made visible: control characters, and those that are invisible or turn the direction of writing, are
/// spelled out as in Rust (`\u{202e}`), so that no name looks like another one.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_invisible(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

/// The format characters of Unicode (general category Cf) that browsers act on without showing anything, the fillers of
/// Hangul, and the blanks that are no space.
const fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{a0}' | '\u{1680}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Where an entry's file is: its path, and of a host list its mount.
pub(super) fn place(entry: &EntryFacts) -> String {
    let path = shown(&entry.path);
    entry.ns.as_deref().map_or_else(|| path.clone(), |ns| format!("{} {path}", shown(ns)))
}

/// The class by which a verdict is coloured.
pub(super) const fn class(verdict: EntryVerdict) -> &'static str {
    match verdict {
        EntryVerdict::Accepted => "accepted",
        EntryVerdict::Refused => "refused",
        EntryVerdict::Unproven => "unproven",
    }
}

/// Why an entry was accepted or refused, in words.
pub(super) const fn cause_words(cause: EntryCause) -> &'static str {
    match cause {
        EntryCause::BootAggregate => "what the machine booted",
        EntryCause::Listed => "the reference has this content for this path",
        EntryCause::Signed => "signed by a trusted key",
        EntryCause::KnownKey => "a key that the reference has",
        EntryCause::Excluded => "left out by the reference",
        EntryCause::ViolationAllowed => "a violation, let through as asked",
        EntryCause::Violation => "open for writing while it was measured: nobody knows what was read",
        EntryCause::Unproven => "not covered by the quote",
        EntryCause::WrongBootAggregate => "not what the machine booted, or its registers were not quoted",
        EntryCause::OtherMount => "of another mount than the one that was asked about",
        EntryCause::OutOfSequence => "does not follow the line before it of its mount",
        EntryCause::OtherPcr => "extends a register that is not one of the list's",
        EntryCause::TemplateDigest => "its digest is not that of its own fields: it was changed",
        EntryCause::UnknownEntry => "its fields make no sense, or its template cannot be judged",
        EntryCause::NotInReference => "the reference does not name it",
        EntryCause::WrongDigest => "other content than the reference has for this path",
        EntryCause::Unsigned => "it has no signature",
        EntryCause::UnknownKey => "signed by a key that is not trusted",
        EntryCause::BadSignature => "its signature is wrong: the content was changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        assert_eq!(shown("/usr/bin/id"), "/usr/bin/id");
        assert_eq!(shown("Grüße 世界"), "Grüße 世界");
        assert_eq!(shown("a\u{202e}fdp.exe"), "a\\u{202e}fdp.exe");
        assert_eq!(shown("a\nb\u{0}\u{200b}"), "a\\u{a}b\\u{0}\\u{200b}");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
