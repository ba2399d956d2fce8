//! Ordinary work inside the mount succeeds and leaves the bytes that it leaves on the backing filesystem.
//!
//! Each job runs twice with the same script: in a plain directory and in a mount of another. Then the mount is held
//! against its source, and what is deterministic of the job against the plain directory.

use anyhow::{Context, Result, ensure};
use integration::process::shell;
use integration::{Mount, Need, Scratch, compare, mount::MountBuilder, need};
use std::path::{Path, PathBuf};

/// A plain directory and a mount that measures everything.
struct Bench {
    plain: PathBuf,
    source: PathBuf,
    mount: Mount,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let (plain, source) = (scratch.dir("plain")?, scratch.dir("source")?);
        let mount = MountBuilder::new(&scratch, &source)?.policy("measure\n")?.start()?;
        Ok(Self { plain, source, mount, scratch })
    }

    /// Runs a script in both places; it has to succeed in both and print the same.
    fn run(&self, script: &str) -> Result<String> {
        let expected = shell(&self.plain, script).context("on the plain directory")?;
        let said = shell(self.mount.target(), script).context("in the mount")?;
        ensure!(said == expected, "the plain directory says {expected}\nthe mount says {said}");
        Ok(said)
    }

    /// The mount agrees with its source, and a part of it with the plain directory; nothing was refused.
    fn agree_on(&self, part: &str) -> Result<()> {
        compare::same_content(&self.source, self.mount.target()).context("mount and source")?;
        compare::same_content(&self.plain.join(part), &self.source.join(part)).context("mount and plain")?;
        let start = self.mount.records().beginning();
        self.mount.records().no_refusal(start)
    }
}

/// A tree of some hundred files to work on: this machine's Python library, without what others compiled.
fn make_archive(dir: &Path) -> Result<PathBuf> {
    let archive = dir.join("library.tar");
    let list = "--exclude=__pycache__ --directory /usr/lib python3.11";
    shell(dir, format!("tar --create --file '{}' {list}", archive.display()))?;
    Ok(archive)
}

#[test]
fn tar_unpacks_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("tar"));
    let bench = Bench::new()?;
    let archive = make_archive(bench.scratch.path())?;
    bench.run(&format!("tar --extract --file '{}'; find . -type f | wc -l", archive.display()))?;
    bench.agree_on(".")
}

#[test]
fn python_compiles_a_library_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("/usr/bin/python3"));
    let bench = Bench::new()?;
    let archive = make_archive(bench.scratch.path())?;
    let script = "tar --extract --file ARCHIVE
        /usr/bin/python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash -x 'lib2to3/tests|bad_' python3.11
        find . -name '*.pyc' | wc -l";
    let compiled = bench.run(&script.replace("ARCHIVE", &archive.to_string_lossy()))?;
    ensure!(compiled.trim().parse::<u32>()? > 300, "only {compiled} files were compiled");
    bench.agree_on("python3.11")
}

/// Turns the directory into a repository with two commits.
const MAKE_REPOSITORY: &str = r#"
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git init --quiet --initial-branch=main .
git config user.name proof; git config user.email proof@example.org
tar --extract --file ARCHIVE; git add .; git commit --quiet --message first
printf 'more\n' >> python3.11/os.py; git commit --quiet --all --message second
"#;

/// Clones it through the protocol, checks it, packs it again, checks it again.
const CLONE_AND_CHECK: &str = r#"
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git clone --quiet --no-local 'file://ORIGIN' clone
cd clone; git fsck --full --strict; git status --short; git rev-parse HEAD; git gc --quiet; git fsck --full
"#;

#[test]
fn git_clones_and_checks_a_repository_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("git"));
    let bench = Bench::new()?;
    let origin = bench.scratch.dir("origin")?;
    let archive = make_archive(bench.scratch.path())?;
    shell(&origin, MAKE_REPOSITORY.replace("ARCHIVE", &archive.to_string_lossy()))?;
    bench.run(&CLONE_AND_CHECK.replace("ORIGIN", &origin.to_string_lossy()))?;
    bench.agree_on("clone/python3.11")
}

/// Four processes write to one database in write-ahead mode, which maps its index shared and takes byte-range locks.
const FOUR_WRITERS: &str = r#"
sqlite3 base.db 'pragma journal_mode=wal; create table t(writer integer, row integer);' > mode
for writer in 1 2 3 4; do
    ( for row in $(seq 100); do
        printf '.timeout 60000\ninsert into t values(%s, %s);\n' $writer $row
      done | sqlite3 -bail base.db ) & pids="$pids $!"
done
for pid in $pids; do wait $pid; done
cat mode
sqlite3 base.db 'pragma integrity_check; select count(*), sum(row), count(distinct writer) from t;'
sqlite3 base.db 'pragma wal_checkpoint(truncate);'
sqlite3 base.db 'select writer, row from t order by writer, row;' > rows
"#;

#[test]
fn four_processes_share_a_database_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("sqlite3"));
    let bench = Bench::new()?;
    let said = bench.run(FOUR_WRITERS)?;
    ensure!(said.starts_with("wal\nok\n400|20200|4\n"), "sqlite3 says {said}");
    compare::same_content(&bench.source, bench.mount.target())?;
    compare::same_bytes(&bench.plain.join("rows"), &bench.source.join("rows"))
}

/// A crate with a library, a program, a build script and a test.
const MAKE_CRATE: &str = r#"
mkdir -p small/src; cd small
printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
printf 'fn main() { println!("cargo:rustc-env=MADE=by-a-build-script"); }\n' > build.rs
printf '/// Doubles.\npub fn double(n: u32) -> u32 { n * 2 }\n' > src/lib.rs
printf '#[test]\nfn doubles() { assert_eq!(double(2), 4); }\n' >> src/lib.rs
printf 'fn main() { println!("{} {}", env!("MADE"), small::double(21)); }\n' > src/main.rs
unset CARGO_TARGET_DIR RUSTFLAGS
cargo build --offline --quiet
cargo test --offline --quiet > test-output
./target/debug/small
"#;

#[test]
fn cargo_builds_and_tests_a_crate_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("cargo"));
    let bench = Bench::new()?;
    let said = bench.run(MAKE_CRATE)?;
    ensure!(said == "by-a-build-script 42\n", "the program says {said}");
    bench.agree_on("small/src")
}
