//! Rules that the container loads through its control directory: taken as the kernel's policy file takes them, in a
//! layer of their own that can only deny and measure more.

use anyhow::{Context, Result, bail, ensure};
use integration::loader::{Loaded, alone, load, open_to_write, write_once};
use integration::process::{output, succeed, until};
use integration::{Door, Mount, MountBuilder, Need, Record, Stand, need};
use rustix::io::Errno;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const HOST: &str = "measure func=FILE_CHECK mask=MAY_READ path=/measured\n";
const DENY: &str = "appraise func=FILE_CHECK path=/denied appraise_type=deny\n";

/// A mount whose container may load rules, over a file each rule of these tests is about.
fn open_to_rules(stand: &Stand, host: &str) -> Result<MountBuilder> {
    for name in ["measured", "denied", "free"] {
        stand.file(name, "content\n", 0o644)?;
    }
    stand.mount()?.policy(host).map(|mount| mount.args(["--control", "rw", "--policy-owner", "container"]))
}

fn policy(mount: &Mount) -> PathBuf {
    mount.path(".imafs/integrity/ima/policy")
}

fn rules(mount: &Mount) -> Result<String> {
    String::from_utf8(mount.control("ima/policy")?).context("the policy is not text")
}

fn errno_of(mount: &Mount, name: &str) -> Option<Errno> {
    std::fs::read(mount.path(name)).err().as_ref().and_then(Errno::from_io_error)
}

/// Causes of the records of loads that ended since the mount began, in order.
fn updates(mount: &Mount, count: usize) -> Result<Vec<String>> {
    let ended = |record: &Record| record.text("op") == "policy_update";
    let found = mount.records().since(mount.records().beginning(), count, ended)?;
    Ok(found.iter().map(|record| record.text("cause")).collect())
}

#[test]
fn what_the_container_loads_denies_and_measures_beside_the_hosts_rules() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.start()?;
    mount.allowed(Door::Open, "denied")?;
    let own =
        "dont_measure\ndont_appraise path=/free\nappraise path=/denied appraise_type=deny func=FILE_CHECK\n";
    ensure!(load(&policy(&mount), own.as_bytes())? == Loaded::Whole, "the load was refused");
    mount.refused(Door::Open, "denied", "denied-by-policy")?;
    mount.allowed(Door::Open, "free")?;
    // What the container exempts the host measures all the same.
    let before = mount.control_number("ima/runtime_measurements_count")?;
    mount.allowed(Door::Open, "measured")?;
    ensure!(
        mount.control_number("ima/runtime_measurements_count")? == before + 1,
        "the host's rule is hidden"
    );
    let shown = "measure func=FILE_CHECK mask=MAY_READ path=/measured \ndont_measure \ndont_appraise path=/free \n\
                 appraise func=FILE_CHECK appraise_type=deny path=/denied \n";
    ensure!(rules(&mount)? == shown, "read back as\n{}", rules(&mount)?);
    ensure!(updates(&mount, 1)? == ["completed"], "{:?}", updates(&mount, 1)?);
    Ok(())
}

#[test]
fn what_only_the_container_measures_is_measured() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, "dont_measure\n")?.start()?;
    let count = || mount.control_number("ima/runtime_measurements_count");
    mount.allowed(Door::Open, "free")?;
    let before = count()?;
    ensure!(
        load(&policy(&mount), b"measure func=FILE_CHECK path=/free\naudit\n")? == Loaded::Whole,
        "refused"
    );
    mount.allowed(Door::Open, "free")?;
    ensure!(count()? == before + 1, "the container's rule measures nothing");
    mount.allowed(Door::Open, "measured")?;
    ensure!(count()? == before + 1, "a file that no rule names is measured");
    // The audit trail is the host's.
    let start = mount.records().beginning();
    let hits = mount.records().since(start, 0, |record| record.text("type") == "1805")?;
    ensure!(hits.is_empty(), "an audit rule of the container left records: {hits:?}");
    ensure!(mount.log().contains("audit rules of the container have no effect"), "nobody was told");
    Ok(())
}

