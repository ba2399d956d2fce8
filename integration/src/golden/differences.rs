//! Where imafs is known to differ from the recorded kernel, and why. Nothing else may differ.
//!
//! A place names lines of a recording and what imafs has instead. For operations that is the whole result with
//! the entries and violations it added; for audit records, list entries and tree lines a piece of each line, in
//! order. `docs/differences.md` is written from this list; a test says how when it is behind.

mod verity;

use crate::golden::compare::Part;

/// One way in which imafs differs.
#[derive(Debug)]
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// Why it differs.
    pub reason: &'static str,
    /// Every place in the recordings where it shows.
    pub places: &'static [Place],
}

/// One place where a difference shows.
#[derive(Debug)]
pub struct Place {
    /// The scenario.
    pub scenario: &'static str,
    /// The part of its recording.
    pub part: Part,
    /// First and last line. The last is one before the first where the kernel has nothing.
    pub lines: (usize, usize),
    /// What imafs has there. For a range of operations: one for all, or one for each.
    pub imafs: Pieces,
}

/// What imafs has, one piece of text for each of its lines.
pub type Pieces = &'static [&'static str];

const fn before(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::Before, lines: (first, last), imafs }
}

const fn ops(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::Operations, lines: (first, last), imafs }
}

const fn audit(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::Audit, lines: (first, last), imafs }
}

const fn list(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::List, lines: (first, last), imafs }
}

const fn tree(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::Tree, lines: (first, last), imafs }
}

const fn check(scenario: &'static str, first: usize, last: usize, imafs: Pieces) -> Place {
    Place { scenario, part: Part::Check, lines: (first, last), imafs }
}

