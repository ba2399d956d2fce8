//! The calls that podman, dockerd and containerd make, recorded from them and replayed: each reaches the real runtime
//! word for word, its status and its words come back, and what we do about the mount is done.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod stand;

use stand::{Stand, said};

const RECORDED: [(&str, &str); 3] = [
    ("podman", include_str!("engine-calls/podman.txt")),
    ("docker", include_str!("engine-calls/docker.txt")),
    ("containerd", include_str!("engine-calls/containerd.txt")),
];

fn calls() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#'));
    RECORDED.into_iter().flat_map(move |(engine, text)| lines(text).map(move |line| (engine, line)))
}

/// The words of a recorded call, its places filled with the stand's. podman names no root; runc's own is not ours to
/// use.
fn words(stand: &Stand, call: &str) -> Vec<String> {
    let place = |name: &str| stand.path(name).to_str().unwrap().to_owned();
    let fill = |word: &str| {
        let word = word.replace("ROOT", &place("root")).replace("BUNDLE", &place("bundle"));
        if word == "ID" { "c1".to_owned() } else { word.replace("FILE", &place("file")) }
    };
    let mut words: Vec<String> = call.split(' ').map(fill).collect();
    if !call.contains("ROOT") {
        words.splice(0..0, ["--root".to_owned(), place("root")]);
    }
    words
}

fn call(stand: &Stand, words: &[String], settings: &[(&str, &str)]) -> std::process::Output {
    stand.call(&words.iter().map(String::as_str).collect::<Vec<_>>(), settings)
}

fn bracketed(words: &[String]) -> String {
    words.iter().map(|word| format!("[{word}]")).collect()
}

/// The command among the words.
fn command(call: &str) -> &str {
    let known = [
        "create",
        "start",
        "delete",
        "exec",
        "pause",
        "resume",
        "update",
        "kill",
        "ps",
        "checkpoint",
        "state",
    ];
    call.split(' ').find(|word| known.contains(word)).unwrap()
}

#[test]
fn every_engine_is_recorded_with_a_containers_whole_life() {
    for (engine, _) in RECORDED {
        let commands: Vec<_> =
            calls().filter(|(by, _)| *by == engine).map(|(_, line)| command(line)).collect();
        for wanted in ["create", "start", "delete", "exec", "pause", "resume", "kill"] {
            assert!(commands.contains(&wanted), "{engine} is not recorded with {wanted}");
        }
    }
}

#[test]
fn a_call_reaches_the_real_runtime_word_for_word_and_its_status_comes_back() {
    for (engine, line) in calls().filter(|(_, line)| command(line) != "checkpoint") {
        for status in ["0", "7"] {
            let stand = Stand::new();
            if command(line) != "create" {
                assert!(stand.create(&[]).status.success());
            }
            let words = words(&stand, line);
            let output = call(&stand, &words, &[("STAND_STATUS", status)]);
            assert_eq!(output.status.code().unwrap().to_string(), status, "{engine}: {line}");
            let seen = stand.calls("runc");
            assert!(seen.contains(&bracketed(&words)), "{engine}: {line} became {seen:?}");
        }
    }
}

#[test]
fn what_each_call_does_to_the_mount_is_done() {
    for (engine, line) in calls() {
        let stand = Stand::new();
        let words = words(&stand, line);
        if command(line) != "create" {
            assert!(stand.create(&[]).status.success());
        }
        let mounted = || stand.calls("imafs").iter().filter(|call| call.starts_with("[mount]")).count();
        let before = mounted();
        let output = call(&stand, &words, &[]);
        let mounts = mounted() - before;
        let slots = stand.slots().len();
        match command(line) {
            "create" => {
                assert_eq!((mounts, slots), (1, 1), "{engine}: {line}");
                let call = stand.calls("imafs").remove(0);
                let source = stand.path("bundle/rootfs");
                assert!(call.starts_with("[mount]") && call.contains(source.to_str().unwrap()), "{call}");
            }
            "delete" => assert_eq!(slots, 0, "{engine}: {line}"),
            "checkpoint" => {
                assert_eq!(output.status.code(), Some(1), "{engine}: {line}");
                assert!(said(&output).contains("cannot be checkpointed"), "{}", said(&output));
                assert_eq!(stand.calls("runc").len(), 1, "runc was asked to checkpoint");
                if line.contains("json") {
                    // Where the engine looks for it.
                    let log = std::fs::read_to_string(stand.path("file")).unwrap();
                    let entry: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
                    assert_eq!(entry["level"], "error");
                    assert!(entry["msg"].as_str().unwrap().contains("cannot be checkpointed"), "{log}");
                }
            }
            _ => assert_eq!((mounts, slots), (0, 1), "{engine}: {line}"),
        }
    }
}

#[test]
fn what_is_only_runcs_is_handed_through_both_ways() {
    let stand = Stand::new();
    for line in
        ["features", "list --format json", "list -q", "events --stats c1", "spec", "--version", "frobnicate"]
    {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let output = call(&stand, &words, &[("STAND_STATUS", "3")]);
        assert_eq!(output.status.code(), Some(3), "{line}");
        assert_eq!(stand.calls("runc").last(), Some(&bracketed(&words)), "{line}");
        if line == "features" {
            assert_eq!(said(&output), "{\"ociVersionMin\":\"1.0.0\"}\n");
        }
    }
    assert!(stand.calls("imafs").is_empty());
}

#[test]
fn help_says_what_is_ours_and_what_is_the_real_runtimes() {
    for line in ["--help", "-h", "help"] {
        let stand = Stand::new();
        let output = stand.call(&[line], &[]);
        assert!(output.status.success(), "{line}");
        for part in
            ["org.imafs.profile", "org.imafs.required", "--imafs-profile=NAME", "/etc/imafs/runtime.yaml"]
        {
            assert!(said(&output).contains(part), "{line} does not name {part}");
        }
        assert_eq!(stand.calls("runc"), [format!("[{line}]")]);
    }
    // About one command the real runtime says all there is.
    let stand = Stand::new();
    assert!(!said(&stand.call(&["help", "create"], &[])).contains("org.imafs"));
    assert!(stand.call(&["create", "--help"], &[]).status.success());
    assert_eq!(stand.calls("runc"), ["[help][create]", "[create][--help]"]);
}

#[test]
fn a_container_that_was_to_be_checked_is_not_restored() {
    let stand = Stand::new();
    let bundle = stand.path("bundle");
    let words = ["restore", "--image-path", "/checkpoint", "--bundle", bundle.to_str().unwrap(), "c1"];
    let output = stand.call(&words, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot be checkpointed or restored"), "{}", said(&output));
    assert!(stand.calls("runc").is_empty());
    // One that is not checked is the real runtime's.
    stand.write("runtime.yaml", &format!("runtime: {}\n", stand.path("runc").display()));
    assert!(stand.call(&words, &[]).status.success());
    assert_eq!(stand.calls("runc").len(), 1);
}

#[test]
fn a_container_that_is_not_named_as_engines_do_is_not_made() {
    let stand = Stand::new();
    let bundle = stand.path("bundle");
    let bundle = bundle.to_str().unwrap();
    for words in [
        &["create", "--bundle", bundle, "a,b"][..],
        &["create", "c1", "--bundle", bundle],
        &["run", "--bundle", bundle, "c1", "--detach"],
        &["run", "--bundle", bundle, &"x".repeat(300)],
        &["restore", "--bundle", bundle],
    ] {
        let output = stand.call(words, &[]);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains("cannot tell which container is meant"), "{}", said(&output));
    }
    assert!(stand.calls("runc").is_empty() && stand.slots().is_empty());
}
