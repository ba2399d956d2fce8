//! The measurement list before the readers of kernels' lists: Keylime's parser and evmctl.
//!
//! Each reader gets lists of 5,000 entries and more, with violations and names that try to break lines, and has to
//! find in them the PCRs that imafs shows, in both banks. Each then gets the same list with one byte changed and with
//! one entry missing, and has to say no.

use anyhow::{Context, Result, bail, ensure};
use ima::{HashAlgo, PcrIndex, Template};
use integration::keylime::{self, Question};
use integration::pcrs::{self, Value};
use integration::process::shell;
use integration::{Mount, Need, Stand, need};
use measure::{Form, List, ListOptions, SoftBank};
use serde_json::{Map, json};
use std::path::Path;
use std::sync::Arc;

const FILES: usize = 5_000;
/// Files that are read while somebody writes them.
const VIOLATIONS: usize = 20;
const BANKS: [&str; 2] = ["sha1", "sha256"];
/// Names that a list has to survive. The first would begin a line that looks like an entry.
const ODD_NAMES: [&str; 7] = [
    "odd\n10 0000000000000000000000000000000000000000 ima-ng sha256:00 forged",
    "odd\r\nreturn",
    "odd with  spaces ",
    "odd\ttab",
    "odd-\u{e4}\u{20ac}\u{2028}\u{85}",
    "odd\u{1b}[31m\u{7f}",
    "odd\\n'\"",
];