#[test]
fn each_line_has_its_errno_and_one_bad_line_voids_the_load() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.start()?;
    let file = policy(&mount);
    let before = rules(&mount)?;
    for (text, line, errno) in [
        (format!("{DENY}measure func=NOSUCH\n"), 2, Errno::INVAL),
        ("measure uid=99999999999999999999\n".to_owned(), 1, Errno::RANGE),
        (format!("{DENY}/no/such/file\n"), 2, Errno::NOENT),
        (format!("{DENY}measure\r\n"), 2, Errno::INVAL),
        (format!("#{}\nmeasure\n", "x".repeat(9000)), 2, Errno::INVAL),
    ] {
        let loaded = load(&file, text.as_bytes())?;
        ensure!(loaded == Loaded::RefusedAt(line, errno), "{}: {loaded:?}", text.escape_debug());
        ensure!(rules(&mount)? == before, "something of it is in force: {}", rules(&mount)?);
    }
    // A later good line does not heal it.
    let opened = open_to_write(&file)?;
    ensure!(rustix::io::write(&opened, b"spoil\n") == Err(Errno::INVAL), "spoil is a rule");
    ensure!(rustix::io::write(&opened, DENY.as_bytes()) == Ok(DENY.len()), "a good line is refused");
    drop(opened);
    for nothing in ["", "\n", "# only a comment\n\n"] {
        ensure!(load(&file, nothing.as_bytes())? == Loaded::Whole, "{nothing:?} is refused");
    }
    ensure!(rules(&mount)? == before, "something of it is in force");
    mount.allowed(Door::Open, "denied")?;
    ensure!(updates(&mount, 9)?.iter().all(|cause| cause == "failed"), "{:?}", updates(&mount, 9)?);
    ensure!(load(&file, DENY.as_bytes())? == Loaded::Whole, "it cannot be tried again");
    mount.refused(Door::Open, "denied", "denied-by-policy")
}

#[test]
fn the_policy_is_loaded_once_unless_the_host_allows_more() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mode = |mount: &Mount| -> Result<u32> {
        Ok(std::os::unix::fs::PermissionsExt::mode(&policy(mount).metadata()?.permissions()) & 0o777)
    };
    let mount = open_to_rules(&stand, HOST)?.start()?;
    ensure!(mode(&mount)? == 0o600, "{:o}", mode(&mount)?);
    ensure!(load(&policy(&mount), b"spoil\n")? == Loaded::RefusedAt(1, Errno::INVAL), "spoil is a rule");
    ensure!(load(&policy(&mount), DENY.as_bytes())? == Loaded::Whole, "a load after a failed one is refused");
    ensure!(mode(&mount)? == 0o400, "{:o}", mode(&mount)?);
    ensure!(load(&policy(&mount), b"measure\n")? == Loaded::NotOpened(Errno::BUSY), "a second load is taken");
    ensure!(mount.stop()?.success(), "imafs failed");

    let mount =
        open_to_rules(&stand, HOST)?.args(["--policy-loads", "many", "--policy-rules", "3"]).start()?;
    ensure!(load(&policy(&mount), DENY.as_bytes())? == Loaded::Whole, "the first load is refused");
    // Rules that came first win, and none is ever taken away.
    let second = "dont_appraise func=FILE_CHECK path=/denied\nmeasure\n";
    ensure!(load(&policy(&mount), second.as_bytes())? == Loaded::Whole, "the second load is refused");
    mount.refused(Door::Open, "denied", "denied-by-policy")?;
    ensure!(load(&policy(&mount), b"audit\n")? == Loaded::RefusedAt(1, Errno::NOSPC), "there is no limit");
    ensure!(rules(&mount)?.lines().count() == 4, "{}", rules(&mount)?);
    ensure!(updates(&mount, 3)? == ["completed", "completed", "failed"], "{:?}", updates(&mount, 3)?);
    Ok(())
}

#[test]
fn one_writes_at_a_time_and_only_root_may() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("setpriv"));
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.args(["--policy-loads", "many"]).start()?;
    let file = policy(&mount);
    let first = open_to_write(&file)?;
    ensure!(open_to_write(&file).err() == Some(Errno::BUSY), "two have it open");
    rules(&mount)?;
    let both = rustix::fs::open(&file, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    ensure!(both.err() == Some(Errno::ACCESS), "it opens for reading and writing");
    ensure!(rustix::io::write(&first, DENY.as_bytes()) == Ok(DENY.len()), "the first cannot write");
    drop(first);
    mount.refused(Door::Open, "denied", "denied-by-policy")?;
    let before = rules(&mount)?;
    for name in ["ima/policy", "keys/.ima", "mode", "ima/active"] {
        let mut user = Command::new("setpriv");
        user.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps=-all"]);
        user.args(["sh", "-c", "echo measure > \"$1\"", "sh"]).arg(mount.path(".imafs").join(name));
        let out = output(&mut user)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(!out.status.success() && said.contains("ermission denied"), "{name}: {said}");
    }
    ensure!(rules(&mount)? == before, "a user who is not root loaded a policy");
    Ok(())
}

