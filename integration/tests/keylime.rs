//! A mount's list and its TPM's quote before Keylime's verifier, with a runtime policy (`docs/keylime.md`).
//!
//! Keylime has to accept what is good, and to refuse each thing that is not with the failure of its own that names it.

use anyhow::{Context, Result, ensure};
use ima::{HashAlgo, PcrIndex};
use integration::keylime::{self, Answer, Question, Quoted};
use integration::process::shell;
use integration::swtpm::Swtpm;
use integration::{Mount, Need, Stand, need};
use serde_json::{Map, Value, json};
use tpm::{Quote, Tpm, TpmPlace};

const FILES: usize = 60;
const NONCE: &str = "3fd5c41bd76a2e0c9d9d";
const NOT_REPLAYED: &str = "ima.pcr_mismatch";
/// What comes of a signature that does not verify: no register is believed to be in the quote.
const NOT_SIGNED: &str = "pcr_validation.missing_pcrs";
/// Keylime spells it so.
const NOT_QUOTED: &str = "qoute_validation.quote_validation";

struct World {
    stand: Stand,
    tpm: Swtpm,
    mount: Mount,
}

impl World {
    /// Some files opened through a mount on a TPM.
    fn new() -> Result<Self> {
        let stand = Stand::new()?;
        for number in 0..FILES {
            stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
        }
        let tpm = Swtpm::start(&stand.scratch)?;
        let builder = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?;
        let mount = builder.args(["--template", "ima-ng", "--tpm", &tpm.tcti()]).start()?;
        let world = Self { stand, tpm, mount };
        world.open(0..FILES - 10)?;
        Ok(world)
    }

    fn open(&self, files: std::ops::Range<usize>) -> Result<()> {
        for number in files {
            std::fs::read(self.mount.path(format!("file-{number}"))).context("cannot read")?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<u8>> {
        self.mount.control("integrity/ima/ascii_runtime_measurements")
    }

    /// The runtime policy that coreutils make of the source tree.
    fn policy(&self) -> Result<Value> {
        let mut digests = Map::new();
        let sums = shell(self.stand.tree(), "find . -type f | xargs sha256sum")?;
        for line in sums.lines() {
            let (digest, path) = line.split_once("  .").context("not of sha256sum")?;
            digests.insert(path.to_owned(), json!([digest]));
        }
        // Ten registers that no firmware has extended.
        let boot = shell(self.stand.tree(), "head -c 320 /dev/zero | sha256sum | cut -d' ' -f1")?;
        digests.insert("boot_aggregate".to_owned(), json!([boot.trim()]));
        Ok(json!(digests))
    }

    fn quote(&self, nonce: &str) -> Result<Quote> {
        let tpm = Tpm::open(TpmPlace::Tcti(self.tpm.tcti().parse()?))?;
        let quote = tpm.quote(nonce.as_bytes(), &[HashAlgo::Sha256], &[PcrIndex::DEFAULT])?;
        tpm.end();
        Ok(quote)
    }

    fn ask(&self, list: &[u8], quote: &Quote, nonce: &str, policy: &Value) -> Result<Answer> {
        let quoted = quote.keylime()?;
        let quote = Some(Quoted { quote: quoted.quote, key: quoted.key, nonce: nonce.to_owned() });
        let question = Question {
            list: list.to_vec(),
            bank: "sha256".to_owned(),
            quote,
            allowed: Some(policy.clone()),
            ..Question::default()
        };
        keylime::ask(&question, self.stand.scratch.path())
    }
}

/// The lines of a list, in another order.
fn lines(list: &[u8], order: impl FnOnce(&mut Vec<&[u8]>)) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = list.split_inclusive(|byte| *byte == b'\n').collect();
    order(&mut lines);
    lines.concat()
}

/// A line with the last digit of its content digest, or of its template digest, changed.
fn flipped(list: &[u8], number: usize, column: usize) -> Result<Vec<u8>> {
    let text = String::from_utf8(list.to_vec())?;
    let mut all: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let line = all.get_mut(number).context("no such line")?;
    let mut columns: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let digest = columns.get_mut(column).context("no such column")?;
    let last = digest.pop().context("an empty column")?;
    digest.push(if last == '0' { '1' } else { '0' });
    *line = columns.join(" ");
    Ok(all.concat().into_bytes())
}

#[test]
fn keylime_accepts_a_list_with_its_quote_and_names_what_is_wrong_with_any_other() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm, Need::Keylime);
    let world = World::new()?;
    let (list, policy, quote) = (world.list()?, world.policy()?, world.quote(NONCE)?);
    let finds = |list: &[u8], wrong: &[&str]| -> Result<()> {
        let answer = world.ask(list, &quote, NONCE, &policy)?;
        ensure!(answer.wrong == wrong, "Keylime finds {:?} wrong, not {wrong:?}", answer.wrong);
        Ok(())
    };
    finds(&list, &[]).context("the list")?;
    finds(&flipped(&list, 20, 3)?, &[NOT_REPLAYED, "ima.validation.ima_hash"]).context("a content digest")?;
    // Keylime computes that one itself, and so replays to the register all the same.
    finds(&flipped(&list, 20, 1)?, &["ima.validation.ima_hash"]).context("a template digest")?;
    for cut in [1, 10, FILES - 10] {
        let truncated = lines(&list, |lines| lines.truncate(lines.len() - cut));
        finds(&truncated, &[NOT_REPLAYED]).with_context(|| format!("{cut} lines short"))?;
    }
    for place in [1, 20, FILES - 11] {
        finds(&lines(&list, |lines| lines.swap(place, place + 1)), &[NOT_REPLAYED])
            .with_context(|| format!("lines {place} and the next in another order"))?;
        finds(&lines(&list, |lines| _ = lines.remove(place)), &[NOT_REPLAYED])
            .with_context(|| format!("without line {place}"))?;
    }
    finds(b"", &[NOT_REPLAYED]).context("no list")
}