/// A stand with all those files, signed.
fn stand() -> Result<Stand> {
    let stand = Stand::new()?;
    for number in 0..FILES {
        stand.file(&format!("dir-{}/file-{number}", number % 50), format!("content {number}\n"), 0o644)?;
    }
    for name in ODD_NAMES {
        stand.file(name, name, 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

/// Reads every file through the mount, some of them while they are open for writing.
fn read_all(stand: &Stand, mount: &Mount) -> Result<()> {
    let files = walkdir::WalkDir::new(stand.tree()).into_iter().collect::<Result<Vec<_>, _>>()?;
    for (number, file) in files.iter().filter(|file| file.file_type().is_file()).enumerate() {
        let path = mount.path(file.path().strip_prefix(stand.tree())?);
        let open = || std::fs::File::options().append(true).open(&path).context("cannot open to write");
        let writer = if number < VIOLATIONS { Some(open()?) } else { None };
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        drop(writer);
    }
    Ok(())
}

/// What coreutils makes of the source tree: each path as lists show it, with its digest.
fn digests(stand: &Stand, program: &str) -> Result<Map<String, serde_json::Value>> {
    let script = format!("find . -type f -print0 | xargs -0 {program} --zero");
    let mut digests = Map::new();
    for line in shell(stand.tree(), script)?.split_terminator('\0') {
        let (digest, path) = line.split_once("  .").with_context(|| format!("not of a sum: {line:?}"))?;
        digests.insert(path.replace([' ', '\n', '\r'], "_"), json!([digest]));
    }
    Ok(digests)
}

/// A list in both forms with the PCRs that go with it.
struct Evidence {
    ascii: Vec<u8>,
    binary: Vec<u8>,
    values: Vec<Value>,
    entries: u64,
}

impl Evidence {
    fn of(mount: &Mount) -> Result<Self> {
        Ok(Self {
            ascii: mount.control("integrity/ima/ascii_runtime_measurements")?,
            binary: mount.control("integrity/ima/binary_runtime_measurements")?,
            values: pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?,
            entries: mount.control_number("integrity/ima/runtime_measurements_count")?,
        })
    }

    fn pcr(&self, bank: &str) -> Result<String> {
        let value = self.values.iter().find(|value| value.bank == bank && value.index == 10);
        Ok(value.with_context(|| format!("no PCR 10 of {bank}"))?.hex.clone())
    }

    fn question(&self, bank: &str) -> Result<Question> {
        let (list, bank, pcr) = (self.ascii.clone(), bank.to_owned(), self.pcr(bank)?);
        Ok(Question { list, bank, pcr, ..Question::default() })
    }
}

/// Keylime finds this, in this order, and nothing else wrong. It computes the PCR, whatever it finds.
fn keylime_finds(question: &Question, dir: &Path, wrong: &[&str]) -> Result<()> {
    let answer = keylime::ask(question, dir)?;
    ensure!(answer.wrong == wrong, "Keylime finds {:?} wrong, not {wrong:?}", answer.wrong);
    let mismatch = wrong.iter().any(|id| id.ends_with("pcr_mismatch"));
    ensure!(
        (answer.pcr != question.pcr) == mismatch,
        "Keylime computes {} of PCR {}",
        answer.pcr,
        question.pcr
    );
    Ok(())
}

/// Keylime accepts the list in both banks, and neither the one nor the other list that was tampered with.
fn keylime_judges(evidence: &Evidence, dir: &Path) -> Result<()> {
    for bank in BANKS {
        let whole = evidence.question(bank)?;
        keylime_finds(&whole, dir, &[])?;
        let flipped = Question { list: flip_digit(&whole.list)?, ..whole.clone() };
        keylime_finds(&flipped, dir, &["ima.pcr_mismatch", "ima.validation.ima_hash"])?;
        for number in [0, 2_500, usize::try_from(evidence.entries)? - 1] {
            let dropped = Question { list: drop_line(&whole.list, number), ..whole.clone() };
            keylime_finds(&dropped, dir, &["ima.pcr_mismatch"])?;
        }
    }
    Ok(())
}

/// The list with the last digit of one entry's content digest changed.
fn flip_digit(list: &[u8]) -> Result<Vec<u8>> {
    let mut list = list.to_vec();
    let line = list.split_inclusive(|byte| *byte == b'\n').take(2_500).map(<[u8]>::len).sum::<usize>();
    let colon_or_space = |byte: &u8| matches!(byte, b':' | b' ');
    // PCR, template digest, template; then the digest, with or without its algorithm, and the name.
    let mut columns = list.iter().enumerate().skip(line).filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let at = columns.nth(3).context("a line of fewer columns")?;
    let digit = list.get_mut(at - 1).filter(|digit| !colon_or_space(digit)).context("no digest")?;
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    Ok(list)
}

fn drop_line(list: &[u8], number: usize) -> Vec<u8> {
    let lines = list.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines.filter(|(at, _)| *at != number).flat_map(|(_, line)| line.iter().copied()).collect()
}

/// evmctl accepts the list in both banks, and neither the one nor the other list that was tampered with.
///
/// With a certificate it verifies a signature of each file.
fn evmctl_judges(evidence: &Evidence, dir: &Path, certificate: Option<&Path>) -> Result<()> {
    let judge = |list: &[u8]| {
        let path = dir.join("evmctl-list");
        std::fs::write(&path, list).context("cannot write the list")?;
        match certificate {
            Some(key) => {
                let key = (key, FILES + ODD_NAMES.len());
                pcrs::evmctl_verifies(&path, evidence.entries, &evidence.values, dir, key)
            }
            None => pcrs::evmctl_accepts(&path, evidence.entries, &evidence.values, dir),
        }
    };
    judge(&evidence.binary)?;
    let records = ima::parse_binary(&evidence.binary, HashAlgo::Sha1).collect::<Result<Vec<_>, _>>()?;
    let written = |skip: usize, flip: bool| {
        let mut out = Vec::new();
        for (number, parsed) in records.iter().enumerate().filter(|(number, _)| *number != skip) {
            parsed.entry.write_binary_with(&mut out, &parsed.recorded);
            if let Some(byte) = out.last_mut().filter(|_| flip && number == 2_500) {
                *byte ^= 1;
            }
        }
        out
    };
    ensure!(written(usize::MAX, false) == evidence.binary, "the list is not written again as it was");
    for (list, what) in [
        (written(usize::MAX, true), "a changed byte"),
        (written(2_500, false), "a missing entry"),
        (written(records.len() - 1, false), "a missing end"),
    ] {
        ensure!(judge(&list).is_err(), "evmctl accepts a list with {what}");
    }
    Ok(())
}

/// What a reader can know of the files of this mount: see [`digests`].
fn allowed(stand: &Stand, program: &str, width: usize) -> Result<serde_json::Value> {
    let mut digests = digests(stand, program)?;
    digests.insert("boot_aggregate".to_owned(), json!(["0".repeat(width)]));
    Ok(json!(digests))
}

/// 5,000 files opened through a mount with this template, and what it shows of them.
fn measured(stand: &Stand, template: &str) -> Result<(Mount, Evidence)> {
    let policy = "measure func=FILE_CHECK mask=MAY_READ\n";
    let mount = stand.mount()?.policy(policy)?.args(["--template", template]).start()?;
    read_all(stand, &mount)?;
    let evidence = Evidence::of(&mount)?;
    let files = FILES + ODD_NAMES.len();
    ensure!(evidence.entries == (files + VIOLATIONS + 1) as u64, "{} entries", evidence.entries);
    let lines = evidence.ascii.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines as u64 == evidence.entries, "{lines} lines for {} entries", evidence.entries);
    Ok((mount, evidence))
}

#[test]
fn keylime_and_evmctl_read_five_thousand_entries_of_ima() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"), Need::Keylime);
    let stand = stand()?;
    let dir = stand.scratch.path();
    let (_mount, evidence) = measured(&stand, "ima")?;
    keylime_judges(&evidence, dir)?;
    evmctl_judges(&evidence, dir, None)?;
    let named = Question { allowed: Some(allowed(&stand, "sha1sum", 40)?), ..evidence.question("sha256")? };
    keylime_finds(&named, dir, &[])
}

#[test]
fn keylime_and_evmctl_read_five_thousand_entries_of_ima_ng() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"), Need::Keylime);
    let stand = stand()?;
    let dir = stand.scratch.path();
    let (mount, evidence) = measured(&stand, "ima-ng")?;
    keylime_judges(&evidence, dir)?;
    evmctl_judges(&evidence, dir, None)?;
    let allowed = allowed(&stand, "sha256sum", 64)?;
    let named = Question { allowed: Some(allowed.clone()), ..evidence.question("sha1")? };
    keylime_finds(&named, dir, &[])?;
    // The list that has SHA-256 template digests, read as such.
    let list = mount.control("integrity/ima/ascii_runtime_measurements_sha256")?;
    let list_algo = Some("sha256".to_owned());
    let other = Question { list, list_algo, allowed: Some(allowed), ..evidence.question("sha256")? };
    keylime_finds(&other, dir, &[])?;
    let mixed = Question { list: evidence.ascii.clone(), ..other };
    keylime_finds(&mixed, dir, &["ima.pcr_mismatch", "ima.validation.ima_hash"])?;
    // A file changed since the digests were taken.
    let mut stale = named;
    let one = stale.allowed.as_mut().and_then(|all| all.get_mut("/dir-7/file-7")).context("no such file")?;
    *one = json!(["0".repeat(64)]);
    keylime_finds(&stale, dir, &["ima.validation.ima-ng.runtime_policy_hash"])
}