/// All differences.
pub const ALL: &[Difference] = &[
    Difference {
        name: "A truncation by path ends the verdict",
        reason: "The kernel does not notice `truncate(2)` while it has the inode in memory: the digest it \
                 collected before stands, and content nobody vouched for is served or goes unmeasured. imafs \
                 compares the content version at each open, so the file is collected again.",
        places: &[
            ops("appraise-enforce-write", 57, 57, &["EACCES +0 +0"]),
            audit("appraise-enforce-write", 57, 57, &["cause=invalid-hash comm=\"op\" name=\"/t/trn\""]),
            ops("appraise-signature", 34, 34, &["EACCES +1 +0"]),
            audit("appraise-signature", 34, 34, &["cause=invalid-signature comm=\"op\" name=\"/t/ok-0\""]),
            ops("appraise-signature", 36, 36, &["EACCES +0 +0"]),
            ops("appraise-signature", 67, 67, &["EACCES +1 +0"]),
            audit("appraise-signature", 67, 67, &["cause=invalid-signature comm=\"op\" name=\"/t/ok-1001\""]),
            ops("appraise-signature", 69, 69, &["EACCES +0 +0"]),
            ops("remeasure-after-change", 20, 20, &["ok 1 +1 +0"]),
            list("remeasure-after-change", 10, 9, &["/t/e"]),
            ops("violations-open-writers-tomtou", 42, 42, &["ok 0 +1 +0"]),
            list("violations-open-writers-tomtou", 22, 21, &["/t/h"]),
        ],
    },
    Difference {
        name: "Signed content is looked at again under a writer",
        reason: "While a file is open for writing the kernel serves it on the verdict it had before, and \
                 measures the digest it had then. Where a rule asks for a signature imafs does not: what the \
                 writer has written so far is collected and judged at each open. The file then fails while \
                 it is being made, and as in the kernel no hash label is written at the close of a file that \
                 failed.",
        places: &[
            ops("appraise-signature", 90, 90, &["EACCES +2 +1"]),
            audit("appraise-signature", 90, 90, &["cause=open_writers", "cause=IMA-signature-required"]),
            ops("appraise-signature", 92, 92, &["EACCES +0 +0"]),
            list("appraise-signature", 33, 33, &[]),
            tree("appraise-signature", 4, 4, &["./dir/new2\\tmode=100644 uid=1001 gid=1001 nlink=1 size=7"]),
        ],
    },
    Difference {
        name: "A refused write of a signed file leaves a record",
        reason: "The kernel refuses to open a signed file for writing without a word. Each refusal of imafs \
                 leaves one record; the cause is imafs's own.",
        places: &[
            audit(
                "appraise-signature",
                19,
                19,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr-0\""],
            ),
            audit(
                "appraise-signature",
                23,
                26,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr-0\""],
            ),
            audit(
                "appraise-signature",
                27,
                27,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr2-0\""],
            ),
            audit(
                "appraise-signature",
                52,
                52,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr-1001\""],
            ),
            audit(
                "appraise-signature",
                56,
                59,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr-1001\""],
            ),
            audit(
                "appraise-signature",
                60,
                60,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/wr2-1001\""],
            ),
            audit("verity-appraise", 53, 53, &["cause=signed-file-immutable comm=\"op\" name=\"/t/v-good\""]),
            audit("verity-appraise", 54, 54, &["cause=signed-file-immutable comm=\"op\" name=\"/t/n-good\""]),
            audit(
                "verity-appraise",
                55,
                55,
                &["cause=signed-file-immutable comm=\"op\" name=\"/t/a-overhash\""],
            ),
            audit("verity-appraise", 70, 70, &["cause=signed-file-immutable comm=\"op\" name=\"/t/new2\""]),
        ],
    },
    Difference {
        name: "A mapping is checked when the file is opened",
        reason: "FUSE shows neither mmap nor mprotect. `MMAP_CHECK` applies when an ELF file is opened for \
                 reading (`--mmap-check elf`): the entry comes at the open and not at the mapping, and also \
                 for a file that is never mapped for execution.",
        places: &[
            ops("builtin-tcb", 7, 8, &["ok +1 +0", "ok +0 +0"]),
            ops("hooks-exec-mmap", 12, 13, &["ok +1 +0", "exit 44 +0 +0"]),
            ops("hooks-exec-mmap", 15, 15, &["ok 132 +1 +0"]),
            ops("hooks-exec-mmap", 19, 19, &["ok +0 +0"]),
            ops("hooks-exec-mmap", 22, 22, &["ok +1 +0"]),
            ops("hooks-exec-mmap", 27, 28, &["ok +1 +0", "ok +0 +0"]),
            list("hooks-exec-mmap", 12, 11, &["/t/mapped2"]),
        ],
    },
    Difference {
        name: "A name cannot end a line of the list",
        reason: "The kernel stores a space in a name as an underscore and all else as it is, so that what follows a \
                 newline stands in the ASCII list as a line of its own, written by whoever made the file. imafs \
                 stores newline and carriage return as underscores too, before anything is hashed: readers that \
                 take a line apart and hash it again (Keylime) and those of the binary list (evmctl) find the \
                 digest they compute. Audit records have the name as it is, in hex.",
        places: &[list("template-ima-ng-sha1", 7, 7, &["/t/new_line"])],
    },
    Difference {
        name: "A bind mount is not seen",
        reason: "The kernel records the path through the mounts of the opener's namespace. FUSE names the \
                 inode, so imafs records where it lies in the served tree; that path also exists where the \
                 bind mount is detached and the kernel has but the last component.",
        places: &[
            list("paths-chroot-bind", 9, 12, &["/t/sub/f", "/t/sub/prog2", "/t/sub/deep/g", "/t/sub/h"]),
            list("paths-chroot-bind", 14, 15, &["/t/sub/j", "/t/sub/deep/j"]),
        ],
    },
    Difference {
        name: "A hash rule labels what was opened for writing",
        reason: "The kernel compares the inode's change counter with the one at the last collection, and \
                 takes 0 where nothing was collected, as under a `hash` rule alone; for a file never changed \
                 since mkfs that is equal, and no label is written. imafs has no such counter and writes the \
                 label, which is right.",
        places: &[
            ops(
                "audit-rules",
                36,
                36,
                &["ok 0x04040263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f +0 +0"],
            ),
            tree(
                "audit-rules",
                10,
                10,
                &["security.ima=0x04040263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f"],
            ),
        ],
    },
    Difference {
        name: "What O_DIRECT leaves is not audited",
        reason: "Where nothing is known of a file that is opened with O_DIRECT, the kernel audits it with a digest of \
                 zeros, and then not again: the content that is read later has no record. imafs audits it when it is \
                 first read.",
        places: &[
            audit("direct-io-and-labels", 1, 1, &["cause=failed(directio)"]),
            audit("direct-io-and-labels", 3, 3, &["hash=\"sha256:7f51b4fb44dbc72708fac0a474600c2e"]),
            audit("direct-io-and-labels", 14, 14, &["cause=failed(directio)"]),
            audit("direct-io-and-labels", 16, 16, &["hash=\"sha256:feecfef6ff7afbac2e135661c61cb068"]),
            audit("direct-io-and-labels", 19, 19, &["cause=failed(directio)"]),
            audit(
                "direct-io-and-labels",
                21,
                21,
                &["cause=invalid-hash", "hash=\"sha256:df37c00766f1f0bee487d3586c75bef6"],
            ),
        ],
    },
    Difference {
        name: "The host's rules stay when the container loads its own",
        reason: "The kernel's first load replaces the built-in policy. Here what the mount was made with binds: \
                 rules that are loaded stand beside it in a layer of their own, an access is measured if either \
                 layer measures it, and denied if either denies it.",
        places: &[
            ops("builtin-tcb", 15, 16, &["ok 3 +1 +0", "ok 3 +0 +0"]),
            ops("policy-load-errors", 15, 16, &["ok 2 +1 +0", "ok 2 +0 +0"]),
        ],
    },
    Difference {
        name: "The policy can be read after it was loaded",
        reason: "Debian's kernel cannot show its policy, and takes the file away after the one load it allows. \
                 imafs shows it always; the file stays, cannot be written any more, and to open it for writing \
                 gives what it gives on kernels that can show theirs.",
        places: &[
            ops("builtin-tcb", 13, 13, &["policy file still there +0 +0"]),
            ops("builtin-tcb", 21, 21, &["EBUSY +0 +0"]),
            ops("policy-load-errors", 14, 14, &["policy file still there +0 +0"]),
            ops("policy-load-errors", 17, 17, &["EBUSY +0 +0"]),
        ],
    },
    Difference {
        name: "The policy language is that of newer kernels",
        reason: "Comments at the end of a line, `dont_audit`, `fs_subtype=`, `func=MMAP_CHECK_REQPROT` and \
                 the SHA-3 names came after 6.1; `appraise_flag=check_blacklist` and `imasig|modsig` are \
                 refused by Debian's kernel because it is built without appended signatures. imafs follows \
                 the newest kernel, built with them; `MMAP_CHECK_REQPROT` and `MODULE_CHECK` rules load with \
                 a warning and never match.",
        places: &[
            check("policy-syntax", 7, 7, &["taken"]),
            check("policy-syntax", 14, 14, &["taken"]),
            check("policy-syntax", 37, 37, &["taken"]),
            check("policy-syntax", 96, 96, &["taken"]),
            check("policy-syntax", 122, 122, &["taken"]),
            check("policy-syntax", 127, 128, &["taken"]),
            check("policy-syntax", 134, 134, &["taken"]),
            ops("policy-syntax", 7, 7, &["ok 45 +0 +0"]),
            audit("policy-syntax", 7, 7, &["action=measure func=FILE_CHECK res=1"]),
            ops("policy-syntax", 14, 14, &["ok 11 +0 +0"]),
            audit("policy-syntax", 14, 14, &["action=dont_audit res=1"]),
            ops("policy-syntax", 37, 37, &["ok 32 +0 +0"]),
            audit("policy-syntax", 37, 37, &["func=MMAP_CHECK_REQPROT res=1"]),
            ops("policy-syntax", 96, 96, &["ok 37 +0 +0"]),
            audit("policy-syntax", 96, 96, &["fs_subtype=x res=1"]),
            ops("policy-syntax", 122, 122, &["ok 55 +0 +0"]),
            audit("policy-syntax", 122, 122, &["appraise_type=imasig|modsig res=1"]),
            ops("policy-syntax", 127, 127, &["ok 55 +0 +0"]),
            audit("policy-syntax", 127, 127, &["appraise_flag=check_blacklist res=1"]),
            ops("policy-syntax", 128, 128, &["ok 76 +0 +0"]),
            audit("policy-syntax", 128, 128, &["appraise_flag=check_blacklist res=1"]),
            ops("policy-syntax", 134, 134, &["ok 58 +0 +0"]),
            audit("policy-syntax", 134, 134, &["appraise_algos=sha1,md5,sha3-256 res=1"]),
        ],
    },
    verity::VERITY,
];
