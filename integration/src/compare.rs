//! Holds two trees against each other with foreign tools, so that our own eye cannot be the judge.

use crate::process::{output, succeed};
use anyhow::{Result, bail, ensure};
use std::path::Path;
use std::process::Command;

/// Everything `find` can say of a file that has to be the same in both trees: path, type, mode, owner, group, link
/// count, size, modification and change times, link target. Not the inode number, and not the access time, which
/// reading moves.
const FIND: &str = "%P %y %m %U %G %n %s %T@ %C@ %l\\n";

/// Asserts that `diff -r --no-dereference` finds nothing.
///
/// # Errors
/// Fails with the first differences.
pub fn same_content(left: &Path, right: &Path) -> Result<()> {
    let out = output(
        Command::new("diff").args(["--recursive", "--no-dereference", "--brief"]).args([left, right]),
    )?;
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success() && words.is_empty(), "the trees differ:\n{}", head(&words));
    Ok(())
}

/// Asserts that `find -printf` says the same of both trees.
///
/// # Errors
/// Fails with the first differences.
pub fn same_metadata(left: &Path, right: &Path) -> Result<()> {
    same("find", left, right, |dir| {
        Command::new("find").arg(".").args(["-printf", FIND]).current_dir(dir).to_text()
    })
}

/// Asserts that `getfattr -d -m -` says the same of both trees.
///
/// # Errors
/// Fails with the first differences.
pub fn same_attributes(left: &Path, right: &Path) -> Result<()> {
    same("getfattr", left, right, |dir| {
        let mut command = Command::new("getfattr");
        command.args([
            "--recursive",
            "--physical",
            "--no-dereference",
            "--dump",
            "--match=-",
            "--encoding=hex",
            ".",
        ]);
        command.current_dir(dir).to_text()
    })
}

/// Asserts that `getfacl` says the same of both trees.
///
/// # Errors
/// Fails with the first differences.
pub fn same_acls(left: &Path, right: &Path) -> Result<()> {
    same("getfacl", left, right, |dir| {
        Command::new("getfacl")
            .args(["--recursive", "--physical", "--numeric", "."])
            .current_dir(dir)
            .to_text()
    })
}

/// Runs `ask` on both trees; the sets of paragraphs it prints must be equal.
fn same(tool: &str, left: &Path, right: &Path, ask: impl Fn(&Path) -> Result<String>) -> Result<()> {
    let (said_left, said_right) = (ask(left)?, ask(right)?);
    ensure!(!said_left.is_empty(), "{tool} says nothing of {}", left.display());
    let separator = if said_left.contains("\n\n") { "\n\n" } else { "\n" };
    let parts = |text: &str| {
        let mut parts: Vec<String> = text.split(separator).map(str::to_owned).collect();
        parts.sort_unstable();
        parts
    };
    let (left_parts, right_parts) = (parts(&said_left), parts(&said_right));
    if left_parts == right_parts {
        return Ok(());
    }
    let only = |a: &[String], b: &[String], sign: &str| -> String {
        let alone = a.iter().filter(|part| b.binary_search(part).is_err());
        alone.take(10).map(|part| format!("{sign} {part}\n")).collect()
    };
    bail!(
        "{tool} differs:\n{}{}",
        only(&left_parts, &right_parts, "-"),
        only(&right_parts, &left_parts, "+")
    );
}

/// A command's standard output, bytes that are not UTF-8 kept apart as escapes so that no two become equal.
trait ToText {
    fn to_text(&mut self) -> Result<String>;
}

impl ToText for Command {
    fn to_text(&mut self) -> Result<String> {
        let out = output(self.env("LC_ALL", "C").env("TZ", "UTC"))?;
        ensure!(out.status.success(), "{self:?}: {}", String::from_utf8_lossy(&out.stderr));
        let lossless = out.stdout.iter().map(|byte| match byte {
            0..=0x7f => char::from(*byte).to_string(),
            high => format!("\\x{high:02x}"),
        });
        Ok(lossless.collect())
    }
}

/// The first lines of a long text.
fn head(text: &str) -> String {
    text.lines().take(20).collect::<Vec<_>>().join("\n")
}

/// Asserts that the two files hold the same bytes, as `cmp` sees it.
///
/// # Errors
/// Fails with cmp's words.
pub fn same_bytes(left: &Path, right: &Path) -> Result<()> {
    succeed(Command::new("cmp").args([left, right])).map(drop)
}