#[test]
fn keylime_and_evmctl_verify_five_thousand_signatures_of_ima_sig() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"), Need::Program("openssl"), Need::Keylime);
    let stand = stand()?;
    let dir = stand.scratch.path();
    let (_mount, evidence) = measured(&stand, "ima-sig")?;
    keylime_judges(&evidence, dir)?;
    let certificate = stand.keys.der()?;
    evmctl_judges(&evidence, dir, Some(&certificate))?;
    // boot_aggregate has no signature; every file has to pass by its own.
    let allowed = Some(json!({ "boot_aggregate": ["0".repeat(64)] }));
    let signed = Question { allowed, certificate: Some(certificate), ..evidence.question("sha256")? };
    keylime_finds(&signed, dir, &[])?;
    let stranger = stand.stranger()?.der()?;
    let list = dir.join("evmctl-list");
    std::fs::write(&list, &evidence.binary)?;
    let key = (stranger.as_path(), FILES + ODD_NAMES.len());
    let judged = pcrs::evmctl_verifies(&list, evidence.entries, &evidence.values, dir, key);
    let refusal = judged.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refusal.starts_with("0 signatures verify and 5007 do not"), "with a stranger's key: {refusal}");
    let strange = Question { certificate: Some(stranger), ..signed };
    keylime_finds(&strange, dir, &["ima.validation.ima-ng.not_in_allowlist"])
}

