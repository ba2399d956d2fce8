//! The command line: what each verb does, refuses and says, and its exit status.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Scratch, clear_label, have, label, run, set_label};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A P-256 key and certificate by keygen: their paths.
fn keygen(scratch: &Scratch, name: &str) -> (String, String) {
    let key = text(&scratch.path().join(format!("{name}.key")));
    let certificate = text(&scratch.path().join(format!("{name}.pem")));
    let (status, _, errors) =
        run(&["keygen", "--type", "p256", "--subject", name, "--out-key", &key, "--out-cert", &certificate]);
    assert_eq!((status, errors.as_str()), (0, ""));
    (key, certificate)
}

/// A tree with one of each kind of file.
fn tree(scratch: &Scratch) -> PathBuf {
    let tool = scratch.file("tree/bin/tool", "#!/bin/sh\n");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    scratch.file("tree/lib/library.so", "\x7fELF and more");
    scratch.file("tree/etc/config", "a = b\n");
    scratch.file("tree/etc/empty", "");
    std::fs::hard_link(&tool, scratch.path().join("tree/bin/tool2")).unwrap();
    symlink("tool", scratch.path().join("tree/bin/link")).unwrap();
    symlink("/etc", scratch.path().join("tree/outside")).unwrap();
    scratch.path().join("tree")
}

#[test]
fn keygen_protects_keys_and_never_overwrites() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "one");
    let before = std::fs::read(&key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
    assert!(before.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));

    let other = text(&scratch.path().join("other"));
    for (out_key, out_cert) in [(&key, &other), (&other, &certificate)] {
        let (status, _, errors) = run(&["keygen", "--out-key", out_key, "--out-cert", out_cert]);
        assert_eq!(status, 2);
        assert!(errors.contains("exists already and is not overwritten\n  name another"), "{errors}");
    }
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert!(!Path::new(&other).exists(), "nothing is left of the attempts");

    let nowhere = text(&scratch.path().join("missing/cert.pem"));
    let (status, _, errors) = run(&["keygen", "--type", "p256", "--out-key", &other, "--out-cert", &nowhere]);
    assert_eq!(status, 2);
    assert!(errors.ends_with("missing/cert.pem: no such file or directory\n"), "{errors}");
    assert!(!Path::new(&other).exists(), "a key without its certificate does not remain");
}

#[test]
fn keygen_refuses_what_makes_no_sense() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "leaf");
    let out = ["--out-key", "/nonexistent/k", "--out-cert", "/nonexistent/c"];
    let refused = |args: &[&str]| {
        let (status, _, errors) = run(&[&["keygen"], args, &out].concat());
        assert_eq!(status, 2, "{args:?}");
        errors
    };
    assert!(refused(&["--bits", "1024"]).contains("2048, 3072 or 4096"));
    assert!(refused(&["--type", "p256", "--bits", "2048"]).contains("does not go with"));
    assert!(refused(&["--subject", "XX=y"]).contains("cannot understand the subject"));
    assert!(refused(&["--ca-key", &key]).contains("--ca-cert"));
    let errors = refused(&["--ca-key", &key, "--ca-cert", &certificate]);
    assert!(
        errors.contains("the issuing certificate is not a CA") && errors.contains("keygen --ca"),
        "{errors}"
    );
}

#[test]
fn signing_a_tree_says_what_it_did_and_skipped() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "k");
    let tree = text(&tree(&scratch));
    let sign = ["sign", "--key", &key, "--cert", &certificate, &tree];

    let (status, lines, errors) = run(&[&sign[..], &["--dry-run"]].concat());
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(lines.starts_with("would sign 4 files (sha256, key "), "{lines}");
    assert_eq!(run(&["verify", "--cert", &certificate, &tree]).0, 1, "a dry run writes nothing");

    let (status, lines, _) = run(&sign);
    assert_eq!(status, 0);
    assert!(lines.starts_with("signed 4 files (sha256, key "), "{lines}");
    assert!(lines.ends_with("skipped 3: 2 symbolic links, 1 hard links to files already done\n"), "{lines}");
    assert!(label(Path::new("/etc/hostname")).is_none_or(|l| l.first() != Some(&3)), "a link was followed");

    let (status, lines, _) = run(&["verify", "--cert", &certificate, &tree]);
    assert_eq!((status, lines.lines().next()), (0, Some("verified 4 files")));

    let (_, lines, _) = run(&sign);
    assert!(lines.starts_with("signed 0 files") && lines.contains("4 already labelled so"), "{lines}");
    let (_, lines, _) = run(&[&sign[..], &["--force"]].concat());
    assert!(lines.starts_with("signed 4 files"), "{lines}");
}