#[test]
fn without_the_hosts_word_root_in_the_container_loads_nothing() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    for args in
        [&["--control", "rw"][..], &["--control", "ro"], &["--control", "rw", "--policy-owner", "host"]]
    {
        let mount = stand.mount()?.policy(HOST)?.args(args).start()?;
        let before = rules(&mount)?;
        ensure!(load(&policy(&mount), DENY.as_bytes())? == Loaded::NotOpened(Errno::ACCESS), "{args:?}");
        ensure!(rules(&mount)? == before, "{args:?}: the policy changed");
        ensure!(!mount.path(".imafs/keys/.ima").exists(), "{args:?}: the container has a ring");
    }
    let refused = stand.mount()?.policy(HOST)?.args(["--policy-owner", "container"]).start();
    ensure!(refused.is_err_and(|e| e.to_string().contains("--control rw")), "it mounts without --control rw");
    Ok(())
}

/// Shells open, duplicate and close before they have written anything, and hand the file to children.
#[test]
fn a_load_ends_with_the_last_descriptor_whoever_closes_it() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.args(["--policy-loads", "many"]).start()?;
    let before = rules(&mount)?;
    let script = r#"
        exec 3>"$1"
        echo "measure uid=1" >&3
        (echo "measure uid=2" >&3; (sleep 0.1; echo "measure uid=3" >&3) & wait)
        dd if=/dev/null of=/dev/null 2>/dev/null 3>&3
        test "$(grep -c uid= "$1")" = 0
        exec 3>&-
        test "$(grep -c uid= "$1")" = 3
    "#;
    succeed(Command::new("sh").args(["-euc", script, "sh"]).arg(policy(&mount)))?;
    ensure!(updates(&mount, 1)? == ["completed"], "{:?}", updates(&mount, 1)?);
    ensure!(
        rules(&mount)? == format!("{before}measure uid=1 \nmeasure uid=2 \nmeasure uid=3 \n"),
        "other rules"
    );
    // The part of one child voids that of another.
    let script = r#"exec 3>"$1"; echo "measure uid=4" >&3; (echo spoil >&3) 2>/dev/null || true; exec 3>&-"#;
    succeed(Command::new("sh").args(["-uc", script, "sh"]).arg(policy(&mount)))?;
    ensure!(updates(&mount, 2)? == ["completed", "failed"], "{:?}", updates(&mount, 2)?);
    Ok(())
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_policy_and_one_that_just_ends_does_not() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.args(["--policy-loads", "many"]).start()?;
    let before = rules(&mount)?;
    for number in 1..=10 {
        let script = r#"exec 3>"$1"; echo "measure uid=1" >&3; kill -9 $$"#;
        let out = output(Command::new("sh").args(["-euc", script, "sh"]).arg(policy(&mount)))?;
        ensure!(!out.status.success(), "it was not killed");
        ensure!(updates(&mount, number)?.len() == number, "the load has not ended");
        ensure!(rules(&mount)? == before, "half a policy is in force");
    }
    let script = r#"exec 3>"$1"; echo "measure uid=1" >&3; exit 0"#;
    succeed(Command::new("sh").args(["-euc", script, "sh"]).arg(policy(&mount)))?;
    // The kernel does not let a process wait for the files that its end closes.
    let came = until(Duration::from_secs(5), || Ok(rules(&mount)? == format!("{before}measure uid=1 \n")))?;
    ensure!(came, "{}", rules(&mount)?);
    ensure!(updates(&mount, 11)?.iter().filter(|cause| *cause == "failed").count() == 10, "other causes");
    Ok(())
}

/// A program being started closes what it is not to inherit while it holds locks that `/proc` waits for: whoever looked
/// at it there before answering would wait for ever.
#[test]
fn a_program_is_started_while_the_policy_is_open() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.start()?;
    let opened = open_to_write(&policy(&mount))?;
    ensure!(rustix::io::write(&opened, DENY.as_bytes()) == Ok(DENY.len()), "the line is refused");
    for _ in 0..20 {
        succeed(&mut Command::new("true"))?;
    }
    ensure!(!rules(&mount)?.contains("deny"), "it is in force before it is closed");
    drop(opened);
    mount.refused(Door::Open, "denied", "denied-by-policy")
}

