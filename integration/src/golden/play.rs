//! Playing a scenario: one operation at a time, with the audit records it caused.

use crate::golden::list;
use crate::golden::outcome::{Operation, Outcome, normal_record};
use crate::golden::scenario::{Scenario, lines};
use crate::golden::stage::Stage;
use crate::golden::syntax;
use crate::process::{output, until};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long a record may take from imafs's ring to its file.
const SETTLE: Duration = Duration::from_secs(5);

/// Plays the operations of `pre` on the bare file system, as they were before the policy was loaded.
///
/// # Errors
/// Fails when the player does.
pub fn before(scenario: &Scenario, stage: &Stage) -> Result<Vec<Operation>> {
    if scenario.operations("pre")?.is_empty() {
        return Ok(Vec::new());
    }
    // In a pid namespace, so that its actors go with it. There is no list to count in yet.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(stage.player()).args(["run", "-s", "/nonexistent"]);
    command.arg(scenario.dir.join("pre")).current_dir(stage.source());
    let out = output(&mut command)?;
    ensure!(out.status.success(), "pre: {}", String::from_utf8_lossy(&out.stderr));
    lines(&out.stdout).iter().map(|line| Operation::parse(line)).collect()
}

/// Plays the operations of `ops` on the mount. `before` is what [`before`] gave.
///
/// # Errors
/// Fails when the player or imafs does.
pub fn on_mount(scenario: &Scenario, stage: &Stage, before: Vec<Operation>) -> Result<Outcome> {
    let mut play = Play::start(stage)?;
    let mut operations = Vec::new();
    for text in scenario.operations("ops")? {
        let mut operation = play.one(&text).with_context(|| format!("at {}", text.escape_ascii()))?;
        operation.records = play.records(stage)?;
        if syntax::is_rule(&operation.text) {
            syntax::leave_out_the_spoiling(&mut operation.records);
        }
        operations.push(operation);
    }
    play.end()?;
    let ascii = stage.control("integrity/ima/ascii_runtime_measurements")?;
    let binary = stage.control("integrity/ima/binary_runtime_measurements")?;
    let tree = std::fs::read(stage.tree()).context("there is no list of the tree")?;
    Ok(Outcome {
        before,
        checked: syntax::checked(&operations, stage)?,
        operations,
        list: list::parse(&ascii, &binary).context("in imafs's list")?,
        tree: lines(&tree),
        counts: (
            number(stage, "integrity/ima/runtime_measurements_count")?,
            number(stage, "integrity/ima/violations")?,
        ),
        registers: String::from_utf8(stage.control("pcrs")?)?,
    })
}

fn number(stage: &Stage, name: &str) -> Result<u64> {
    let text = String::from_utf8(stage.control(name)?)?;
    text.trim().parse().with_context(|| format!("{name} is not a number: {text:?}"))
}

/// The player at work. Dropping it ends it, and with it all its actors.
struct Play {
    player: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    audit: File,
    /// Records read so far.
    seen: usize,
}

impl Play {
    fn start(stage: &Stage) -> Result<Self> {
        let audit = File::open(stage.audit()).context("there is no audit file")?;
        let mut player = stage.player_on_mount();
        player.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut player = player.spawn().context("cannot start the player")?;
        let to = player.stdin.take();
        let from = BufReader::new(player.stdout.take().context("the player has no output")?);
        Ok(Self { player, to, from, audit, seen: 0 })
    }

    /// Has one operation performed.
    fn one(&mut self, text: &[u8]) -> Result<Operation> {
        let to = self.to.as_mut().context("the player has no input")?;
        to.write_all(&[text, b"\n"].concat()).context("the player has ended")?;
        let mut line = Vec::new();
        self.from.read_until(b'\n', &mut line).context("cannot hear the player")?;
        let line = line.strip_suffix(b"\n").context("the player has ended")?;
        Operation::parse(line)
    }

    /// The records since the last operation. imafs has them in its ring before an access is answered, and in the
    /// file soon after; so the file is waited for until it holds as many.
    fn records(&mut self, stage: &Stage) -> Result<Vec<Vec<u8>>> {
        let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        let emitted = count(&stage.control("audit")?);
        let mut text = Vec::new();
        let start = self.audit.stream_position().context("cannot tell where the audit file is")?;
        let wanted = emitted.saturating_sub(self.seen);
        let settled = until(SETTLE, || {
            text.clear();
            self.audit.seek(SeekFrom::Start(start)).context("cannot seek in the audit file")?;
            self.audit.read_to_end(&mut text).context("cannot read the audit file")?;
            Ok(count(&text) >= wanted)
        })?;
        ensure!(settled, "{wanted} records were made, {} arrived", count(&text));
        ensure!(text.is_empty() || text.ends_with(b"\n"), "a record is not whole");
        self.seen += count(&text);
        Ok(lines(&text).iter().map(|record| normal_record(record)).collect())
    }

    fn end(mut self) -> Result<()> {
        self.to = None;
        let status = self.player.wait().context("cannot wait for the player")?;
        ensure!(status.success(), "the player ended with {status}");
        Ok(())
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        self.to = None;
        if matches!(self.player.try_wait(), Ok(None))
            && let Err(error) = self.player.kill().and_then(|()| self.player.wait())
        {
            eprintln!("cannot end the player: {error}");
        }
    }
}