/// A tmpfs that is unmounted again whatever the test does.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let outcome = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        assert!(outcome.is_ok() || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

#[test]
fn other_filesystems_are_left_alone_unless_asked_for() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, _) = keygen(&scratch, "k");
    scratch.file("t/here", "hello\n");
    let mounted = scratch.path().join("t/mounted");
    std::fs::create_dir(&mounted).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(errno) = rustix::mount::mount("none", &mounted, "tmpfs", flags, None) {
        assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
        eprintln!("skipped: cannot mount a tmpfs: {errno}");
        return;
    }
    let guard = Tmpfs(mounted);
    let there = scratch.file("t/mounted/sub/there", "hello\n");
    let tree = text(&scratch.path().join("t"));
    let (status, lines, _) = run(&["sign", "-k", &key, &tree]);
    assert_eq!(status, 0);
    assert!(lines.starts_with("signed 1 file ("), "{lines}");
    assert!(lines.ends_with("skipped 1: 1 directories on other filesystems\n"), "{lines}");
    assert_eq!(label(&there), None);
    let (_, lines, _) = run(&["sign", "-k", &key, "--cross-filesystems", &tree]);
    assert!(lines.starts_with("signed 1 file ("), "{lines}");
    assert!(label(&there).is_some());
    drop(guard);
}

#[test]
fn executables_are_those_with_the_bit_or_the_magic() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "k");
    let root = tree(&scratch);
    let tree = text(&root);
    let (_, lines, _) = run(&["sign", "--exec-only", "-k", &key, "--cert", &certificate, &tree]);
    assert!(lines.starts_with("signed 2 files") && lines.contains("2 neither executable nor ELF"), "{lines}");
    assert!(label(&root.join("lib/library.so")).is_some());
    assert!(label(&root.join("etc/config")).is_none());
    assert_eq!(run(&["verify", "--exec-only", "--cert", &certificate, &tree]).0, 0);
    assert_eq!(run(&["verify", "--cert", &certificate, &tree]).0, 1);
}

#[test]
fn verify_lists_each_reason() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "k");
    let files = ["fine", "unsigned", "changed", "hashed", "empty", "cut", "v3", "other"];
    let paths: Vec<_> = files.iter().map(|name| scratch.file(&format!("t/{name}"), "hello\n")).collect();
    let tree = text(&scratch.path().join("t"));
    assert_eq!(run(&["sign", "-k", &key, &tree]).0, 0);
    let [_, unsigned, changed, hashed, empty, cut, v3, other] = &paths[..] else { panic!() };
    clear_label(unsigned);
    std::fs::write(changed, "hellO\n").unwrap();
    assert_eq!(run(&["hash", "--write", "--force", &text(hashed)]).0, 0);
    set_label(empty, b"");
    let good = label(cut).unwrap();
    set_label(cut, &good[..20]);
    set_label(v3, &[&[3, 3], &good[2..]].concat());
    set_label(other, &[&good[..3], &[0xde, 0xad, 0xbe, 0xef], &good[7..]].concat());

    let (status, lines, errors) = run(&["verify", "--cert", &certificate, &tree]);
    assert_eq!((status, errors.as_str()), (1, ""));
    for (name, reason) in [
        ("unsigned", "no label"),
        ("changed", "the signature does not match"),
        ("hashed", "a hash label, no signature"),
        ("empty", "no label"),
        ("cut", "malformed label"),
        ("v3", "a version 3 signature"),
        ("other", "no key deadbeef on the keyring"),
    ] {
        let start = format!("unverified {tree}/{name}: {reason}");
        assert!(lines.lines().any(|line| line.starts_with(&start)), "{start}\n{lines}");
    }
    assert!(lines.ends_with("verified 1 file, not 7 files\n"), "{lines}");

    let (_, lines, _) = run(&["verify", "--json", "--cert", &certificate, &tree]);
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 9);
    assert_eq!(objects[8]["summary"]["unverified"], 7);
    assert!(objects.iter().any(|o| o["status"] == "verified" && o["path"] == format!("{tree}/fine")));
}