#[test]
fn odd_ways_of_writing_are_answered_as_the_kernels_file_answers_them() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let mount = open_to_rules(&stand, HOST)?.args(["--policy-loads", "many"]).start()?;
    let file = policy(&mount);
    let before = rules(&mount)?;
    // A line is what one call brings: its pieces are no rules.
    ensure!(write_once(&file, b"m") == Err(Errno::INVAL), "a letter is a rule");
    ensure!(write_once(&file, b"measure func=FILE_CHECK\nspoil\n") == Ok(24), "more than a line is taken");
    ensure!(write_once(&file, b"measure uid=7\0spoil\n") == Ok(14), "a NUL does not end the text");
    ensure!(write_once(&file, b"measure uid=8") == Ok(13), "a line without its end is refused");
    let shown = "measure func=FILE_CHECK \nmeasure uid=7 \nmeasure uid=8 \n";
    ensure!(rules(&mount)? == format!("{before}{shown}"), "{}", rules(&mount)?);
    let before = rules(&mount)?;
    // Ten megabytes of one line.
    let long = vec![b'x'; 10 << 20];
    ensure!(write_once(&file, &long) == Err(Errno::INVAL), "a line without end is a rule");
    let comment = [b"#", long.as_slice()].concat();
    ensure!(write_once(&file, &comment) == Ok(4096), "more of a comment is looked at than a kernel does");
    let huge = format!("measure fsname={}\n", "x".repeat(4000));
    ensure!(write_once(&file, huge.as_bytes()).is_ok(), "a long line is refused");
    let path = format!("/{}\n", "x/".repeat(2000));
    ensure!(write_once(&file, path.as_bytes()).is_err_and(|e| e == Errno::NOENT), "a long path");
    // Offsets: at the beginning, or where the last call ended.
    let opened = open_to_write(&file)?;
    ensure!(rustix::io::pwrite(&opened, b"measure uid=9\n", 0) == Ok(14), "pwrite at 0");
    ensure!(rustix::io::write(&opened, b"measure uid=10\n") == Ok(15), "write after pwrite");
    ensure!(rustix::io::pwrite(&opened, b"measure uid=11\n", 3) == Err(Errno::INVAL), "pwrite at 3");
    drop(opened);
    ensure!(!rules(&mount)?.contains("uid=9"), "a load with a refused offset is in force");
    // Truncating and appending mean nothing.
    let script = r#"echo "measure uid=12" > "$1"; echo "measure uid=13" >> "$1"; : > "$1""#;
    succeed(Command::new("sh").args(["-euc", script, "sh"]).arg(&file))?;
    ensure!(rules(&mount)?.ends_with("measure uid=12 \nmeasure uid=13 \n"), "{}", rules(&mount)?);
    ensure!(rules(&mount)?.starts_with(&before), "rules have gone");
    // Neither do a mapping, a splice, or a truncation by path.
    let empty = std::fs::File::options().write(true).open(&file)?;
    ensure!(empty.set_len(0).is_ok() && empty.set_len(5).is_ok(), "ftruncate");
    drop(empty);
    let text = stand.scratch.file("rules", "measure uid=14\n")?;
    let source = std::fs::File::open(text)?;
    let sink = open_to_write(&file)?;
    let sent = rustix::fs::sendfile(&sink, &source, None, 4096);
    ensure!(sent == Ok(15), "sendfile: {sent:?}");
    drop(sink);
    ensure!(rules(&mount)?.ends_with("measure uid=14 \n"), "what was sent is not in force");
    Ok(())
}

#[test]
fn a_policy_is_read_from_a_file_of_the_mount_through_the_checks() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let host = format!("{HOST}measure func=POLICY_CHECK\n");
    stand.file("etc/good", format!("# mine\n{DENY}"), 0o600)?;
    stand.file("etc/bad", "measure\nspoil\n", 0o600)?;
    stand.file("etc/unended", "measure", 0o600)?;
    stand.file("etc/empty", "", 0o600)?;
    stand.file("etc/large", "#\n".repeat(600_000), 0o600)?;
    std::os::unix::fs::symlink("../etc/good", stand.source("etc/link"))?;
    std::os::unix::fs::symlink("/etc/loop", stand.source("etc/loop"))?;
    let mount = open_to_rules(&stand, &host)?.args(["--policy-loads", "many"]).start()?;
    let file = policy(&mount);
    let count = || mount.control_number("ima/runtime_measurements_count");
    for (path, errno) in [
        ("/etc/bad", Errno::INVAL),
        ("/etc/unended", Errno::INVAL),
        ("/etc/empty", Errno::INVAL),
        ("/etc", Errno::INVAL),
        ("/", Errno::INVAL),
        ("/.imafs/ima/policy", Errno::INVAL),
        ("/etc/none", Errno::NOENT),
        ("/etc/good/x", Errno::NOTDIR),
        ("/etc/loop", Errno::LOOP),
        ("/etc/large", Errno::FBIG),
        ("/../../../../../../etc/hostname-of-the-host", Errno::NOENT),
    ] {
        let answer = write_once(&file, format!("{path}\n").as_bytes());
        ensure!(answer == Err(errno), "{path}: {answer:?}");
    }
    mount.allowed(Door::Open, "denied")?;
    let before = count()?;
    ensure!(write_once(&file, b"/../etc/./link\n") == Ok(15), "a good file is refused");
    mount.refused(Door::Open, "denied", "denied-by-policy")?;
    ensure!(count()? == before + 1, "the policy was not measured");
    ensure!(mount.measurements()?.contains(" /etc/good"), "it is not in the list by its name");
    Ok(())
}

