//! The report of `imafs-attest`, as a browser shows it: what a reader sees is what the verdict says.
//!
//! Pictures of each page are kept in `target/artefacts/`.

use anyhow::{Context, Result, ensure};
use integration::attestation::{NONCE, quote};
use integration::browser::{Browser, DESKTOP, PHONE, Screen};
use integration::process::{ours, output, repository};
use integration::swtpm::Swtpm;
use integration::{Need, Stand, need};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\nappraise func=FILE_CHECK mask=MAY_READ\n";

/// Evidence of a mount in which files were read, and the verifier's answer about it.
struct Case {
    name: &'static str,
    stand: Stand,
    page: PathBuf,
    verdict: Value,
}

impl Case {
    /// With one file among the others that nobody has signed, and that was refused, if it `is_bad`.
    fn new(name: &'static str, is_bad: bool) -> Result<Self> {
        let stand = Stand::new()?;
        for number in 0..12 {
            stand.file(&format!("usr/share/some <b>name</b>/file-{number}"), format!("{number}\n"), 0o644)?;
        }
        stand.sign(".")?;
        if is_bad {
            stand.file("usr/bin/intruder", "not signed\n", 0o755)?;
        }
        let tpm = Swtpm::start(&stand.scratch)?;
        let mount = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
        for number in 0..12 {
            std::fs::read(mount.path(format!("usr/share/some <b>name</b>/file-{number}")))?;
        }
        if is_bad {
            ensure!(std::fs::read(mount.path("usr/bin/intruder")).is_err(), "it is served");
        }
        let evidence = stand.scratch.path().join(format!("{name}.evidence"));
        let key = quote(&mount, NONCE, &evidence)?;
        let audit = stand.scratch.path().join("audit.json");
        std::fs::copy(mount.path(".imafs/audit"), &audit)?;
        let ring = stand.keys.certificate.to_str().context("not UTF-8")?.to_owned();
        let question = ["--nonce", NONCE, "--ak", &key, "--keyring", &ring];
        let verdict = attest(&["verify", "--json"], &evidence, &question, is_bad)?;
        let page = stand.scratch.path().join(format!("{name}.html"));
        let (page_text, audit) = (page.to_str().context("not UTF-8")?, audit.to_str().context("not UTF-8")?);
        let more = [&question[..], &["--audit", audit, "--output", page_text]].concat();
        attest(&["report"], &evidence, &more, is_bad)?;
        mount.stop()?;
        Ok(Self { name, stand, page, verdict: serde_json::from_str(&verdict)? })
    }

    fn count(&self, name: &str) -> Result<u64> {
        let count = self.verdict.pointer(&format!("/counts/{name}")).and_then(Value::as_u64);
        count.with_context(|| format!("no count of {name}"))
    }

    /// Opens the page on a screen, checks what holds for every page, and keeps a picture.
    fn open(&self, screen: Screen) -> Result<Browser> {
        let browser = Browser::start(&self.stand.scratch, screen)?;
        browser.open(&self.page)?;
        let wide = browser.ask("[document.documentElement.scrollWidth, window.innerWidth]")?;
        let width = |at: usize| wide.get(at).and_then(Value::as_u64).context("no width");
        ensure!(width(0)? <= width(1)?, "{} is wider than a {}: {wide}", self.name, screen.name);
        ensure!(width(1)? == u64::from(screen.width), "the window is not that wide: {wide}");
        let loaded = browser.ask("performance.getEntriesByType('resource').length")?;
        ensure!(loaded == 0, "it loads {loaded} other things");
        let letters = browser.ask("parseFloat(getComputedStyle(document.body).fontSize)")?;
        ensure!(letters.as_f64() >= Some(16.0), "letters of {letters} pixels");
        for name in ["entries", "proven", "unproven", "accepted", "refused", "violations", "signed"] {
            let shown =
                browser.ask(&format!("Number(document.getElementById('count-{name}').dataset.count)"))?;
            let seen = browser.ask(&format!("document.getElementById('count-{name}').textContent"))?;
            ensure!(
                shown == self.count(name)? && seen.as_str() == Some(&*shown.to_string()),
                "{name}: {shown}, {seen}"
            );
        }
        let artefacts = repository().join("target/artefacts");
        std::fs::create_dir_all(&artefacts)?;
        browser.picture(&artefacts.join(format!("report-{}-{}.png", self.name, screen.name)))?;
        Ok(browser)
    }
}

