//! The tamper table: what an attacker does to a file, and that imafs then refuses it.
//!
//! Every case is shut with `EACCES` and leaves exactly one audit record with the right cause, and stands beside a
//! sibling that was left alone and opens. Cases tamper before the mount, or, where the point is that imafs notices
//! while it runs, beneath a mount with `--cache shared`, or through the mount itself.

use anyhow::{Context, Result, ensure};
use integration::stand::{flip, label, remove_label, set_label};
use integration::{Door, Mount, Stand, need, python};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";
/// Every access of every file needs a label of any kind.
const ALL_LABELLED: &str = "appraise\n";
/// Reading needs a signature; writing is not looked at.
const READ_SIGNED: &str = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";
/// Running and mapping need a signature; reading and writing are not looked at.
const RUN_SIGNED: &str =
    "appraise func=BPRM_CHECK appraise_type=imasig\nappraise func=MMAP_CHECK appraise_type=imasig\n";

const TEXT: &str = "all is well\n";

/// A stand with signed files `good` and `bad`, alike but for a line.
fn two_signed_files() -> Result<Stand> {
    let stand = Stand::new()?;
    for name in ["good", "bad"] {
        stand.file(name, format!("{TEXT}{name}\n"), 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

/// Mounts, and asserts that `good` opens and `bad` is refused with `cause`.
fn good_opens_bad_does_not(stand: &Stand, policy: &str, cause: &str) -> Result<()> {
    let mount = stand.mount()?.policy(policy)?.start()?;
    mount.allowed(Door::Open, "good")?;
    mount.refused(Door::Open, "bad", cause)
}

/// Runs a program inside the mount under chroot; its exit status and standard error.
fn chroot(mount: &Mount, program: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("chroot");
    command.arg(mount.target()).args(program).env("LC_ALL", "C").env_remove("LD_PRELOAD");
    let out = integration::process::output(&mut command)?;
    Ok((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

#[test]
fn one_changed_byte_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    flip(&stand.source("bad"), 3)?;
    good_opens_bad_does_not(&stand, ALL_SIGNED, "invalid-signature")
}

#[test]
fn one_changed_byte_of_a_hash_labelled_file_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("good", TEXT, 0o644)?;
    stand.file("bad", TEXT, 0o644)?;
    stand.hash(".")?;
    flip(&stand.source("bad"), 3)?;
    good_opens_bad_does_not(&stand, ALL_LABELLED, "invalid-hash")
}

#[test]
fn one_changed_byte_beneath_a_shared_mount_is_noticed_at_the_next_open() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.args(["--cache", "shared"]).start()?;
    mount.allowed(Door::Open, "bad")?;
    flip(&stand.source("bad"), 3)?;
    mount.refused(Door::Open, "bad", "invalid-signature")?;
    flip(&stand.source("bad"), 3)?;
    mount.allowed(Door::Open, "bad")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn one_changed_byte_with_size_and_times_put_back_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.args(["--cache", "shared"]).start()?;
    mount.allowed(Door::Open, "bad")?;
    let path = stand.source("bad");
    let before = path.metadata()?;
    flip(&path, 3)?;
    let times = std::fs::FileTimes::new().set_modified(before.modified()?).set_accessed(before.accessed()?);
    File::options().write(true).open(&path)?.set_times(times)?;
    let after = path.metadata()?;
    ensure!(
        before.len() == after.len() && before.mtime_nsec() == after.mtime_nsec(),
        "the times were not put back"
    );
    mount.refused(Door::Open, "bad", "invalid-signature")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_file_whose_label_was_removed_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    remove_label(&stand.source("bad"))?;
    good_opens_bad_does_not(&stand, ALL_SIGNED, "IMA-signature-required")
}

#[test]
fn a_file_without_a_label_is_refused_where_a_hash_would_do() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    remove_label(&stand.source("bad"))?;
    good_opens_bad_does_not(&stand, ALL_LABELLED, "missing-hash")
}

#[test]
fn a_label_removed_through_the_mount_is_noticed() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    mount.allowed(Door::Open, "bad")?;
    remove_label(&mount.path("bad"))?;
    mount.refused(Door::Open, "bad", "IMA-signature-required")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn the_label_of_another_file_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    set_label(&stand.source("bad"), &label(&stand.source("good"))?)?;
    good_opens_bad_does_not(&stand, ALL_SIGNED, "invalid-signature")
}

#[test]
fn a_signature_of_an_untrusted_key_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.stranger()?.sign(&stand.source("bad"))?;
    good_opens_bad_does_not(&stand, ALL_SIGNED, "invalid-signature")
}

