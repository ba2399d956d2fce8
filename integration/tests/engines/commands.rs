//! What people do to a running container.

use anyhow::{Context, Result, ensure};
use integration::Scratch;
use integration::engine::{Cli, Host};

/// exec, cp both ways, pause, commit, diff, export, restart, stop, start, rm: as without us, and nothing is left.
pub fn on_a_running_container(engine: &Cli, scratch: &Scratch) -> Result<()> {
    let id = engine.start(Some("exec"), "lived-in", &["signed", "sleep", "600"])?;
    let say = |words: &[&str]| engine.say(words)?.well().with_context(|| words.join(" "));
    let exec = |program: &str| engine.say(&["exec", "lived-in", "sh", "-c", program]);

    exec("ls /")?.well()?;
    exec("sha256sum /etc/hostname")?.refused("Permission denied")?;

    let note = scratch.file("note", "from outside\n")?.to_string_lossy().into_owned();
    say(&["cp", &note, "lived-in:/root/note"])?;
    ensure!(exec("cat /root/note")?.well()? == "from outside\n", "what was copied in is not there");
    exec("echo from inside >> /root/note")?.well()?;
    let back = scratch.path().join("back").to_string_lossy().into_owned();
    say(&["cp", "lived-in:/root/note", &back])?;
    let text = std::fs::read_to_string(&back)?;
    ensure!(text == "from outside\nfrom inside\n", "what was copied out is {text:?}");

    say(&["pause", "lived-in"])?;
    say(&["unpause", "lived-in"])?;
    exec("ls /")?.well()?;

    let diff = say(&["diff", "lived-in"])?;
    ensure!(diff.contains("A /root/note"), "diff says: {diff}");
    ensure!(!diff.contains(".imafs"), "the control directory is in the diff: {diff}");
    say(&["commit", "lived-in", "committed"])?;
    let out = scratch.path().join("exported.tar").to_string_lossy().into_owned();
    say(&["export", "--output", &out, "lived-in"])?;
    let listed = integration::process::shell(scratch.path(), "tar --list --file exported.tar")?;
    ensure!(listed.lines().any(|name| name == "root/note"), "the export lacks the note");
    ensure!(!listed.contains(".imafs"), "the control directory is in the export");
    std::fs::remove_file(&out)?;

    // A program that was tampered with from outside is refused from then on.
    let ls = scratch.path().join("debian/usr/bin/sha256sum").to_string_lossy().into_owned();
    say(&["cp", &ls, "lived-in:/usr/bin/ls"])?;
    exec("ls /")?.refused("Permission denied")?;

    say(&["restart", "--time", "1", "lived-in"])?;
    ensure!(exec("cat /root/note")?.well()?.ends_with("from inside\n"), "the restart lost the note");
    say(&["stop", "--time", "1", "lived-in"])?;
    Host::is_clean_of(std::slice::from_ref(&id)).context("after stop")?;
    say(&["start", "lived-in"])?;
    exec("cat /root/note")?.well()?;
    say(&["rm", "--force", "lived-in"])?;
    Host::is_clean_of(&[id]).context("after rm")?;

    // The committed image has its labels, and what was not signed has none.
    let again =
        engine.once(Some("exec"), &[], &["committed", "sh", "-c", "ls / > /dev/null; cat /root/note"])?;
    ensure!(again.well()?.ends_with("from inside\n"), "the commit lost the note");
    say(&["rmi", "committed"])?;
    Ok(())
}
