//! What becomes of labels on their way through engines, tried with each, and the table of it that we publish.

use anyhow::{Context, Result, ensure};
use integration::process::{repository, succeed};
use integration::{Need, Scratch, need};
use std::process::Command;

/// The head of the published table.
const HEAD: &str = "| | Way | `security.ima` | `user.imafs.ima` | manifest |";

#[test]
fn what_becomes_of_labels_is_what_the_papers_say() -> Result<()> {
    need!(
        Need::Root,
        Need::Program("podman"),
        Need::Program("buildah"),
        Need::Program("skopeo"),
        Need::Program("dockerd")
    );
    let _alone = crate::alone();
    let scratch = Scratch::new()?;
    let script = repository().join("integration/tests/engines/label-paths.sh");
    let lines = succeed(Command::new("bash").arg(script).arg(scratch.dir("ways")?))?;
    let row = |line: &str| format!("| {} |", line.split('\t').collect::<Vec<_>>().join(" | "));
    let found: Vec<String> = lines.lines().map(row).collect();
    let paper = std::fs::read_to_string(repository().join("docs/images.md")).context("no docs/images.md")?;
    let table = paper.split_once(HEAD).context("docs/images.md has no table of ways")?.1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let published: Vec<String> = rows.map(str::to_owned).collect();
    ensure!(found == published, "docs/images.md has another table; found was:\n{}", found.join("\n"));
    Ok(())
}
