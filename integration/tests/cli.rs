//! The command line: what it refuses, in one line that says what to do, and what it promises.

use anyhow::{Context, Result, ensure};
use integration::process::{ours, output, until};
use integration::scratch::{is_fuse_mount, mounts_below};
use integration::{Door, Need, Scratch, Stand, need};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Asserts a usage or environment error: status 2, nothing on standard output, and on standard error a line
/// `imafs: ...` with all of `words`, and then at least one more that says what to do. Nothing stays mounted.
fn refuses(command: &mut Command, target: &Path, words: &[&str]) -> Result<()> {
    let Output { status, stdout, stderr } = output(command)?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(status.code() == Some(2), "ended with {status}, not 2: {stderr}");
    ensure!(stdout.is_empty(), "wrote to standard output: {}", String::from_utf8_lossy(&stdout));
    let says = |line: &str| line.starts_with("imafs: ") && words.iter().all(|word| line.contains(word));
    let error = stderr.lines().position(says).with_context(|| format!("no line says {words:?}: {stderr}"))?;
    ensure!(!stderr.contains("panicked"), "a panic: {stderr}");
    ensure!(stderr.lines().count() > error + 1, "the error does not say what to do next: {stderr}");
    ensure!(mounts_below(target).is_empty(), "something is mounted all the same");
    Ok(())
}

#[test]
fn a_source_that_is_gone_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let mut command = builder.command()?;
    std::fs::remove_dir(stand.tree())?;
    let source = stand.tree().to_string_lossy().into_owned();
    refuses(&mut command, &builder.target(), &[&source, "no such directory"])
}

#[test]
fn a_source_that_is_a_file_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let mut command = builder.command()?;
    std::fs::remove_dir(stand.tree())?;
    std::fs::write(stand.tree(), "a file")?;
    let source = stand.tree().to_string_lossy().into_owned();
    refuses(&mut command, &builder.target(), &[&source, "ot a directory"])
}

#[test]
fn a_target_that_is_gone_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    std::fs::remove_dir(builder.target())?;
    let target = builder.target().to_string_lossy().into_owned();
    refuses(&mut builder.command()?, &builder.target(), &[&target, "no such directory"])
}

#[test]
fn a_target_with_imafs_on_it_already_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let mut second = Command::new(ours("imafs")?);
    second.env("IMAFS_RUN_DIR", builder.run_dir()).arg("mount").arg(stand.tree()).arg(builder.target());
    let mount = builder.start()?;
    let Output { status, stderr, .. } = output(&mut second)?;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.code() == Some(2), "ended with {status}: {stderr}");
    let target = mount.target().to_string_lossy().into_owned();
    ensure!(
        stderr.starts_with("imafs: ") && stderr.contains(&target),
        "the error does not name it: {stderr}"
    );
    ensure!(mounts_below(mount.target()).len() == 1, "mounted twice: {:?}", mounts_below(mount.target()));
    Ok(())
}

#[test]
fn an_ordinary_user_is_told_to_be_root() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("setpriv"));
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let inner = builder.command()?;
    // The programs may lie where an ordinary user may not look.
    let program = stand.scratch.path().join("imafs");
    std::fs::copy(inner.get_program(), &program)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(inner.get_args());
    command.env("IMAFS_RUN_DIR", builder.run_dir());
    refuses(&mut command, &builder.target(), &["root"])
}

#[test]
fn a_machine_without_dev_fuse_is_refused() -> Result<()> {
    need!(Need::Root, Need::Program("unshare"));
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let inner = builder.command()?;
    // An empty tmpfs over /dev, in a mount namespace of its own; only /dev/null is put back.
    let script = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).env("IMAFS_RUN_DIR", builder.run_dir());
    refuses(&mut command, &builder.target(), &["/dev/fuse"])
}

#[test]
fn a_policy_with_a_mistake_is_refused_with_its_line() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.policy("# fine\nmeasure\nmeasure func=NO_SUCH_CHECK\n")?;
    refuses(&mut builder.command()?, &builder.target(), &["3"])
}

#[test]
fn a_policy_of_no_known_name_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.named_policy("no-such-policy");
    refuses(&mut builder.command()?, &builder.target(), &["no-such-policy"])
}

#[test]
fn a_key_that_is_no_certificate_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let key = stand.scratch.file("nonsense.pem", "no certificate\n")?;
    let builder = stand.mount()?.trust(&key);
    refuses(&mut builder.command()?, &builder.target(), &["nonsense.pem"])
}