/// What Keylime calls a digest that its policy does not have.
const NOT_ALLOWED: &str = "ima.validation.ima-ng.runtime_policy_hash";

#[test]
fn keylime_holds_each_entry_against_its_runtime_policy() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm, Need::Keylime);
    let world = World::new()?;
    let (list, policy, quote) = (world.list()?, world.policy()?, world.quote(NONCE)?);
    let with = |change: &dyn Fn(&mut Map<String, Value>)| -> Result<Vec<String>> {
        let mut policy = policy.clone();
        change(policy.as_object_mut().context("no policy")?);
        Ok(world.ask(&list, &quote, NONCE, &policy)?.wrong)
    };
    ensure!(with(&|_| {})?.is_empty(), "the policy is refused");
    let stale = with(&|digests| drop(digests.insert("/file-7".to_owned(), json!(["0".repeat(64)]))))?;
    ensure!(stale == [NOT_ALLOWED], "a file that changed: {stale:?}");
    let unknown = with(&|digests| drop(digests.remove("/file-7")))?;
    ensure!(unknown == ["ima.validation.ima-ng.not_in_allowlist"], "a file that is not listed: {unknown:?}");
    let booted = with(&|digests| drop(digests.insert("boot_aggregate".to_owned(), json!(["0".repeat(64)]))))?;
    ensure!(booted == [NOT_ALLOWED], "another boot: {booted:?}");
    Ok(())
}

#[test]
fn keylime_refuses_a_quote_that_is_not_of_this_tpm_this_moment_and_this_nonce() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm, Need::Keylime);
    let world = World::new()?;
    let (policy, old) = (world.policy()?, world.quote(NONCE)?);
    let ask = |quote: &Quote, nonce: &str| -> Result<Vec<String>> {
        Ok(world.ask(&world.list()?, quote, nonce, &policy)?.wrong)
    };
    ensure!(ask(&old, NONCE)?.is_empty(), "the quote is refused");
    let nonce = ask(&old, "another nonce")?;
    ensure!(nonce == [NOT_QUOTED], "another nonce: {nonce:?}");
    for (part, failure) in [("attest", NOT_SIGNED), ("signature", NOT_SIGNED), ("values", NOT_QUOTED)] {
        let mut changed = old.clone();
        match part {
            "attest" => *changed.attest.last_mut().context("no quote")? ^= 1,
            "signature" => *changed.signature.last_mut().context("no signature")? ^= 1,
            _ => changed.values = vec![(PcrIndex::DEFAULT, ima::Digest::ones(HashAlgo::Sha256))],
        }
        let wrong = ask(&changed, NONCE)?;
        ensure!(wrong == [failure], "another {part}: {wrong:?}");
    }
    // The key of another TPM, which is in order in itself.
    let other = World::new()?.quote(NONCE)?;
    let stranger = Quote { key: old.key.clone(), ..other };
    let wrong = ask(&stranger, NONCE)?;
    ensure!(wrong == [NOT_SIGNED], "another TPM: {wrong:?}");
    // What was opened since is not in the old quote; the new one has it, and a list that ends before is too short.
    let before = world.list()?;
    world.open(FILES - 10..FILES)?;
    ensure!(ask(&old, NONCE)?.is_empty(), "a list that goes on behind its quote is refused");
    let new = world.quote("a fresh nonce")?;
    ensure!(ask(&new, "a fresh nonce")?.is_empty(), "the new quote is refused");
    let short = world.ask(&before, &new, "a fresh nonce", &policy)?.wrong;
    ensure!(short == [NOT_REPLAYED], "the list as it was: {short:?}");
    let stale = ask(&old, "a fresh nonce")?;
    ensure!(stale == [NOT_QUOTED], "the old quote: {stale:?}");
    world.mount.stop().map(drop)
}
