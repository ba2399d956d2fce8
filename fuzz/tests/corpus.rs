//! Every input that is kept, through its target: the corpus, what once broke a promise, and each cut short.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

use std::path::{Path, PathBuf};

/// The inputs of one target in one of the two directories, by name.
fn inputs(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs a target; the name of the input stands above the panic of one that breaks a promise.
fn run(target: fn(&[u8]), path: &Path, data: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(data));
    assert!(outcome.is_ok(), "{} ({} bytes)", path.display(), data.len());
}

#[test]
fn every_input_kept_keeps_the_promises() {
    for (name, target) in fuzz::TARGETS {
        let corpus = inputs("corpus", name);
        assert!(corpus.len() >= 7, "{name} has a corpus of {}", corpus.len());
        for (path, data) in corpus.iter().chain(&inputs("regressions", name)) {
            run(target, path, data);
        }
    }
}

#[test]
fn every_input_cut_short_keeps_the_promises() {
    for (name, target) in fuzz::TARGETS {
        for (path, data) in inputs("corpus", name) {
            // Two hundred cuts of each, at every byte where there are no more than those.
            for end in (0..data.len()).step_by(data.len().div_ceil(200).max(1)) {
                run(target, &path, &data[..end]);
            }
        }
    }
}

#[test]
fn every_target_is_a_program_and_every_corpus_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for kind in ["corpus", "regressions"] {
        let Ok(entries) = std::fs::read_dir(root.join(kind)) else { continue };
        for entry in entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir()) {
            let name = entry.file_name().into_string().unwrap();
            assert!(fuzz::TARGETS.iter().any(|(target, _)| *target == name), "{kind}/{name} has no target");
        }
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in fuzz::TARGETS {
        let program = std::fs::read_to_string(root.join(format!("targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz::{name}(data)")), "targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is not in Cargo.toml");
    }
}
