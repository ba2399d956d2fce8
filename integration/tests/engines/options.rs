//! What people give `run` besides: with imafs under the container it does what it does without.

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Engine as _, Host};
use integration::process::{output, until};
use std::time::Duration;

/// `--privileged`, `--read-only`, `--tmpfs`, `--init`, volumes, `--user`, `--restart`. In each the tampered program stays refused.
pub fn are_heeded(engine: &Cli) -> Result<()> {
    let refused = "sha256sum /etc/hostname && exit 91 || test $? = 126";
    let run = |options: &[&str], program: &str| -> Result<String> {
        let program = format!("set -e\n{program}\n{refused}\necho proven");
        let words = engine.once(Some("exec"), options, &["signed", "sh", "-c", &program])?.well();
        let words = words.with_context(|| format!("{options:?}"))?;
        ensure!(words.contains("proven"), "{options:?}: {words}");
        Ok(words)
    };
    let plainly = engine.once(None, &["--privileged"], &["signed", "true"])?;
    if plainly.status == Some(0) {
        // Root with every capability is refused like anybody.
        run(
            &["--privileged"],
            "mount -t tmpfs none /mnt; cp /usr/bin/ls /root/copied; ! /root/copied 2> /dev/null",
        )?;
    } else {
        // Docker gives each capability it knows, and this machine may not have them all.
        eprintln!("skipped --privileged, which fails here without imafs as well: {}", plainly.words);
    }
    run(&["--read-only", "--tmpfs", "/tmp"], "! touch /root/x 2> /dev/null; echo x > /tmp/x")?;
    run(&["--init"], "test $(cat /proc/1/comm) != sh")?;
    run(&["--volume", "kept:/data"], "echo kept > /data/note; test ! -e /data/.imafs")?;
    let words = run(&["--volume", "kept:/data"], "cat /data/note")?;
    ensure!(words.contains("kept"), "the volume lost the note: {words}");
    engine.say(&["volume", "rm", "kept"])?.well()?;
    run(&["--user", "1234:1234"], "test $(id -u) = 1234; ! cat /.imafs/measurements 2> /dev/null")?;

    // Ends with a failure twice, is started again each time, and checked each time.
    let program = format!("{refused}; echo again; sleep 0.2; exit 7");
    let options = ["--detach", "--name", "restarted", "--restart", "on-failure:2"];
    let started = output(&mut engine.run(Some("exec"), &options, &["signed", "sh", "-c", &program]))?;
    let id = integration::engine::Ended::of(&started).well()?;
    let mut words = String::new();
    let thrice = until(Duration::from_secs(60), || {
        words = engine.say(&["logs", "restarted"])?.words;
        Ok(words.lines().filter(|line| *line == "again").count() == 3)
    })?;
    ensure!(thrice, "it was not started again twice: {words}");
    output(&mut engine.remove_named("restarted"))?;
    Host::is_clean_of(&[id.lines().last().unwrap_or_default().to_owned()])
}
