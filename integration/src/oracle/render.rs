//! Writes a draft as a scenario directory: `setup.sh`, `policy`, `ops`, `cmdline`, `keys/`.

use crate::oracle::draft::{Draft, Kind, Label, Node, Op};
use crate::process::succeed;
use anyhow::{Context, Result, bail, ensure};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Magic numbers of the guest's own file systems, which no policy is about: proc, sysfs, debugfs, tmpfs and
/// devtmpfs, devpts, binfmt_misc, securityfs, cgroup, cgroup2, nsfs, ramfs.
const GUESTS_OWN: [&str; 11] = [
    "0x9fa0",
    "0x62656572",
    "0x64626720",
    "0x1021994",
    "0x1cd1",
    "0x42494e4d",
    "0x73636673",
    "0x27e0eb",
    "0x63677270",
    "0x6e736673",
    "0x858458f6",
];

/// Number of each hash algorithm in labels, and the program that computes it.
const ALGORITHMS: [(&str, &str, u8); 6] = [
    ("md5", "md5sum", 1),
    ("sha1", "sha1sum", 2),
    ("sha256", "sha256sum", 4),
    ("sha384", "sha384sum", 5),
    ("sha512", "sha512sum", 6),
    ("sha224", "sha224sum", 7),
];

/// Two throwaway RSA keys: one whose certificate goes into the ring, one unknown. The only kind of key that Debian's
/// 6.1 can verify with.
#[derive(Debug)]
pub struct Signers {
    dir: PathBuf,
}

impl Signers {
    /// Makes the keys in `dir`.
    ///
    /// # Errors
    /// Fails when openssl does.
    pub fn make(dir: &Path) -> Result<Self> {
        let dir = dir.join("signers");
        std::fs::create_dir(&dir).context("cannot make a directory")?;
        for name in ["trusted", "unknown"] {
            let mut make = Command::new("openssl");
            make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-outform", "DER"]);
            make.args(["-subj", &format!("/CN=imafs oracle {name}"), "-addext", "keyUsage=digitalSignature"]);
            make.args(["-addext", "subjectKeyIdentifier=hash"]);
            make.args(["-keyout", &format!("{name}.pem"), "-out", &format!("{name}.der")]);
            succeed(make.current_dir(&dir))?;
        }
        Ok(Self { dir })
    }

    /// The label that evmctl makes for this content.
    fn label(&self, content: &[u8], algo: &str, known: bool) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new_in(&self.dir).context("cannot make a file")?;
        std::fs::write(file.path(), content).context("cannot write a file")?;
        let key = self.dir.join(if known { "trusted.pem" } else { "unknown.pem" });
        let mut sign = Command::new("evmctl");
        sign.args(["ima_sign", "--sigfile", "-a", algo, "--key"]).arg(key).arg(file.path());
        succeed(&mut sign)?;
        let mut signature = file.path().as_os_str().to_owned();
        signature.push(".sig");
        let label = std::fs::read(&signature).context("evmctl wrote no signature")?;
        std::fs::remove_file(&signature).context("cannot remove the signature")?;
        ensure!(label.first() == Some(&3), "evmctl wrote another kind of label");
        Ok(label)
    }
}

/// Writes the scenario into `dir`, which must not exist.
///
/// # Errors
/// Fails when a file cannot be written or content not be signed.
pub fn write(draft: &Draft, about: &str, signers: &Signers, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir.join("keys")).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = |name: &str, text: String| {
        std::fs::write(dir.join(name), text).with_context(|| format!("cannot write {name}"))
    };
    file("ABOUT", format!("{about}\n"))?;
    file("cmdline", format!("{}\n", draft.cmdline.join(" ")))?;
    file("policy", policy(draft))?;
    let mut ops = String::new();
    for op in &draft.ops {
        writeln!(ops, "{}", with_labels(draft, op, signers)?)?;
    }
    file("ops", ops)?;
    file("setup.sh", setup(draft, signers)?)?;
    std::fs::copy(signers.dir.join("trusted.der"), dir.join("keys/trusted.der")).context("no certificate")?;
    Ok(())
}

/// The policy: first what exempts the rest of the guest, for each class of actions that the rules have.
pub fn policy(draft: &Draft) -> String {
    let mut text = String::new();
    for class in ["measure", "appraise", "hash"] {
        if draft.rules.iter().any(|rule| rule.action == class) {
            text.extend(GUESTS_OWN.map(|magic| format!("dont_{class} fsmagic={magic}\n")));
        }
    }
    text.extend(draft.rules.iter().map(|rule| format!("{rule}\n")));
    text
}

/// What makes the files.
fn setup(draft: &Draft, signers: &Signers) -> Result<String> {
    let mut script =
        "# hash FILE TYPE PROGRAM: label FILE with the hash that PROGRAM makes of standard input\n\
                      hash() { setfattr -n security.ima -v 0x$2$($3 | cut -d\" \" -f1) \"$1\"; }\n\
                      xattr() { setfattr -n security.ima -v 0x$2 \"$1\"; }\n"
            .to_owned();
    for node in &draft.nodes {
        let path = single_quoted(&node.path);
        match &node.kind {
            Kind::Directory => writeln!(script, "mkdir {path}")?,
            Kind::Symlink(target) => {
                writeln!(script, "ln -s {} {path}", single_quoted(target))?;
                continue;
            }
            Kind::Hardlink(target) => {
                writeln!(script, "ln {} {path}", single_quoted(target))?;
                continue;
            }
            Kind::Fifo => writeln!(script, "mkfifo {path}")?,
            Kind::Text { letter, size } if *size > 64 => {
                let letter = char::from(*letter);
                writeln!(script, "head -c {size} /dev/zero | tr '\\0' {letter} > {path}")?;
            }
            kind => writeln!(script, "printf '{}' > {path}", octal(&content(kind)))?,
        }
        writeln!(script, "chown {}:{} {path}; chmod {:o} {path}", node.uid, node.gid, node.mode)?;
        label(&mut script, node, &path, signers)?;
    }
    Ok(script)
}