#[test]
fn an_unknown_option_is_refused() -> Result<()> {
    need!(Need::Root);
    let out = output(Command::new(ours("imafs")?).args(["mount", "--no-such-option"]))?;
    ensure!(out.status.code() == Some(2), "ended with {}", out.status);
    Ok(())
}

#[test]
fn unmounting_what_is_not_mounted_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let target = stand.scratch.dir("nothing")?;
    let mut command = Command::new(ours("imafs")?);
    command.arg("umount").arg(&target).env("IMAFS_RUN_DIR", stand.scratch.dir("run")?);
    let Output { status, stderr, .. } = output(&mut command)?;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.code().is_some_and(|code| code == 1 || code == 2), "ended with {status}: {stderr}");
    ensure!(stderr.starts_with("imafs: "), "no error line: {stderr}");
    Ok(())
}

/// Runs one of the checkers on a file: its status, and what it wrote to standard error.
fn check(what: &str, path: &Path) -> Result<(Option<i32>, String)> {
    let out = output(Command::new(ours("imafs")?).args([what, "check"]).arg(path))?;
    Ok((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

#[test]
fn the_policy_checker_says_yes_no_and_where() -> Result<()> {
    let scratch = Scratch::new()?;
    let good = scratch.file("good", "# comment\nmeasure func=BPRM_CHECK\n")?;
    let bad = scratch.file("bad", "measure func=BPRM_CHECK\nappraise fowner=abc\n")?;
    let (status, words) = check("policy", &good)?;
    ensure!(status == Some(0), "a good policy gives {status:?}: {words}");
    let (status, words) = check("policy", &bad)?;
    ensure!(status == Some(1), "a bad policy gives {status:?}: {words}");
    ensure!(words.contains('2') && words.contains("fowner=abc"), "the error does not say where: {words}");
    ensure!(check("policy", &scratch.path().join("none"))?.0 == Some(2), "a missing policy is not status 2");
    Ok(())
}

#[test]
fn a_profile_with_an_unknown_key_is_refused_with_its_line() -> Result<()> {
    let scratch = Scratch::new()?;
    let good = scratch.file("good.yaml", "policy: exec\nhash: sha256\n")?;
    let bad = scratch.file("bad.yaml", "policy: exec\nno-such-key: 1\n")?;
    let (status, words) = check("profile", &good)?;
    ensure!(status == Some(0), "a good profile gives {status:?}: {words}");
    let (status, words) = check("profile", &bad)?;
    ensure!(status == Some(1), "a bad profile gives {status:?}: {words}");
    ensure!(words.contains("no-such-key") && words.contains('2'), "the error does not say where: {words}");
    Ok(())
}

#[test]
fn the_command_line_wins_over_the_profile() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("unlabelled", "content\n", 0o644)?;
    let profile = stand.scratch.file("profile.yaml", "appraise: log\n")?;
    let by_profile = stand.mount()?.policy("appraise\n")?.arg("--profile").arg(&profile).start()?;
    std::fs::read(by_profile.path("unlabelled")).context("the profile's log mode denies")?;
    drop(by_profile);
    let builder = stand.mount()?.policy("appraise\n")?.arg("--profile").arg(&profile);
    let by_option = builder.args(["--appraise", "enforce"]).start()?;
    by_option.refused(Door::Open, "unlabelled", "missing-hash")
}

#[test]
fn the_mount_without_a_policy_says_which_it_took() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?;
    let (target, run_dir) = (builder.target(), builder.run_dir());
    let out = output(&mut builder.command()?)?;
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let mut umount = Command::new(ours("imafs")?);
    let unmounted = output(umount.arg("umount").arg(&target).env("IMAFS_RUN_DIR", run_dir))?;
    ensure!(out.status.success() && unmounted.status.success(), "could not mount and unmount: {words}");
    ensure!(words.contains("measure"), "the mount does not name its policy: {words}");
    ensure!(until(Duration::from_secs(5), || Ok(!is_fuse_mount(&target)))?, "still mounted");
    Ok(())
}

#[test]
fn rules_that_cannot_fire_are_named_when_the_mount_is_made() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.policy("measure func=BPRM_CHECK\nmeasure func=MODULE_CHECK\n")?;
    let (target, run_dir) = (builder.target(), builder.run_dir());
    let out = output(&mut builder.command()?)?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    let mut umount = Command::new(ours("imafs")?);
    let unmounted = output(umount.arg("umount").arg(&target).env("IMAFS_RUN_DIR", run_dir))?;
    ensure!(out.status.success() && unmounted.status.success(), "could not mount and unmount: {words}");
    let warned = "policy line 2: the rule never matches: MODULE_CHECK does not happen in a container";
    ensure!(words.contains(warned) && !words.contains("policy line 1"), "the mount says: {words}");
    ensure!(until(Duration::from_secs(5), || Ok(!is_fuse_mount(&target)))?, "still mounted");
    Ok(())
}

