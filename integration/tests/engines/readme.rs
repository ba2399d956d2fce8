//! The README's section about engines, followed to the letter by somebody who has nothing yet.

use anyhow::{Context, Result, ensure};
use integration::Scratch;
use integration::engine::Ended;
use integration::process::{output, repository};
use std::process::Command;

/// Directories the section writes to; the test gives it copies that are gone afterwards.
const WRITTEN: [&str; 5] = ["/etc", "/usr/local", "/srv", "/root", "/var/lib"];

/// What is this machine's matter and not the reader's: no network in containers, no systemd, low limits.
const MACHINE: &str = r#"mkdir -p /etc/containers/containers.conf.d
cat > /etc/containers/containers.conf.d/machine.conf <<'EOF'
[containers]
netns = "none"
default_ulimits = ["nofile=1024:4096", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
EOF
"#;

/// The comment behind a command that is to be refused.
const REFUSED: &str = "# Permission denied";

/// Runs every command of the section in its order; those that say so must be refused, all others must not.
pub fn leads_to_a_refusal(scratch: &Scratch) -> Result<()> {
    let text = std::fs::read_to_string(repository().join("README.md")).context("cannot read README.md")?;
    let script = script(&text)?;
    let dirs = scratch.dir("readme")?;
    let mut lines = vec!["set -e".to_owned()];
    for (at, written) in WRITTEN.iter().enumerate() {
        let [upper, work] = ["upper", "work"].map(|name| dirs.join(format!("{at}-{name}")));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        lines.push(format!(
            "mount -t overlay overlay -o lowerdir={written},upperdir={},workdir={} {written}",
            upper.display(),
            work.display()
        ));
    }
    // A store of its own: the machine's may be in use.
    lines.push("mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers".to_owned());
    lines.push("mkdir -p /run/containers && mount -t tmpfs tmpfs /run/containers".to_owned());
    lines.push(MACHINE.to_owned());
    lines.push("set -x".to_owned());
    lines.push(script);
    let mut run = Command::new("unshare");
    run.args(["--mount", "--propagation", "private", "bash", "-c", &lines.join("\n")]);
    let words = Ended::of(&output(run.current_dir(repository()))?).well()?;
    ensure!(words.contains("Permission denied"), "nothing was refused: {words}");
    Ok(())
}

/// The section's commands, each that is to be refused wrapped so that its success is a failure.
fn script(text: &str) -> Result<String> {
    let section =
        text.split("\n## Under podman").nth(1).context("the README has no section about engines")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section.split("```\n").skip(1).step_by(2);
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect();
    ensure!(lines.iter().any(|line| line.contains(REFUSED)), "nothing in it is to be refused: {lines:?}");
    let checked = |line: &&str| match line.split_once(REFUSED) {
        Some((command, _)) => format!(
            "if words=$({command} 2>&1); then echo \"not refused: $words\" >&2; exit 90; fi\n\
             echo \"$words\"; case $words in *'ermission denied'*) ;; *) exit 91 ;; esac"
        ),
        None => (*line).to_owned(),
    };
    Ok(lines.iter().map(checked).collect::<Vec<_>>().join("\n"))
}
