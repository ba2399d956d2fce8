//! The control directory `/.imafs`: everything in it can be read, it does not show, and it cannot be taken away.

use anyhow::{Context, Result, ensure};
use integration::{Door, Stand, need};
use rustix::io::Errno;
use serde_json::Value;
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\nappraise func=BPRM_CHECK appraise_type=imasig\n";

/// Files of `integrity/ima/`, every one a plain file that `cat` can read.
const KERNEL_FILES: [&str; 5] = [
    "policy",
    "ascii_runtime_measurements",
    "binary_runtime_measurements",
    "runtime_measurements_count",
    "violations",
];

/// The errno behind an error of the standard library.
fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().as_ref().and_then(Errno::from_io_error)
}

#[test]
fn every_kernel_file_reads_as_a_plain_file() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let mount = stand.mount()?.policy(POLICY)?.start()?;
    std::fs::read(mount.path("file"))?;
    for name in KERNEL_FILES {
        let path = mount.path(".imafs/integrity/ima").join(name);
        ensure!(
            path.symlink_metadata().with_context(|| name.to_owned())?.file_type().is_file(),
            "{name} is no file"
        );
        let catted = integration::process::output(Command::new("cat").arg(&path))?;
        ensure!(catted.status.success() && !catted.stdout.is_empty(), "cat of {name}: {catted:?}");
        ensure!(catted.stdout == mount.control(&format!("ima/{name}"))?, "{name} differs through the link");
    }
    let listed = std::fs::read_dir(mount.path(".imafs/integrity/ima"))?.collect::<Result<Vec<_>, _>>()?;
    for entry in &listed {
        let name = entry.file_name();
        ensure!(entry.file_type()?.is_file(), "{} is no plain file", name.display());
        std::fs::read(entry.path()).with_context(|| format!("cannot read {}", name.display()))?;
    }
    ensure!(
        mount.control("measurements")? == mount.control("ima/ascii_runtime_measurements")?,
        "the short way differs"
    );
    Ok(())
}

#[test]
fn the_policy_reads_back_as_the_kernel_writes_it() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    // As a kernel would show it: conditions in canonical order, a space before each newline.
    let text = "appraise appraise_type=imasig fowner=0 func=BPRM_CHECK\nmeasure uid=0 mask=^MAY_READ func=PATH_CHECK\n";
    let mount = stand.mount()?.policy(text)?.start()?;
    let shown = String::from_utf8(mount.control("ima/policy")?)?;
    let expected = "appraise func=BPRM_CHECK fowner=0 appraise_type=imasig \nmeasure func=FILE_CHECK mask=^MAY_READ uid=0 \n";
    ensure!(shown == expected, "shown as:\n{shown}");
    Ok(())
}

#[test]
fn keys_identity_status_and_pcrs_can_be_read() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--ns-id", "proof-identity"]).start()?;
    ensure!(mount.control("ns_id")? == b"proof-identity\n", "ns_id is {:?}", mount.control("ns_id")?);
    let status: Value = serde_json::from_slice(&mount.control("status")?).context("status is not JSON")?;
    ensure!(status.is_object(), "status is {status}");
    let values = integration::pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
    ensure!(values.iter().any(|v| v.bank == "sha256" && v.index == 10), "no PCR 10 in {values:?}");
    let rings = std::fs::read_dir(mount.path(".imafs/keys"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!rings.is_empty(), "no ring");
    let mut shown = String::new();
    for ring in rings {
        shown += &std::fs::read_to_string(ring.path())?;
    }
    ensure!(shown.contains("trusted"), "the trusted key's subject does not show: {shown}");
    Ok(())
}

#[test]
fn records_can_be_read_inside_and_are_the_ones_outside() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.host_file("unsigned", "/bin/true")?;
    let mount = stand.mount()?.policy(POLICY)?.start()?;
    mount.refused(Door::Exec, "unsigned", "IMA-signature-required")?;
    let mut inside = Vec::new();
    // The file can be followed, so reading to the end may wait for more: one read gives what is there.
    let mut file = std::fs::File::open(mount.path(".imafs/audit"))?;
    let mut buffer = vec![0_u8; 1 << 16];
    let read = std::io::Read::read(&mut file, &mut buffer)?;
    inside.extend_from_slice(buffer.get(..read).unwrap_or_default());
    let outside = std::fs::read_to_string(mount.records().path())?;
    let record =
        outside.lines().find(|l| l.contains("IMA-signature-required")).context("no record outside")?;
    ensure!(String::from_utf8_lossy(&inside).contains(record), "the record is not inside");
    Ok(())
}

#[test]
fn the_directory_does_not_show_and_cannot_be_taken_away() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let mount = stand.mount()?.policy(POLICY)?.start()?;
    let names = std::fs::read_dir(mount.target())?.map(|e| Ok(e?.file_name())).collect::<Result<Vec<_>>>()?;
    ensure!(names == ["file"], "the root lists {names:?}");
    let dot = mount.path(".imafs");
    ensure!(
        errno(std::fs::remove_dir(&dot)) == Some(Errno::PERM),
        "rmdir: {:?}",
        errno(std::fs::remove_dir(&dot))
    );
    let over = errno(std::fs::rename(mount.path("file"), &dot));
    ensure!(over.is_some_and(|e| e == Errno::PERM || e == Errno::ISDIR), "rename over it: {over:?}");
    let away = errno(std::fs::rename(&dot, mount.path("elsewhere")));
    ensure!(away.is_some_and(|e| e == Errno::PERM || e == Errno::XDEV), "rename away: {away:?}");
    let new = errno(std::fs::write(dot.join("new"), "x"));
    ensure!(
        new.is_some_and(|e| matches!(e, Errno::PERM | Errno::ACCESS | Errno::ROFS)),
        "a new file in it: {new:?}"
    );
    ensure!(!stand.source(".imafs").exists(), "something reached the source");
    mount.control("status").map(drop)
}

#[test]
fn the_policy_cannot_be_written_over_from_a_read_only_directory() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--control", "ro"]).start()?;
    let before = mount.control("ima/policy")?;
    let wrote = errno(std::fs::write(mount.path(".imafs/ima/policy"), "dont_appraise\n"));
    ensure!(wrote.is_some(), "the policy could be written");
    ensure!(mount.control("ima/policy")? == before, "the policy changed");
    Ok(())
}

#[test]
fn the_directory_is_absent_where_the_host_keeps_it() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    for mode in ["host", "none"] {
        let mount = stand.mount()?.policy(POLICY)?.args(["--control", mode]).start()?;
        let seen = errno(std::fs::metadata(mount.path(".imafs")));
        ensure!(seen == Some(Errno::NOENT), "--control {mode}: {seen:?}");
    }
    Ok(())
}

#[test]
fn the_lists_are_their_owners_and_roots_to_read() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--control-owner", "1234:1235"]).start()?;
    let list = mount.path(".imafs/measurements");
    let read = |user: &str, group: &str| -> Result<bool> {
        let mut cat = Command::new("setpriv");
        cat.args(["--reuid", user, "--regid", group, "--clear-groups", "cat"]).arg(&list);
        Ok(integration::process::output(&mut cat)?.status.success())
    };
    for (user, group, may) in
        [("1234", "1", true), ("1", "1235", true), ("1235", "1234", false), ("1", "0", false)]
    {
        ensure!(read(user, group)? == may, "user {user} of group {group}");
    }
    ensure!(!std::fs::read(&list)?.is_empty(), "root reads nothing");
    mount.stop()?;
    Ok(())
}