#[test]
fn labels_of_a_security_module_and_too_many_rules_are_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.policy("measure\nappraise obj_type=bin_t\n")?;
    refuses(&mut builder.command()?, &builder.target(), &["line 2, column 10", "Linux security module"])?;
    let builder = stand.mount()?.policy("measure\naudit\nhash\n")?.args(["--max-rules", "2"]);
    refuses(&mut builder.command()?, &builder.target(), &["line 3, column 1", "more than 2 rules"])
}

#[test]
fn the_policy_explains_itself_or_says_what_it_has_to_know() -> Result<()> {
    let scratch = Scratch::new()?;
    let digest = "0".repeat(64);
    let text =
        format!("dont_measure fowner=7\nmeasure\nappraise digest=sha256:{digest} appraise_type=deny\n");
    let policy = scratch.file("policy", &text)?;
    let explain = |words: &str| -> Result<(Option<i32>, String)> {
        let mut command = Command::new(ours("imafs")?);
        command.args(["policy", "explain"]).arg(&policy).args(["--path", "/no/file"]).args(words.split(' '));
        let Output { status, stdout, stderr } = output(&mut command)?;
        Ok((status.code(), String::from_utf8([stdout, stderr].concat())?))
    };
    let (status, words) = explain("--uid 5 --fowner 7")?;
    ensure!(status == Some(2) && words.contains("add --digest sha256:HEX"), "{status:?}: {words}");
    let (status, words) = explain(&format!("--fowner 7 --digest sha256:{digest}"))?;
    ensure!(status == Some(0) && words.contains("measure: no, by line 1: dont_measure fowner=7"), "{words}");
    let (status, words) = explain(&format!("--fowner 8 --json --digest sha256:{}", "1".repeat(64)))?;
    let answer: serde_json::Value = serde_json::from_str(&words)?;
    ensure!(status == Some(0) && answer["classes"][0]["rule"]["line"] == 2, "{words}");
    ensure!(answer["classes"][1]["verdict"] == "none-matches", "{words}");
    Ok(())
}

#[test]
fn a_log_that_cannot_be_opened_is_refused_before_anything_is_mounted() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.args(["--log", "/nonexistent/directory/log"]);
    refuses(&mut builder.command()?, &builder.target(), &["cannot open log /nonexistent/directory/log"])
}

#[test]
fn ps_does_not_claim_that_nothing_runs_when_it_cannot_look() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let file = scratch.file("mounts", "not a directory")?;
    let run_dir = file.parent().context("a directory")?;
    let out = output(Command::new(ours("imafs")?).env("IMAFS_RUN_DIR", run_dir).arg("ps"))?;
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && out.stdout.is_empty(), "{:?} {errors}", out.status);
    ensure!(errors.starts_with("imafs: cannot list the mounts: not a directory\n  "), "{errors}");
    let none = scratch.path().join("none");
    let out = output(Command::new(ours("imafs")?).env("IMAFS_RUN_DIR", none).arg("ps"))?;
    ensure!(out.status.success() && out.stderr.is_empty(), "without a directory nothing runs");
    Ok(())
}

#[test]
fn the_profile_checker_looks_at_the_certificates_that_are_here() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("bad.pem", "no certificate")?;
    let bad = scratch.file("bad.yaml", "policy: exec\nkey: bad.pem\n")?;
    let (code, text) = check("profile", &bad)?;
    ensure!(code == Some(1) && text.contains("bad.pem: malformed certificate"), "{code:?} {text}");
    let elsewhere = scratch.file("elsewhere.yaml", "policy: exec\nkey: missing.pem\n")?;
    let (code, text) = check("profile", &elsewhere)?;
    ensure!(code == Some(0) && text.contains("missing.pem is not on this host"), "{code:?} {text}");
    Ok(())
}