/// Runs `imafs-attest`, whose answer has to be the one that was expected.
fn attest(verb: &[&str], evidence: &Path, more: &[&str], is_bad: bool) -> Result<String> {
    let out = output(Command::new(ours("imafs-attest")?).args(verb).arg(evidence).args(more))?;
    let (status, errors) = (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned());
    ensure!(status == Some(i32::from(is_bad)), "{verb:?} ended with {status:?}: {errors}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

const VERDICT: &str = "document.getElementById('verdict').textContent";

#[test]
fn the_page_of_a_good_list_says_so_at_every_width() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("chromedriver"));
    let case = Case::new("good", false)?;
    ensure!((case.count("entries")?, case.count("refused")?) == (13, 0), "{}", case.verdict);
    for screen in [DESKTOP, PHONE] {
        let browser = case.open(screen)?;
        ensure!(browser.ask(VERDICT)? == "Trusted");
        ensure!(browser.ask("document.documentElement.dataset.verdict")? == "trusted");
        ensure!(browser.ask("document.querySelectorAll('.card, #reasons li').length")? == 0);
        ensure!(browser.ask("document.querySelectorAll('#timeline rect.refused').length")? == 0);
        ensure!(browser.ask("document.querySelectorAll('#tree .leaves .dot.accepted').length")? == 12);
        // A name is text, whatever is in it.
        ensure!(browser.ask("document.querySelectorAll('b').length")? == 0);
        let names = browser.ask("[...document.querySelectorAll('#tree .path')].map(e => e.textContent)")?;
        ensure!(names.to_string().contains("some_<b>name<"), "{names}");
    }
    Ok(())
}

#[test]
fn the_page_of_a_bad_list_names_what_is_wrong_first() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("chromedriver"));
    let case = Case::new("bad", true)?;
    ensure!((case.count("entries")?, case.count("refused")?) == (14, 1), "{}", case.verdict);
    for screen in [DESKTOP, PHONE] {
        let browser = case.open(screen)?;
        ensure!(browser.ask(VERDICT)? == "Refused");
        let reasons = browser.ask("[...document.querySelectorAll('#reasons li')].map(e => e.textContent)")?;
        let told = case.verdict.get("reasons").and_then(Value::as_array).map(Vec::len);
        ensure!(reasons.as_array().map(Vec::len) == told && told > Some(0), "{reasons}");
        let card = |list: &str| browser.ask(&format!("document.querySelector('#{list} .card').innerText"));
        let refused = card("refused")?.to_string();
        ensure!(refused.contains("/usr/bin/intruder") && refused.contains("no signature"), "{refused}");
        let denied = card("denials")?.to_string();
        ensure!(denied.contains("/usr/bin/intruder") && denied.contains("missing-hash"), "{denied}");
        ensure!(browser.ask("document.querySelectorAll('#timeline rect.refused').length")? == 1);
        // Its directory stands open, so that it is seen without a click.
        let is_seen = "[...document.querySelectorAll('#tree .leaves li')]\
                       .some(e => e.textContent.startsWith('intruder') && e.checkVisibility())";
        ensure!(browser.ask(is_seen)? == true, "it is not to be seen");
        // The verdict and the first reason are on the first screen of a phone.
        let first = "document.querySelector('#reasons li').getBoundingClientRect().top < window.innerHeight";
        ensure!(browser.ask(first)? == true, "one has to scroll for the reason");
    }
    Ok(())
}