#[test]
fn a_hash_is_refused_where_a_signature_is_asked() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.hash("bad")?;
    good_opens_bad_does_not(&stand, ALL_SIGNED, "IMA-signature-required")?;
    // The same label does where the rule asks for any.
    let mount = stand.mount()?.policy(ALL_LABELLED)?.start()?;
    mount.allowed(Door::Open, "bad")
}

#[test]
fn every_truncation_of_a_signature_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let whole = label(&stand.source("good"))?;
    // A cut is not a sweep of the parser, which has its own: one in each field and at each border is enough here.
    let cuts = [1, 2, 3, 6, 7, 8, 9, 10, whole.len() / 2, whole.len() - 1];
    for cut in cuts {
        let name = format!("cut-{cut}");
        stand.file(&name, format!("{TEXT}good\n"), 0o644)?;
        set_label(&stand.source(&name), &whole[..cut])?;
    }
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    mount.allowed(Door::Open, "good")?;
    for cut in cuts {
        mount.refused(Door::Open, &format!("cut-{cut}"), "invalid-signature")?;
    }
    Ok(())
}

#[test]
fn a_truncated_hash_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    for name in ["good", "bad"] {
        stand.file(name, TEXT, 0o644)?;
    }
    stand.hash(".")?;
    let whole = label(&stand.source("bad"))?;
    set_label(&stand.source("bad"), &whole[..whole.len() - 1])?;
    good_opens_bad_does_not(&stand, ALL_LABELLED, "invalid-hash")
}

#[test]
fn a_label_of_no_known_kind_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    set_label(&stand.source("bad"), &[0x02, 4, 5, 6])?;
    good_opens_bad_does_not(&stand, ALL_LABELLED, "unknown-ima-data")
}

#[test]
fn an_unsigned_program_copied_in_is_refused_and_runs_once_signed() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.host_file("good", "/bin/true")?;
    stand.sign(".")?;
    let mount = stand.mount()?.policy(RUN_SIGNED)?.args(["--cache", "shared"]).start()?;
    mount.allowed(Door::Exec, "good")?;
    std::fs::copy("/bin/true", mount.path("bad")).context("cannot copy a program in")?;
    mount.refused(Door::Exec, "bad", "IMA-signature-required")?;
    stand.sign("bad")?;
    mount.allowed(Door::Exec, "bad")
}

#[test]
fn a_signed_script_with_a_tampered_interpreter_is_refused() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let builder = stand.mount()?.policy(RUN_SIGNED)?;
    for name in ["good", "bad"] {
        stand.host_file(&format!("{name}-sh"), "/bin/dash")?;
        let line = format!("#!{}/{name}-sh\nexit 0\n", builder.target().display());
        stand.file(&format!("{name}-script"), line, 0o755)?;
    }
    stand.sign(".")?;
    let size = stand.source("bad-sh").metadata()?.len();
    flip(&stand.source("bad-sh"), size - 1)?;
    let mount = builder.start()?;
    mount.allowed(Door::Exec, "good-script")?;
    let mark = mount.mark()?;
    let errno = Command::new(mount.path("bad-script")).status().err().and_then(|e| e.raw_os_error());
    ensure!(errno == Some(rustix::io::Errno::ACCESS.raw_os_error()), "the script says {errno:?}");
    mount.records().one_refusal(mark, "invalid-signature", "/bad-sh")?;
    Ok(())
}

#[test]
fn a_swapped_library_stops_a_signed_program() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.host_program("/bin/ls")?;
    stand.host_program("/bin/true")?;
    stand.sign(".")?;
    let library = "lib/x86_64-linux-gnu/libselinux.so.1";
    let evil = stand.host_file("evil.so", "/lib/x86_64-linux-gnu/libm.so.6")?;
    std::fs::rename(evil, stand.source(library)).context("cannot swap the library")?;
    let mount = stand.mount()?.policy(RUN_SIGNED)?.start()?;
    ensure!(
        chroot(&mount, &["/bin/true"])?.0 == Some(0),
        "a program that does not need the library has to run"
    );
    let mark = mount.mark()?;
    let (status, words) = chroot(&mount, &["/bin/ls", "/"])?;
    ensure!(status == Some(127) && words.contains("libselinux.so.1"), "ls ended with {status:?}: {words}");
    mount.records().one_refusal(mark, "IMA-signature-required", &format!("/{library}"))?;
    Ok(())
}

