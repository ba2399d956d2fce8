//! The explanations, each with the narrowest description that I found of where it applies.

use crate::oracle::draft::Rule;
use crate::oracle::explain::items::{audits_zeros, cause, reads};
use crate::oracle::explain::{Context, Explanation, Item, Side, What};
use crate::oracle::world::{File, writes};

/// See [`super::all`].
pub const ALL: &[Explanation] = &[
    Explanation {
        name: "refused write of a signed file leaves a record",
        documented: "A refused write of a signed file leaves a record",
        explains: refused_write_record,
        parts: false,
    },
    Explanation {
        name: "security.evm is not written",
        documented: "`security.evm` cannot be set or removed",
        explains: evm_attribute,
        parts: false,
    },
    Explanation {
        name: "recorded by another of its names",
        documented: "those it was last looked up by",
        explains: another_name,
        parts: false,
    },
    Explanation {
        name: "new until it is closed",
        documented: "a file that is new is so no longer once its attributes are changed",
        explains: new_until_closed,
        parts: true,
    },
    Explanation {
        name: "attributes are not content",
        documented: "once its attributes have changed, what is known of a file ends",
        explains: attributes_are_not_content,
        parts: true,
    },
    Explanation {
        name: "flags of another rule",
        documented: "flags of one rule stay with the inode",
        explains: flags_of_another_rule,
        parts: false,
    },
    Explanation {
        name: "labelled by a hash rule",
        documented: "A hash rule labels what was opened for writing",
        explains: hash_rule_label,
        parts: true,
    },
    Explanation {
        name: "audited without its content",
        documented: "What O_DIRECT leaves is not audited",
        explains: audited_as_zeros,
        parts: false,
    },
    Explanation {
        name: "labelled though the writer was refused",
        documented: "a hash rule has the label renewed also when the writer was refused",
        explains: refused_writer_labels,
        parts: true,
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

/// imafs denies what the kernel lets through, and leaves a record of its own that says why.
fn stricter(context: &Context<'_>) -> bool {
    let tells = |item: &Item| {
        item.what == What::Record && item.side == Side::Imafs && item.text.starts_with("type=1800")
    };
    context.imafs == "EACCES"
        && (context.kernel.starts_with("ok") || context.kernel.starts_with("exit"))
        && context.items.iter().any(tells)
}

/// Both refuse, or would if they enforced, and only imafs says why.
fn refused_write_record(context: &Context<'_>, item: &Item) -> bool {
    let enforces =
        !context.draft.cmdline.iter().any(|word| word == "ima_appraise=log" || word == "ima_appraise=fix");
    item.what == What::Record
        && item.side == Side::Imafs
        && cause(&item.text) == Some("signed-file-immutable")
        && context.op.is_some_and(writes)
        && context.kernel == context.imafs
        && (context.kernel == "EACCES" || (!enforces && context.kernel.starts_with("ok")))
}

/// imafs refuses the attribute whatever the caller is; the kernel does so only with a key of EVM.
fn evm_attribute(context: &Context<'_>, item: &Item) -> bool {
    let about = |verb: &str| matches!(verb, "setxattr" | "removexattr");
    let attribute = context.op.is_some_and(|op| about(op.verb()) && op.arg(2) == "security.evm");
    match item.what {
        What::Result => attribute && context.imafs == "EPERM",
        // What was let through there is not there here.
        What::Line => {
            let without = |line: &str| -> String {
                line.split(' ')
                    .filter(|word| !word.starts_with("security.evm="))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            context.kernel.contains(" security.evm=") && without(context.kernel) == without(context.imafs)
        }
        What::Entry | What::Record | What::Violation | What::Prelude => false,
    }
}

/// The same record or entry, but for the name, which is another link's.
fn another_name(context: &Context<'_>, item: &Item) -> bool {
    let shape = |item: &Item| without_name(context, &item.text);
    let twin = |other: &&Item| {
        other.what == item.what
            && other.file == item.file
            && matches!((other.side, item.side), (Side::Kernel, Side::Imafs) | (Side::Imafs, Side::Kernel))
            && shape(other) == shape(item)
    };
    let linked = item.file.is_some_and(|file| context.world.has_links(file));
    linked
        && matches!(item.what, What::Entry | What::Record | What::Violation)
        && context.items.iter().any(|other| twin(&other))
}

/// The text with the file itself in the place of its name, and without the template digest, which depends on it.
fn without_name(context: &Context<'_>, text: &str) -> String {
    let word = |(place, word): (usize, &str)| {
        let value = word.trim_start_matches("name=").trim_start_matches("file=").trim_matches('"');
        let digest = place == 1 && word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match value.starts_with("/t/").then(|| context.world.file(value)).flatten() {
            Some(file) => format!("<{file}>"),
            None if digest => String::new(),
            None => word.to_owned(),
        }
    };
    text.trim_start().split(' ').enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// The kernel forgets that a file is new when its attributes change, and finds no label then.
fn new_until_closed(context: &Context<'_>, item: &Item) -> bool {
    const CAUSES: [&str; 2] = ["missing-hash", "IMA-signature-required"];
    let changed = file(context, item).is_some_and(|file| file.made && file.attributes);
    let recorded = |item: &Item| {
        let cause = cause(&item.text).unwrap_or_default();
        item.what == What::Record && item.side == Side::Kernel && CAUSES.contains(&cause)
    };
    changed
        && match item.what {
            What::Record => recorded(item),
            What::Result => context.kernel == "EACCES" && context.items.iter().any(recorded),
            What::Entry | What::Violation | What::Line | What::Prelude => false,
        }
}

/// The kernel's change counter moves with attributes, and is compared when a writer closes: it audits once more, or
/// writes the label anew though nothing was written.
fn attributes_are_not_content(context: &Context<'_>, item: &Item) -> bool {
    let changed = file(context, item).is_some_and(|file| file.attributes && (file.touched || file.refused));
    changed
        && match item.what {
            What::Record => item.side == Side::Kernel && item.text.starts_with("type=1805"),
            What::Line => {
                without_label(context.kernel) == without_label(context.imafs)
                    && context.kernel.contains(" security.ima=0x04")
            }
            What::Entry | What::Result | What::Violation | What::Prelude => false,
        }
}

/// The kernel asks for a signature, or lets O_DIRECT pass, because of a rule that does not decide here.
fn flags_of_another_rule(context: &Context<'_>, item: &Item) -> bool {
    let asks = |rule: &Rule| rule.value("appraise_type") == Some("imasig");
    let mixed = some_rule(context, asks) && some_rule(context, |rule| appraises(rule) && !asks(rule));
    let required = |item: &Item| {
        item.what == What::Record
            && item.side == Side::Kernel
            && cause(&item.text) == Some("IMA-signature-required")
    };
    // A pass under a rule that asks for no signature is one under that which does, for the kernel.
    let passed = |item: &Item| {
        item.what == What::Record
            && item.side == Side::Imafs
            && cause(&item.text) == Some("IMA-signature-required")
    };
    let permits = |rule: &Rule| rule.has("permit_directio");
    let direct = context.op.is_some_and(|op| op.verb() == "open" && op.arg(2).contains("direct"))
        && some_rule(context, permits)
        && some_rule(context, |rule| appraises(rule) && !permits(rule));
    match item.what {
        What::Record => mixed && (required(item) || (passed(item) && stricter(context))),
        What::Result => {
            (mixed && context.kernel == "EACCES" && context.items.iter().any(required))
                || (mixed && stricter(context) && context.items.iter().any(passed))
                || (direct && context.kernel == "ok" && context.imafs == "EACCES")
        }
        What::Entry | What::Violation | What::Line | What::Prelude => false,
    }
}

/// In the kernel a refused open for writing ends as any other: what is known of the file goes, and a hash rule has it
/// labelled.
fn refused_writer_labels(context: &Context<'_>, item: &Item) -> bool {
    let refused = file(context, item).is_some_and(|file| file.refused);
    refused
        && some_rule(context, |rule| rule.action == "hash")
        && match item.what {
            What::Entry => item.side == Side::Kernel,
            What::Record => item.side == Side::Kernel && item.text.starts_with("type=1805"),
            What::Line => without_label(context.kernel) == without_label(context.imafs),
            What::Result | What::Violation | What::Prelude => false,
        }
}

/// A file's line at the end without its label.
fn without_label(line: &str) -> String {
    line.split(' ').filter(|word| !word.starts_with("security.ima=")).collect::<Vec<_>>().join(" ")
}

/// The kernel audits zeros at an open with O_DIRECT, and imafs the content at the next one without.
fn audited_as_zeros(context: &Context<'_>, item: &Item) -> bool {
    let direct = context.op.is_some_and(|op| op.verb() == "open" && op.arg(2).contains("direct"));
    let before = item.file.is_some_and(|file| context.past.audited_as_zeros.contains(&file));
    item.what == What::Record
        && match item.side {
            Side::Kernel => direct && audits_zeros(&item.text),
            Side::Imafs => before && item.text.starts_with("type=1805") && !audits_zeros(&item.text),
            Side::Both => false,
        }
}

/// Under a hash rule imafs labels at each close after an open for writing; the kernel not always.
fn hash_rule_label(context: &Context<'_>, item: &Item) -> bool {
    let touched = file(context, item).is_some_and(|file| file.touched);
    touched
        && item.what == What::Line
        && some_rule(context, |rule| rule.action == "hash")
        && !context.kernel.contains(" security.ima=")
        && context.imafs.contains(" security.ima=0x0")
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
            // A hash rule about mappings has what was opened for reading and writing labelled.
            What::Line => {
                let hashes = |rule: &Rule| rule.action == "hash" && about_mappings(rule);
                elf && some_rule(context, hashes)
                    && without_label(context.kernel) == without_label(context.imafs)
            }
            What::Result if maps => !context.kernel.starts_with("ok") && context.imafs == "ok",
            What::Entry | What::Record | What::Result | What::Violation | What::Prelude => false,
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