/// The operation with real labels for `@hash:ALGO:PATH` and `@signature:ALGO:PATH`: those of the content that the file
/// has at the start, and of nothing for a file that comes later.
fn with_labels(draft: &Draft, op: &Op, signers: &Signers) -> Result<Op> {
    let mut op = op.clone();
    for word in &mut op.words {
        let mut parts = word.splitn(3, ':');
        let (Some(what @ ("@hash" | "@signature")), Some(algo), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let node = draft.nodes.iter().find(|node| node.path == path);
        let content = node.map(|node| content(&node.kind)).unwrap_or_default();
        let value =
            if what == "@hash" { hash(algo, &content)? } else { signers.label(&content, algo, true)? };
        *word = format!("0x{}", hex(&value));
    }
    Ok(op)
}

/// A hash label (type 04) of this content.
fn hash(algo: &str, content: &[u8]) -> Result<Vec<u8>> {
    let found = ALGORITHMS.iter().find(|(name, ..)| *name == algo);
    let (.., id) = found.with_context(|| format!("no number for {algo}"))?;
    let digest = match algo {
        "sha1" => Sha1::digest(content).to_vec(),
        "sha256" => Sha256::digest(content).to_vec(),
        "sha512" => Sha512::digest(content).to_vec(),
        other => bail!("no hash {other}"),
    };
    Ok([&[4, *id][..], &digest].concat())
}

fn label(script: &mut String, node: &Node, path: &str, signers: &Signers) -> Result<()> {
    match &node.label {
        Label::None => {}
        Label::Hash { algo, old, good } => {
            let found = ALGORITHMS.iter().find(|(name, ..)| name == algo);
            let (_, program, id) = found.with_context(|| format!("no program for {algo}"))?;
            let kind = if *old { "01".to_owned() } else { format!("04{id:02x}") };
            if *good {
                writeln!(script, "hash {path} {kind} {program} < {path}")?;
            } else {
                writeln!(script, "echo other | hash {path} {kind} {program}")?;
            }
        }
        Label::Signature { algo, known, good } => {
            let mut content = content(&node.kind);
            if !good {
                content.extend_from_slice(b"other");
            }
            let value = hex(&signers.label(&content, algo, *known)?);
            writeln!(script, "xattr {path} {value}")?;
        }
        Label::Raw(bytes) => writeln!(script, "xattr {path} {}", hex(bytes))?,
    }
    Ok(())
}

/// The content of a file.
pub fn content(kind: &Kind) -> Vec<u8> {
    match kind {
        Kind::Text { letter, size } => vec![*letter; *size],
        Kind::Elf(status) => elf(*status),
        Kind::Script(interpreter) => format!("#!{interpreter}\n").into_bytes(),
        Kind::Directory | Kind::Symlink(_) | Kind::Hardlink(_) | Kind::Fifo => Vec::new(),
    }
}

/// A static x86-64 program that ends with `status`: one header, one segment with everything, three instructions.
fn elf(status: u8) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code = [&[0xbf, status, 0, 0, 0][..], &[0xb8, 60, 0, 0, 0], &[0x0f, 0x05]].concat();
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let words = |values: &[(u64, usize)]| -> Vec<u8> {
        values.iter().flat_map(|(value, length)| value.to_le_bytes().into_iter().take(*length)).collect()
    };
    // Type, machine, version, entry, program headers, section headers, flags, sizes and counts; elf(5).
    let header =
        [(2, 2), (62, 2), (1, 4), (BASE + HEADERS, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2)];
    file.extend(words(&header));
    file.extend([0; 6]);
    // PT_LOAD, readable and executable, offset, addresses, sizes, alignment.
    file.extend(words(&[(1, 4), (5, 4), (0, 8), (BASE, 8), (BASE, 8), (size, 8), (size, 8), (0x1000, 8)]));
    file.extend(code);
    file
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

fn single_quoted(text: &str) -> String {
    // What begins with a dash is no option.
    let dot = if text.starts_with('-') { "./" } else { "" };
    format!("'{dot}{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_ends_with_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prog");
        std::fs::write(&path, elf(42)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(output(&mut Command::new(&path)).unwrap().status.code(), Some(42));
    }

    #[test]
    fn shell_and_printf_get_the_bytes_that_were_meant() {
        assert_eq!(single_quoted("a'b c"), "'a'\\''b c'");
        assert_eq!(single_quoted("-dash"), "'./-dash'");
        let out =
            output(Command::new("sh").arg("-c").arg(format!("printf '{}'", octal(b"a\x00\xff%'")))).unwrap();
        assert_eq!(out.stdout, b"a\x00\xff%'");
    }
}