#[test]
fn a_tampered_program_loader_stops_every_program() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.host_program("/bin/true")?;
    stand.sign(".")?;
    let mount = stand.mount()?.policy(RUN_SIGNED)?.args(["--cache", "shared"]).start()?;
    ensure!(chroot(&mount, &["/bin/true"])?.0 == Some(0), "the untouched program has to run");
    let loader = integration::door::LINKER.trim_start_matches('/');
    flip(&stand.source(loader), stand.source(loader).metadata()?.len() - 1)?;
    let mark = mount.mark()?;
    let (status, words) = chroot(&mount, &["/bin/true"])?;
    ensure!(
        status == Some(126) && words.contains("Permission denied"),
        "true ended with {status:?}: {words}"
    );
    mount.records().one_refusal(mark, "invalid-signature", integration::door::LINKER)?;
    Ok(())
}

#[test]
fn a_file_changed_through_one_hard_link_is_refused_by_the_other() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    std::fs::hard_link(stand.source("bad"), stand.source("other"))?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::Open, "bad")?;
    mount.allowed(Door::Open, "other")?;
    let writer = File::options().write(true).open(mount.path("other")).context("cannot open to write")?;
    writer.write_all_at(b"A", 0).context("cannot write")?;
    drop(writer);
    mount.refused(Door::Open, "bad", "invalid-signature")?;
    mount.refused(Door::Open, "other", "invalid-signature")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_file_renamed_over_a_signed_one_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.file("unsigned", TEXT, 0o644)?;
    stand.file("signed", TEXT, 0o644)?;
    stand.sign("signed")?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::Open, "bad")?;
    mount.allowed(Door::Open, "good")?;
    std::fs::rename(mount.path("unsigned"), mount.path("bad"))?;
    std::fs::rename(mount.path("signed"), mount.path("good"))?;
    mount.refused(Door::Open, "bad", "IMA-signature-required")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_file_renamed_over_beneath_a_shared_mount_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.file("unsigned", TEXT, 0o644)?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.args(["--cache", "shared"]).start()?;
    mount.allowed(Door::Open, "bad")?;
    std::fs::rename(stand.source("unsigned"), stand.source("bad"))?;
    mount.refused(Door::Open, "bad", "IMA-signature-required")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_writer_that_keeps_the_file_open_hides_nothing() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::Open, "bad")?;
    let mut writer = File::options().write(true).open(mount.path("bad")).context("cannot open to write")?;
    // The content is good, but could be changed as soon as it has been looked at.
    mount.refused(Door::Open, "bad", "open_writers")?;
    writer.write_all(b"A").context("cannot write")?;
    mount.refused(Door::Open, "bad", "invalid-signature")?;
    writer.write_all_at(&TEXT.as_bytes()[..1], 0).context("cannot write")?;
    drop(writer);
    mount.allowed(Door::Open, "bad")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn signed_content_that_somebody_reads_is_not_written() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    let reader = File::open(mount.path("good"))?;
    let write = || File::options().write(true).open(mount.path("good"));
    let mark = mount.mark()?;
    let refusal = write().err().as_ref().and_then(Errno::from_io_error);
    ensure!(refusal == Some(Errno::ACCESS), "a writer was answered with {refusal:?}");
    mount.records().one_refusal(mark, "signed-file-immutable", "/good")?;
    drop(reader);
    write().context("nobody reads it any more")?;
    Ok(())
}

/// A page that is already dirty takes further stores without any sign to the filesystem: no time moves. So while a
/// writable mapping lives, a verdict must not be remembered.
#[test]
fn a_writer_that_stores_through_a_map_hides_nothing() -> Result<()> {
    need!();
    const STORE_TWICE: &str = r#"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 0)
os.close(fd)
good = m[0:1]

def seen():
    try:
        os.close(os.open(sys.argv[1], os.O_RDONLY))
        return "open"
    except PermissionError:
        return "shut"

m[0:1] = b"A"
m[0:1] = good
first = seen()
m[0:1] = b"A"
second = seen()
m[0:1] = good
m.close()
print(first, second, seen())
"#;
    let stand = two_signed_files()?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::Open, "bad")?;
    let mark = mount.mark()?;
    let path = mount.path("bad");
    let said = python::script(mount.target(), STORE_TWICE, &[path.to_str().context("path is not text")?])?;
    ensure!(said.trim() == "shut shut open", "the good byte, the bad one, no map any more: {said}");
    let refusals = mount.records().since(mark, 2, integration::Record::is_refusal)?;
    let causes: Vec<_> = refusals.iter().map(|record| record.text("cause")).collect();
    // Python's map keeps a descriptor of its own open.
    ensure!(causes == ["open_writers", "invalid-signature"], "{causes:?}");
    mount.allowed(Door::Open, "good")
}

#[test]
fn mapping_a_tampered_file_is_refused() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    flip(&stand.source("bad"), 3)?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    mount.allowed(Door::Mmap, "good")?;
    mount.refused(Door::Mmap, "bad", "invalid-signature")
}
