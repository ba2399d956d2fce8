//! The explanations, each with the narrowest description that I found of where it applies.

use crate::oracle::draft::Rule;
use crate::oracle::explain::items::{cause, reads, writes};
use crate::oracle::explain::{Context, Explanation, Item, Side, What};
use crate::oracle::world::File;

/// See [`super::all`].
pub const ALL: &[Explanation] = &[
    Explanation {
        name: "refused write of a signed file leaves a record",
        documented: "A refused write of a signed file leaves a record",
        explains: refused_write_record,
        parts: false,
    },
    Explanation {
        name: "truncated by path",
        documented: "A truncation by path ends the verdict",
        explains: truncated,
        parts: true,
    },
    Explanation {
        name: "appraise_algos denies each time",
        documented: "`appraise_algos` denies only the first time",
        explains: algos_each_time,
        parts: false,
    },
    Explanation {
        name: "not vouched for under a writer",
        documented: "what a hash label vouches for stands while any writer has the file open",
        explains: under_a_writer,
        parts: true,
    },
    Explanation {
        name: "checked as a mapping when opened",
        documented: "A mapping is checked when the file is opened",
        explains: mapping_at_open,
        parts: false,
    },
    Explanation {
        name: "same entry, at another operation",
        documented: "A mapping is checked when the file is opened",
        explains: entry_at_another_operation,
        parts: false,
    },
    Explanation {
        name: "follows from an open that one side refused",
        documented: "it may not (`EACCES`",
        explains: not_open,
        parts: false,
    },
    Explanation {
        name: "content or label parted before",
        documented: "A truncation by path ends the verdict",
        explains: parted,
        parts: false,
    },
];

/// What is known of the item's file.
fn file<'a>(context: &Context<'a>, item: &Item) -> Option<&'a File> {
    context.world.get(item.file?)
}

fn some_rule(context: &Context<'_>, test: impl Fn(&Rule) -> bool) -> bool {
    context.draft.rules.iter().any(test)
}

fn appraises(rule: &Rule) -> bool {
    rule.action == "appraise" && rule.value("func") != Some("SETXATTR_CHECK")
}

/// imafs denies what the kernel lets through.
fn stricter(context: &Context<'_>) -> bool {
    context.imafs == "EACCES" && (context.kernel.starts_with("ok") || context.kernel.starts_with("exit"))
}

/// Both refuse, and only imafs says why.
fn refused_write_record(context: &Context<'_>, item: &Item) -> bool {
    item.what == What::Record
        && item.side == Side::Imafs
        && cause(&item.text) == Some("signed-file-immutable")
        && context.op.is_some_and(writes)
        && (context.kernel, context.imafs) == ("EACCES", "EACCES")
}

/// The kernel goes by the digest from before; imafs collects again: more entries and records, or a denial.
fn truncated(context: &Context<'_>, item: &Item) -> bool {
    let truncated = file(context, item).is_some_and(|file| file.truncated);
    truncated
        && match item.what {
            What::Entry | What::Record => item.side == Side::Imafs,
            What::Result => stricter(context),
            What::Violation | What::Line | What::Prelude => false,
        }
}

/// The kernel denied it once, with the same cause.
fn algos_each_time(context: &Context<'_>, item: &Item) -> bool {
    const CAUSE: &str = "denied-hash-algorithm";
    let before = item.file.is_some_and(|file| context.past.denied.contains(&(file, CAUSE.to_owned())));
    let recorded = |item: &Item| {
        item.what == What::Record && item.side == Side::Imafs && cause(&item.text) == Some(CAUSE)
    };
    before
        && match item.what {
            What::Record => recorded(item),
            What::Result => stricter(context) && context.items.iter().any(recorded),
            What::Entry | What::Violation | What::Line | What::Prelude => false,
        }
}

/// Somebody has the file open for writing, and its label will not be redone or is a signature.
fn under_a_writer(context: &Context<'_>, item: &Item) -> bool {
    let written = file(context, item).is_some_and(|file| file.writers > 0);
    let unkept = |item: &Item| {
        let cause = cause(&item.text).unwrap_or_default();
        item.side == Side::Imafs
            && matches!(
                cause,
                "invalid-hash"
                    | "invalid-signature"
                    | "IMA-signature-required"
                    | "open_writers"
                    | "missing-hash"
            )
    };
    written
        && some_rule(context, appraises)
        && match item.what {
            What::Entry => item.side == Side::Imafs,
            What::Record => item.text.starts_with("type=1805") && item.side == Side::Imafs || unkept(item),
            What::Result => stricter(context) && context.items.iter().any(unkept),
            What::Violation | What::Line | What::Prelude => false,
        }
}

/// Whether a rule can match a mapping for execution.
fn about_mappings(rule: &Rule) -> bool {
    matches!(rule.value("func"), None | Some("MMAP_CHECK" | "FILE_MMAP"))
}

/// An ELF file that is opened for reading, where a rule is about mappings.
fn mapping_at_open(context: &Context<'_>, item: &Item) -> bool {
    let elf = file(context, item).is_some_and(|file| file.elf);
    let opened = context.op.is_some_and(reads);
    let maps = context.op.is_some_and(|op| matches!(op.verb(), "mmap" | "mprotect"));
    some_rule(context, about_mappings)
        && match item.what {
            What::Entry | What::Record if opened => elf && item.side == Side::Imafs,
            What::Result if opened => elf && stricter(context) && some_rule(context, appraises),
            What::Entry | What::Record if maps => item.side == Side::Kernel,
            What::Result if maps => !context.kernel.starts_with("ok") && context.imafs == "ok",
            What::Entry | What::Record | What::Result | What::Violation | What::Line | What::Prelude => false,
        }
}

/// The very entry was made by the other side at an explained place.
fn entry_at_another_operation(context: &Context<'_>, item: &Item) -> bool {
    item.what == What::Entry
        && match item.side {
            Side::Kernel => context.past.early.contains(&item.text),
            Side::Imafs => context.past.late.contains(&item.text),
            Side::Both => false,
        }
}

/// `not open` on one side, because its open was refused there.
fn not_open(context: &Context<'_>, item: &Item) -> bool {
    let Some(op) = context.op else { return false };
    let key = (op.actor.to_owned(), op.arg(1).to_owned());
    item.what == What::Result
        && context.past.unopened.contains(&key)
        && (context.kernel == "not open") != (context.imafs == "not open")
}

/// Anything about a file that is not the same on both sides since an explained difference.
fn parted(context: &Context<'_>, item: &Item) -> bool {
    item.file.is_some_and(|file| context.past.parted.contains_key(&file))
}