#[test]
fn where_the_host_wants_signed_policies_only_those_are_loaded() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    let host = format!("{HOST}appraise func=POLICY_CHECK appraise_type=imasig\n");
    stand.file("signed", DENY, 0o600)?;
    stand.sign("signed")?;
    stand.file("unsigned", DENY, 0o600)?;
    stand.file("tampered", DENY, 0o600)?;
    stand.sign("tampered")?;
    std::fs::write(stand.source("tampered"), "dont_appraise\n")?;
    let mount = open_to_rules(&stand, &host)?.start()?;
    let file = policy(&mount);
    ensure!(write_once(&file, DENY.as_bytes()) == Err(Errno::ACCESS), "a line is taken");
    ensure!(write_once(&file, b"/unsigned\n") == Err(Errno::ACCESS), "an unsigned file is taken");
    ensure!(write_once(&file, b"/tampered\n") == Err(Errno::ACCESS), "a tampered file is taken");
    ensure!(errno_of(&mount, "denied").is_none(), "one of them is in force");
    ensure!(write_once(&file, b"/signed\n") == Ok(8), "a signed file is refused");
    mount.refused(Door::Open, "denied", "denied-by-policy")?;
    let start = mount.records().beginning();
    let causes = mount.records().since(start, 7, |record| record.text("res") == "0")?;
    let causes: Vec<String> = causes.iter().map(|record| record.text("cause")).collect();
    for cause in ["signed policy required", "IMA-signature-required", "invalid-signature"] {
        ensure!(causes.iter().any(|found| found == cause), "{cause} is not among {causes:?}");
    }
    Ok(())
}

/// Opens of a file that both the old and the new rules deny, while new rules come a hundred times over.
#[test]
fn no_open_slips_through_while_rules_are_replaced() -> Result<()> {
    need!();
    let _alone = alone();
    const LOADS: usize = 300;
    let stand = Stand::new()?;
    stand.file("hashed", "content\n", 0o644)?;
    stand.hash("hashed")?;
    let mount = open_to_rules(&stand, HOST)?.args(["--policy-loads", "many"]).start()?;
    ensure!(load(&policy(&mount), DENY.as_bytes())? == Loaded::Whole, "the first load is refused");
    let (done, denied, served) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let open_always = || -> Result<()> {
        while !done.load(Ordering::Relaxed) {
            ensure!(errno_of(&mount, "denied") == Some(Errno::ACCESS), "the denied file was served");
            denied.fetch_add(1, Ordering::Relaxed);
            for name in ["free", "hashed", "measured"] {
                ensure!(errno_of(&mount, name).is_none(), "{name} was refused");
            }
            served.fetch_add(3, Ordering::Relaxed);
        }
        Ok(())
    };
    let load_always = || -> Result<()> {
        for number in 0..LOADS {
            let text = format!(
                "measure func=FILE_CHECK uid={number}\nappraise func=FILE_CHECK path=/hashed uid={number}\n"
            );
            let loaded = load(&policy(&mount), text.as_bytes())?;
            ensure!(loaded == Loaded::Whole, "load {number}: {loaded:?}");
            if number == LOADS / 2 {
                succeed(
                    Command::new("sh")
                        .args(["-ec", "echo enforce > \"$1\"", "sh"])
                        .arg(mount.path(".imafs/mode")),
                )?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..3).map(|_| scope.spawn(open_always)).collect();
        let loads = load_always();
        done.store(true, Ordering::Relaxed);
        openers.into_iter().try_for_each(|opener| match opener.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        })?;
        loads
    })?;
    let (denied, served) = (denied.into_inner(), served.into_inner());
    eprintln!("{LOADS} loads, {denied} opens denied, {served} served");
    ensure!(denied > 0 && served > 0, "nobody opened anything meanwhile");
    ensure!(rules(&mount)?.lines().count() == 2 + 2 * LOADS, "rules are missing");
    Ok(())
}