#[test]
fn keylime_and_evmctl_read_five_thousand_entries_of_ima_buf() -> Result<()> {
    need!(Need::Program("evmctl"), Need::Program("openssl"), Need::Keylime);
    let scratch = integration::Scratch::new()?;
    let dir = scratch.path();
    let keys = integration::Keys::make(dir, "measured", integration::keys::Kind::P256)?;
    let certificate = std::fs::read(keys.der()?)?;
    let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256])?);
    let Some(template) = Template::named("ima-sig") else { bail!("no such template") };
    let list = List::new(ListOptions::new(template, bank))?;
    for number in 0..FILES {
        list.add_buffer(PcrIndex::DEFAULT, format!("ring-{number}").as_bytes(), &certificate)?;
    }
    // What is no certificate is read as well.
    list.add_buffer(PcrIndex::DEFAULT, b"blacklisted-hash", &[0xab; 32])?;
    let snapshot = list.snapshot();
    let form = |form| snapshot.read_at(form, HashAlgo::Sha1, 0, usize::MAX);
    let evidence = Evidence {
        ascii: form(Form::Ascii)?,
        binary: form(Form::Binary)?,
        values: pcrs::parse(&measure::pcrs::table(&**list.bank())?)?,
        entries: snapshot.len() as u64,
    };
    keylime_judges(&evidence, dir)?;
    evmctl_judges(&evidence, dir, None)
}

/// The `sh` blocks of the page that tells users how to read the list.
fn documented_commands() -> Result<Vec<String>> {
    let page = std::fs::read_to_string(integration::process::repository().join("docs/measurement-list.md"))?;
    let blocks = page.split("\n```sh\n").skip(1);
    Ok(blocks.map(|block| block.split("\n```").next().unwrap_or_default().to_owned()).collect())
}

#[test]
fn the_documented_commands_accept_a_list_and_refuse_another_mounts_registers() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"), Need::Program("openssl"), Need::Keylime);
    let stand = Stand::new()?;
    for name in ["a", "b with space", "c\nd"] {
        stand.file(name, name, 0o644)?;
    }
    stand.sign(".")?;
    let mount = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?.start()?;
    for name in ["a", "b with space", "c\nd"] {
        let writer = std::fs::File::options().append(true).open(mount.path(name))?;
        std::fs::read(mount.path(name)).context("cannot read")?;
        drop(writer);
    }
    let commands = documented_commands()?;
    ensure!(commands.len() == 2, "{} blocks of commands", commands.len());
    let dir = stand.scratch.dir("reader")?;
    std::fs::copy(&stand.keys.certificate, dir.join("signer.pem"))?;
    let python = keylime::python();
    // A copy of the control files, so that the denied sibling can have other registers.
    shell(&dir, format!("mkdir root && cp -r {}/.imafs root/.imafs", mount.target().display()))?;
    let run = |block: &str| {
        let block = block.replace("/mnt/root", "root").replace("python3", &python.display().to_string());
        shell(&dir, block)
    };
    for block in &commands {
        run(block)?;
    }
    shell(&dir, "sed -i 's/\\( 10 .*\\)[0-7]\\(.*\\)$/\\18\\2/' root/.imafs/pcrs")?;
    for block in &commands {
        ensure!(run(block).is_err(), "accepted with other registers:\n{block}");
    }
    Ok(())
}