#[test]
fn what_could_not_be_found_out_is_not_a_no() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "k");
    let missing = text(&scratch.path().join("missing"));
    let (status, _, errors) = run(&["verify", "--cert", &certificate, &missing]);
    assert_eq!(status, 2);
    assert_eq!(
        errors.lines().next().unwrap(),
        format!("imafs-sign: cannot verify {missing}: no such file or directory")
    );
    let (status, _, errors) = run(&["verify", "--cert", &missing, &missing]);
    assert_eq!(
        (status, errors),
        (2, format!("imafs-sign: cannot read {missing}: no such file or directory\n"))
    );
    let (status, _, errors) = run(&["verify", "--cert", &key, &missing]);
    assert_eq!(status, 2);
    assert!(errors.contains("a private key, not a certificate\n  give the certificate here"), "{errors}");
    std::fs::create_dir(scratch.path().join("void")).unwrap();
    let (status, _, errors) = run(&["verify", "--cert", &certificate, &text(&scratch.path().join("void"))]);
    assert_eq!(status, 2, "nothing verified is not all verified");
    assert!(errors.contains("found no file"), "{errors}");
    assert_eq!(run(&["verify"]).0, 2);
}

#[test]
fn a_hash_does_not_replace_a_signature_unasked() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, _) = keygen(&scratch, "k");
    let file = scratch.file("f", "hello\n");
    assert_eq!(run(&["sign", "-k", &key, &text(&file)]).0, 0);
    let signed = label(&file);
    let (status, lines, _) = run(&["sign", "--hash", &text(&file)]);
    assert_eq!(status, 0);
    assert!(lines.contains("1 signed, and a hash would replace the signature"), "{lines}");
    assert_eq!(label(&file), signed);
    assert_eq!(run(&["sign", "--hash", "--force", &text(&file)]).0, 0);
    assert_eq!(label(&file).unwrap()[..2], [4, 4]);
}

#[test]
fn the_certificate_must_be_the_key_s() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "one");
    let (_, other) = keygen(&scratch, "two");
    let file = scratch.file("f", "hello\n");
    let (status, _, errors) = run(&["sign", "-k", &key, "--cert", &other, &text(&file)]);
    assert_eq!(status, 2);
    assert!(errors.contains("is not the certificate of"), "{errors}");
    assert_eq!(label(&file), None);

    let both = [std::fs::read(&key).unwrap(), std::fs::read(&certificate).unwrap()].concat();
    let both = scratch.file("both.pem", &String::from_utf8(both).unwrap());
    assert_eq!(run(&["sign", "-k", &text(&both), &text(&file)]).0, 0, "a certificate may follow its key");
}

