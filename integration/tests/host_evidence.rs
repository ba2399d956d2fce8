//! Evidence of a TPM that mounts share: the host list, quoted as a whole, judged whole or by mount.

use anyhow::{Context, Result, ensure};
use attest::evidence::Evidence;
use integration::attestation::{NONCE, judge, quote, reasons};
use integration::process::{ours, output, succeed};
use integration::swtpm::Swtpm;
use integration::{Mount, Need, Stand, need, pcrs};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

/// Mounts `web` and `mail` on one swtpm, over one tree.
struct Host {
    stand: Stand,
    tpm: Swtpm,
    run_dir: PathBuf,
    digests: String,
}

impl Host {
    fn new() -> Result<Self> {
        let stand = Stand::new()?;
        for number in 0..8 {
            stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
        }
        let digests = stand.scratch.path().join("digests");
        // Every file, as coreutils digest it.
        let script = format!("sha256sum file-* > {}", digests.display());
        succeed(Command::new("sh").args(["-c", &script]).current_dir(stand.tree()))?;
        let tpm = Swtpm::start(&stand.scratch)?;
        let run_dir = stand.scratch.dir("run")?;
        Ok(Self { stand, tpm, run_dir, digests: digests.to_str().context("not UTF-8")?.to_owned() })
    }

    fn mount(&self, ns: &str) -> Result<Mount> {
        let builder = self.stand.mount()?.policy(POLICY)?.run_dir_at(&self.run_dir);
        builder.args(["--tpm", &self.tpm.tcti(), "--host-list", "main", "--ns-id", ns]).start()
    }

    fn evidence(&self, name: &str) -> PathBuf {
        self.stand.scratch.path().join(name)
    }

    fn judge(&self, evidence: &Path, key: &str, more: &[&str]) -> Result<(i32, Value)> {
        judge(evidence, NONCE, &[&["--ak", key, "--digests", &self.digests], more].concat())
    }
}

fn read(mount: &Mount, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        std::fs::read(mount.path(format!("file-{number}"))).context("cannot read")?;
    }
    Ok(())
}

fn count(verdict: &Value, name: &str) -> Result<u64> {
    let count = verdict.pointer(&format!("/counts/{name}")).and_then(Value::as_u64);
    count.with_context(|| format!("no count of {name}: {verdict}"))
}

#[test]
fn the_lists_of_all_mounts_are_quoted_and_judged_together_or_one_by_one() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"));
    let host = Host::new()?;
    let (web, mail) = (host.mount("web")?, host.mount("mail")?);
    read(&web, 0..4)?;
    read(&mail, 2..8)?;
    read(&web, 4..5)?;
    let evidence = host.evidence("evidence");
    let key = quote(&mail, NONCE, &evidence)?;
    let (status, verdict) = host.judge(&evidence, &key, &[])?;
    ensure!(status == 0, "{verdict}");
    ensure!((count(&verdict, "entries")?, count(&verdict, "accepted")?) == (13, 13), "{verdict}");
    // The list that was quoted is what evmctl replays to the register.
    let list = host.evidence("list");
    std::fs::write(&list, Evidence::parse(&std::fs::read(&evidence)?)?.list)?;
    pcrs::evmctl_accepts(&list, 13, &host.tpm.pcr(10)?, host.stand.scratch.path())?;
    for (ns, own, others) in [("web", 6, 7), ("mail", 7, 6)] {
        let (status, verdict) = host.judge(&evidence, &key, &["--ns", ns])?;
        ensure!(status == 0, "{ns}: {verdict}");
        let found = (count(&verdict, "accepted")?, count(&verdict, "other-mounts")?);
        ensure!(found == (own, others), "{ns}: {verdict}");
    }
    let (status, verdict) = host.judge(&evidence, &key, &["--ns", "nobody"])?;
    ensure!(status == 1 && reasons(&verdict) == ["boot-aggregate"], "{verdict}");

    // What one mount has read, the other does not answer for.
    host.stand.file("file-9", "not in the reference\n", 0o644)?;
    read(&mail, 9..10)?;
    quote(&web, NONCE, &evidence)?;
    let (status, verdict) = host.judge(&evidence, &key, &["--ns", "web"])?;
    ensure!(status == 0, "{verdict}");
    for more in [&[][..], &["--ns", "mail"]] {
        let (status, verdict) = host.judge(&evidence, &key, more)?;
        ensure!(status == 1 && reasons(&verdict) == ["not-in-reference"], "{verdict}");
        let offender = (verdict.pointer("/entries/0/ns"), verdict.pointer("/entries/0/path"));
        ensure!(offender == (Some(&"mail".into()), Some(&"/file-9".into())), "{verdict}");
    }
    Ok(())
}

