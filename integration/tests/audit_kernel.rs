//! `--audit kernel`: records in the kernel's own audit trail, read back from the kernel.

use anyhow::{Context, Result, ensure};
use integration::process::{output, succeed, until};
use integration::python::PYTHON;
use integration::{Door, Mount, Need, Stand, need};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Speaks to the audit socket: `state` prints whether auditing is on, `set 0|1` switches it, `watch` prints each record
/// as the kernel sends it to whoever may read along.
const AUDIT: &str = r#"
import socket, struct, sys
def opened(groups):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)
    s.bind((0, groups))
    s.settimeout(20)
    return s
def ask(kind, data):
    s = opened(0)
    s.send(struct.pack("=IHHII", 16 + len(data), kind, 5, 1, 0) + data)
    while True:
        message = s.recv(65536)
        got, = struct.unpack_from("=H", message, 4)
        if got == 2:
            error, = struct.unpack_from("=i", message, 16)
            if error or kind != 1000:
                return error
        elif got == kind:
            return struct.unpack_from("=I", message, 20)[0]
if sys.argv[1] == "state":
    print(ask(1000, b""))
elif sys.argv[1] == "set":
    sys.exit(ask(1001, struct.pack("=11I", 1, int(sys.argv[2]), *[0] * 9)))
else:
    s = opened(1)
    s.settimeout(None)
    print("watching", flush=True)
    while True:
        message = s.recv(65536)
        kind, = struct.unpack_from("=H", message, 4)
        print(kind, message[16:].decode("latin-1").rstrip("\0"), flush=True)
"#;

/// Runs a verb; `None` where this machine's audit system does not answer us.
fn audit(arguments: &[&str]) -> Result<Option<String>> {
    let out = output(Command::new(PYTHON).args(["-I", "-c", AUDIT]).args(arguments))?;
    Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned()))
}

/// Auditing switched on; as it was before, again, when dropped.
struct On(bool);

impl On {
    fn switch(was_on: bool) -> Result<Self> {
        if !was_on {
            audit(&["set", "1"])?.context("auditing cannot be switched on")?;
        }
        Ok(Self(was_on))
    }
}

impl Drop for On {
    fn drop(&mut self) {
        if !self.0 && !matches!(audit(&["set", "0"]), Ok(Some(_))) {
            eprintln!("auditing is left switched on");
        }
    }
}

/// A process that writes what the kernel audits into a file.
struct Watch(Child);

impl Watch {
    fn into(file: &Path) -> Result<Self> {
        let mut watch = Command::new(PYTHON);
        watch.args(["-I", "-c", AUDIT, "watch"]).stdout(Stdio::from(File::create(file)?));
        let watch = Self(watch.spawn().context("cannot start the watch")?);
        ensure!(holds(file, "watching")?, "nobody may read along");
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("the watch is left running");
        }
    }
}

/// Whether the file holds this text, or does within ten seconds.
fn holds(file: &Path, text: &str) -> Result<bool> {
    until(Duration::from_secs(10), || Ok(std::fs::read_to_string(file)?.contains(text)))
}

/// One test: auditing is the machine's, and on or off for all.
#[test]
fn the_kernel_takes_the_records_while_auditing_is_on_and_the_mount_fails_while_it_is_off() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program(PYTHON));
    let Some(state) = audit(&["state"])? else {
        eprintln!("skipped: the audit socket of this kernel does not answer us");
        return Ok(());
    };
    let stand = Stand::new()?;
    stand.file("it's unsigned", "content\n", 0o644)?;
    let mount = || -> Result<_> {
        let mount = stand.mount()?.policy("appraise appraise_type=imasig\n")?;
        Ok(mount.args(["--audit", "kernel", "--ns-id", "audited"]))
    };
    if state == "0" {
        let refusal =
            mount()?.start().map(drop).err().context("mounted, though auditing is off")?.to_string();
        ensure!(refusal.contains("cannot open audit sink kernel: auditing is switched off"), "{refusal}");
        ensure!(refusal.contains("auditctl -e 1"), "no next step: {refusal}");
    }
    let on = On::switch(state != "0")?;
    let trail = stand.scratch.path().join("trail");
    let watch = Watch::into(&trail)?;
    let mount = mount()?.start()?;
    mount.refused(Door::Open, "it's unsigned", "IMA-signature-required")?;
    // The name has a space and an apostrophe in it, so it is in hex; "/it's unsigned".
    let text = "op=appraise_data cause=IMA-signature-required";
    ensure!(holds(&trail, text)?, "not in the trail:\n{}", std::fs::read_to_string(&trail)?);
    let trail_text = std::fs::read_to_string(&trail)?;
    let line = trail_text.lines().find(|line| line.contains(text)).context("gone again")?;
    ensure!(line.starts_with("1121 audit("), "of another type: {line}");
    ensure!(line.contains(" msg='ima=1800 ns=audited serial=1 pid="), "without our ids: {line}");
    ensure!(line.contains(" name=2F697427732"), "another name: {line}");
    ensure!(line.ends_with(" res=0 errno=0'"), "cut off, or ended before its end: {line}");
    ensure!(lost_by_kernel(&mount)? == 0, "a record was lost");
    drop(watch);
    // Switched off under a mount: what the kernel would drop is counted as lost.
    if state == "0" {
        drop(on);
        mount.refused(Door::Open, "it's unsigned", "IMA-signature-required")?;
        let lost = || Ok(lost_by_kernel(&mount)? == 1);
        ensure!(until(Duration::from_secs(10), lost)?, "{} records lost", lost_by_kernel(&mount)?);
    }
    Ok(())
}

/// What the mount's status says of records that the kernel did not get.
fn lost_by_kernel(mount: &Mount) -> Result<u64> {
    let target = mount.target().display().to_string();
    let status = succeed(&mut mount.imafs(&["status", &target, "--json"])?)?;
    let status: serde_json::Value = serde_json::from_str(&status).context("status is not JSON")?;
    let sinks = status.get("audit-sinks").and_then(|sinks| sinks.as_array()).context("no sinks")?;
    let kernel = sinks.iter().find(|sink| sink.get("name").is_some_and(|name| name == "kernel"));
    kernel.and_then(|sink| sink.get("dropped")?.as_u64()).context("no count")
}