#[test]
fn keys_are_read_in_every_form_openssl_writes() {
    if !have(&["openssl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    scratch.openssl_key("rsa", "rsa:2048");
    scratch.openssl_key("ec", "P-256");
    let at = |name: &str| scratch.path().join(name);
    let convert = |args: &[&str], from: &str, to: &str| {
        scratch.openssl(args, &["-in".into(), at(from), "-out".into(), at(to)]);
    };
    convert(&["rsa", "-traditional"], "rsa.key", "rsa.pkcs1");
    convert(&["rsa", "-outform", "DER"], "rsa.key", "rsa.der-key");
    convert(&["ec"], "ec.key", "ec.sec1");
    convert(&["pkey", "-outform", "DER"], "ec.key", "ec.pkcs8");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let sec1 = std::fs::read_to_string(at("ec.sec1")).unwrap();
    assert!(sec1.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let with_parameters = scratch.file("ec.parameters", &(parameters.to_owned() + &sec1));

    for (key, certificate) in [
        (at("rsa.pkcs1"), "rsa.pem"),
        (at("rsa.der-key"), "rsa.pem"),
        (at("ec.sec1"), "ec.pem"),
        (at("ec.pkcs8"), "ec.pem"),
        (with_parameters, "ec.pem"),
    ] {
        let file = scratch.file("f", "hello\n");
        let (status, _, errors) =
            run(&["sign", "--force", "-k", &text(&key), "--cert", &text(&at(certificate)), &text(&file)]);
        assert_eq!((status, errors.as_str()), (0, ""), "{}", key.display());
        assert_eq!(run(&["verify", "--cert", &text(&at(certificate)), &text(&file)]).0, 0);
    }

    convert(&["pkey", "-aes128", "-passout", "pass:secret"], "ec.key", "ec.encrypted");
    convert(&["rsa", "-traditional", "-aes128", "-passout", "pass:secret"], "rsa.key", "rsa.encrypted");
    for key in ["ec.encrypted", "rsa.encrypted"] {
        let (status, _, errors) = run(&["sign", "-k", &text(&at(key)), &text(&at("f"))]);
        assert_eq!(status, 2);
        assert!(
            errors.contains(": the private key is encrypted\n  decrypt it first: openssl pkey"),
            "{errors}"
        );
    }
    scratch.openssl(&["genrsa", "-out"], &[at("small"), "1024".into()]);
    for (key, reason) in [
        (at("small"), "RSA key of 1024 bits, only 2048 to 4096 are accepted"),
        (at("ec.pem"), "no private key in it"),
        (at("f"), "no private key in it"),
    ] {
        let (status, _, errors) = run(&["sign", "-k", &text(&key), &text(&at("f"))]);
        assert_eq!(status, 2);
        assert!(errors.contains(reason), "{errors}");
    }
}

#[test]
fn lists_of_paths_may_end_in_nul_and_hold_any_byte() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, _) = keygen(&scratch, "k");
    use std::os::unix::ffi::OsStrExt;
    let odd = scratch.path().join(std::ffi::OsStr::from_bytes(b"new\nline \xff"));
    std::fs::write(&odd, "hello\n").unwrap();
    let plain = scratch.file("plain", "hello\n");
    let list = [odd.as_os_str().as_bytes(), plain.as_os_str().as_bytes(), b""].join(&0);
    let listed = scratch.path().join("list");
    std::fs::write(&listed, &list).unwrap();
    let (status, lines, _) = run(&["sign", "-k", &key, "--files0-from", &text(&listed)]);
    assert_eq!(status, 0);
    assert!(lines.starts_with("signed 2 files"), "{lines}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_imafs-sign"))
        .args(["show", "--json", "-0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&list).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let first: serde_json::Value =
        serde_json::from_slice(output.stdout.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!((&first["status"], &first["algo"]), (&"signature".into(), &"sha256".into()));
    assert!(first["path_hex"].as_str().unwrap().ends_with("6e65770a6c696e6520ff"));
}

#[test]
fn show_decodes_labels_and_names_known_keys() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "shown");
    let tree = scratch.path().join("t");
    let (a, b, c) = (scratch.file("t/a", "a"), scratch.file("t/b", "b"), scratch.file("t/c", "c"));
    assert_eq!(run(&["sign", "-k", &key, "-a", "sha512", &text(&a)]).0, 0);
    assert_eq!(run(&["hash", "--write", &text(&b)]).0, 0);
    let (status, lines, _) = run(&["show", "--cert", &certificate, &text(&tree)]);
    assert_eq!(status, 1, "one has no label");
    let lines: Vec<_> = lines.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{}: signature version 2, sha512, key ", a.display())),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("(CN=shown), "), "{}", lines[0]);
    // sha256 of "b", by sha256sum.
    let digest = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";
    assert_eq!(lines[1], format!("{}: digest, sha256:{digest}", b.display()));
    assert_eq!(lines[2], format!("{}: no label", c.display()));
    let (_, hashed, _) = run(&["hash", &text(&b)]);
    assert_eq!(hashed, format!("sha256:{digest}  {}\n", b.display()));
}

#[test]
fn an_interrupted_run_leaves_whole_labels_and_is_resumed() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "k");
    for n in 0..6000 {
        scratch.file(&format!("t/{n:04}"), &n.to_string());
    }
    let tree = text(&scratch.path().join("t"));
    let child = Command::new(env!("CARGO_BIN_EXE_imafs-sign"))
        .args(["sign", "-k", &key, &tree])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while label(&scratch.path().join("t/0000")).is_none() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("interrupted after") && errors.contains("run the same command again"),
        "{errors}"
    );

    let lengths: std::collections::BTreeSet<_> = std::fs::read_dir(&tree)
        .unwrap()
        .map(|entry| label(&entry.unwrap().path()).map_or(0, |label| usize::from(label[8]) + 9 - label.len()))
        .collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0], "each label is whole or absent");
    let (status, lines, _) = run(&["sign", "-k", &key, &tree]);
    assert_eq!(status, 0);
    assert!(lines.contains("already labelled so"), "{lines}");
    assert_eq!(run(&["verify", "--cert", &certificate, &tree]).0, 0);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let Some(scratch) = Scratch::new() else { return };
    for n in 0..3000 {
        scratch.file(&format!("t/{n:04}-{}", "x".repeat(100)), "");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_imafs-sign"))
        .args(["hash", &text(&scratch.path().join("t"))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(2), "what was not printed is not claimed");
}

#[test]
fn the_published_vectors_verify_and_their_changed_siblings_do_not() {
    let Some(scratch) = Scratch::new() else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keyring/testdata");
    for name in ["ec", "rsa"] {
        let value = std::fs::read_to_string(data.join(format!("vector-{name}.label"))).unwrap();
        let certificate = text(&data.join(format!("vector-{name}.pem")));
        let file = scratch.file(name, "hello\n");
        set_label(&file, &hex::decode(value.trim()).unwrap());
        assert_eq!(run(&["verify", "--cert", &certificate, &text(&file)]).0, 0);
        std::fs::write(&file, "hello").unwrap();
        assert_eq!(run(&["verify", "--cert", &certificate, &text(&file)]).0, 1);
    }
}

#[test]
fn every_mistake_is_told_by_the_program_with_the_next_step() {
    let Some(scratch) = Scratch::new() else { return };
    let (key, certificate) = keygen(&scratch, "one");
    let (other, _) = keygen(&scratch, "two");
    let file = text(&scratch.file("file", "content"));
    let mismatch = format!("imafs-sign: {certificate} is not the certificate of {other}\n  give --cert");
    for (args, said) in [
        (&["sign", &file][..], "imafs-sign: the following required arguments"),
        (&["frobnicate"], "imafs-sign: unrecognized subcommand 'frobnicate'"),
        (&["sign", "--key", &key, "--keyid", "zz", &file], "imafs-sign: invalid value 'zz'"),
        (&["sign", "--key", &other, "--cert", &certificate, &file], mismatch.as_str()),
        (
            &["sign", "--key", &certificate, &file],
            &format!("imafs-sign: cannot use {certificate}: no private key in it\n  give"),
        ),
    ] {
        let (status, lines, errors) = run(args);
        assert_eq!((status, lines.as_str()), (2, ""), "{args:?}");
        assert!(errors.starts_with(said), "{errors}");
    }
    let (status, lines, errors) = run(&["sign", "--help"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(lines.starts_with("Sign files"), "{lines}");
}