#[test]
fn evidence_goes_on_after_a_mount_was_killed_and_came_back() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let host = Host::new()?;
    let (web, mail) = (host.mount("web")?, host.mount("mail")?);
    read(&web, 0..3)?;
    let earlier = host.evidence("earlier");
    let key = quote(&web, NONCE, &earlier)?;
    web.signal(Signal::KILL)?;
    let target = web.target().to_owned();
    let mut umount = web.imafs(&["umount", "--lazy", &target.to_string_lossy()])?;
    web.wait()?;
    succeed(&mut umount)?;
    read(&mail, 0..2)?;
    // Its list begins again, with the aggregate of the boot.
    let web = host.mount("web")?;
    read(&web, 3..5)?;
    let later = host.evidence("later");
    quote(&web, NONCE, &later)?;
    let path = |path: &Path| path.to_str().map(str::to_owned).context("not UTF-8");
    for more in [&[][..], &["--ns", "web"]] {
        let after = path(&earlier)?;
        let (status, verdict) = host.judge(&later, &key, &[more, &["--after", &after]].concat())?;
        ensure!(status == 0, "{verdict}");
    }
    let after = path(&later)?;
    let (status, verdict) = host.judge(&earlier, &key, &["--after", &after])?;
    ensure!(status == 1 && reasons(&verdict) == ["rollback"], "{verdict}");
    Ok(())
}

#[test]
fn a_host_list_that_was_changed_is_refused() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let host = Host::new()?;
    let web = host.mount("web")?;
    read(&web, 0..4)?;
    let evidence = host.evidence("evidence");
    let key = quote(&web, NONCE, &evidence)?;
    let file = std::fs::read(&evidence)?;
    let good = Evidence::parse(&file)?;
    let lines = lines(good.list)?;
    ensure!(lines.len() == 5, "{} lines", lines.len());
    let all = |order: &[usize]| -> Vec<u8> {
        order.iter().flat_map(|at| lines.get(*at).copied().unwrap_or_default().to_vec()).collect()
    };
    let changed = host.evidence("changed");
    // Dropped in the middle and at the end, swapped, twice. That lines of a mount do not follow each other is told besides.
    for (order, told) in [
        (&[0, 1, 3, 4][..], &["replay", "sequence"][..]),
        (&[0, 1, 2, 3], &["replay"]),
        (&[0, 2, 1, 3, 4], &["replay", "sequence"]),
        (&[0, 1, 2, 3, 4, 4], &["unproven-entries"]),
        (&[0, 1, 2, 2, 3, 4], &["replay", "sequence"]),
    ] {
        let list = all(order);
        std::fs::write(&changed, Evidence { list: &list, ..good.clone() }.to_bytes()?)?;
        let (status, verdict) = host.judge(&changed, &key, &[])?;
        ensure!(status == 1 && reasons(&verdict) == told, "{order:?}: {verdict}");
    }
    // A prime's multiples meet every place of a line.
    for at in (0..good.list.len()).step_by(7) {
        let mut list = good.list.to_vec();
        if let Some(byte) = list.get_mut(at) {
            *byte ^= 1;
        }
        std::fs::write(&changed, Evidence { list: &list, ..good.clone() }.to_bytes()?)?;
        let (status, verdict) = host.judge(&changed, &key, &[])?;
        ensure!(status == 1, "byte {at}: {verdict}");
    }
    Ok(())
}

/// The lines of a host list, by their lengths.
fn lines(mut list: &[u8]) -> Result<Vec<&[u8]>> {
    let mut lines = Vec::new();
    while !list.is_empty() {
        let number = |at: usize| -> Result<usize> {
            let bytes = list.get(at..at + 4).context("cut off")?;
            Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
        };
        let data = 28 + number(24)?;
        let (line, rest) = list.split_at_checked(data + 4 + number(data)?).context("cut off")?;
        lines.push(line);
        list = rest;
    }
    Ok(lines)
}

#[test]
fn only_root_of_the_host_is_given_the_lists_of_others() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let host = Host::new()?;
    let socket = format!("unix:{}", host.evidence("socket").display());
    let builder = host.stand.mount()?.policy(POLICY)?.run_dir_at(&host.run_dir);
    let shared = ["--tpm", &host.tpm.tcti(), "--host-list", "main", "--attest", &socket];
    let out = output(&mut builder.args(shared).command()?)?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(!out.status.success() && words.contains("imafs-attest quote --mount"), "{}: {words}", out.status);
    // A mount is named where there are none.
    let other = Stand::new()?;
    let alone = Swtpm::start(&other.scratch)?;
    let mount = other.mount()?.policy(POLICY)?.args(["--tpm", &alone.tcti()]).start()?;
    let evidence = host.evidence("evidence");
    let key = quote(&mount, NONCE, &evidence)?;
    let mut verify = Command::new(ours("imafs-attest")?);
    verify.arg("verify").arg(&evidence).args(["--nonce", NONCE, "--ak", &key, "--ns", "web"]);
    let out = output(verify.args(["--digests", &host.digests]))?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(
        out.status.code() == Some(2) && words.contains("one mount's own list"),
        "{}: {words}",
        out.status
    );
    Ok(())
}
