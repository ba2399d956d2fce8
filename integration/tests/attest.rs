//! Evidence of running mounts with a real TPM emulator, judged by `imafs-attest` and by other people's tools.

use anyhow::{Context, Result, ensure};
use attest::evidence::Evidence;
use attest::reference::References;
use attest::trust::Trust;
use attest::verdict::{EntrySelection, ReasonKind, Verdict};
use attest::verify::{Question, Unproven, Violations, verify};
use ima::{HashAlgo, PcrIndex};
use integration::attestation::{NONCE, judge, quote, reasons};
use integration::process::{ours, output, succeed};
use integration::swtpm::{BANKS, Swtpm};
use integration::{Mount, Need, Stand, need, pcrs};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";
const OTHER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn signed(count: usize) -> Result<Stand> {
    let stand = Stand::new()?;
    for number in 0..count {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

fn mount(stand: &Stand, tpm: &Swtpm, more: &[&str]) -> Result<Mount> {
    stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).args(more).start()
}

fn read(mount: &Mount, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        std::fs::read(mount.path(format!("file-{number}"))).context("cannot read")?;
    }
    Ok(())
}

/// A good mount's evidence, with what its verifier knows.
struct Case {
    stand: Stand,
    tpm: Swtpm,
    mount: Mount,
    key: String,
    evidence: PathBuf,
}

impl Case {
    fn new(files: usize) -> Result<Self> {
        let stand = signed(files)?;
        let tpm = Swtpm::start(&stand.scratch)?;
        let mount = mount(&stand, &tpm, &[])?;
        read(&mount, 0..files)?;
        let evidence = stand.scratch.path().join("evidence");
        let key = quote(&mount, NONCE, &evidence)?;
        Ok(Self { stand, tpm, mount, key, evidence })
    }

    fn ring(&self) -> Result<String> {
        Ok(self.stand.keys.certificate.to_str().context("not UTF-8")?.to_owned())
    }

    fn judge(&self, nonce: &str, more: &[&str]) -> Result<(i32, Value)> {
        let ring = self.ring()?;
        judge(&self.evidence, nonce, &[&["--ak", &self.key, "--keyring", &ring], more].concat())
    }

    fn references(&self) -> Result<References> {
        let ring = keyring::Keyring::new("reference");
        for certificate in
            keyring::Certificate::from_pem_or_der(&std::fs::read(&self.stand.keys.certificate)?)?
        {
            ensure!(matches!(ring.add(certificate), keyring::Added::New), "not added");
        }
        Ok(References { ring: Some(ring), ..References::default() })
    }
}

/// What the library says, asked as [`Case::judge`] asks the program.
fn ask(file: &[u8], trust: &Trust, references: &References) -> Result<Verdict> {
    let question = Question {
        nonce: &hex(NONCE)?,
        trust,
        references,
        pcrs: &[PcrIndex::DEFAULT],
        mount: None,
        after: None,
        violations: Violations::Refuse,
        unproven: Unproven::Refuse,
        entries: EntrySelection::Offending,
    };
    verify(file, &question).context("no verdict")
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<_> = text.as_bytes().chunks(2).collect();
    let byte = |digits: &&[u8]| Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
    digits.iter().map(byte).collect()
}

fn refused(verdict: &Verdict, wanted: &[ReasonKind]) -> Result<()> {
    let found: Vec<_> = verdict.reasons.iter().map(|reason| reason.kind).collect();
    ensure!(found == wanted, "refused for {found:?}, not {wanted:?}");
    Ok(())
}

#[test]
fn a_mounts_evidence_is_trusted_and_other_tools_agree() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("swtpm"),
        Need::Program("tpm2_checkquote"),
        Need::Program("evmctl"),
        Need::Program("openssl")
    );
    let case = Case::new(6)?;
    let (status, verdict) = case.judge(NONCE, &[])?;
    ensure!(status == 0, "{verdict}");
    let count = |name: &str| verdict.pointer(&format!("/counts/{name}")).and_then(Value::as_u64);
    ensure!((count("entries"), count("proven"), count("signed")) == (Some(7), Some(7), Some(6)), "{verdict}");
    ensure!(verdict.pointer("/key/hierarchy") == Some(&"endorsement".into()), "{verdict}");
    // What was quoted is what the TPM holds.
    let values = case.tpm.pcr(10)?;
    for value in &values {
        let register = serde_json::json!({
            "bank": value.bank, "pcr": 10, "quoted": value.hex, "replayed": value.hex
        });
        let registers = verdict.get("registers").and_then(Value::as_array).context("no registers")?;
        ensure!(registers.contains(&register), "{register} is not among {registers:?}");
    }
    // tpm2-tools find the quote good, for this nonce alone.
    let file = std::fs::read(&case.evidence)?;
    let evidence = Evidence::parse(&file)?;
    let dir = case.stand.scratch.dir("checkquote")?;
    let length = u16::try_from(evidence.public.len())?;
    std::fs::write(dir.join("public"), [&length.to_be_bytes()[..], evidence.public].concat())?;
    std::fs::write(dir.join("attest"), evidence.attest)?;
    std::fs::write(dir.join("signature"), evidence.signature)?;
    let check = |nonce: &str| {
        let mut check = Command::new("tpm2_checkquote");
        check.args(["-u", "public", "-m", "attest", "-s", "signature", "-g", "sha256", "-q", nonce]);
        output(check.current_dir(&dir))
    };
    ensure!(check(NONCE)?.status.success(), "tpm2_checkquote refuses the quote");
    ensure!(!check(OTHER)?.status.success(), "tpm2_checkquote accepts another nonce");
    // And evmctl that the list leads to the registers.
    std::fs::write(dir.join("list"), evidence.list)?;
    pcrs::evmctl_accepts(&dir.join("list"), 7, &values, &dir)?;
    case.mount.stop().map(drop)
}

#[test]
fn each_thing_wrong_is_refused_for_its_own_reason() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let case = Case::new(4)?;
    let (status, verdict) = case.judge(OTHER, &[])?;
    ensure!(status == 1 && reasons(&verdict) == ["nonce"], "another nonce: {verdict}");
    let (trust, references) = (Trust::pin(case.key.as_bytes())?, case.references()?);
    let file = std::fs::read(&case.evidence)?;
    ensure!(ask(&file, &trust, &references)?.is_trusted(), "not trusted");
    let evidence = Evidence::parse(&file)?;
    let records = ima::parse_binary(evidence.list, HashAlgo::Sha1).collect::<Result<Vec<_>, _>>()?;
    let with = |order: &[usize]| -> Result<Verdict> {
        let mut list = Vec::new();
        for parsed in order.iter().filter_map(|number| records.get(*number)) {
            parsed.entry.write_binary_with(&mut list, &parsed.recorded);
        }
        ask(&Evidence { list: &list, ..evidence.clone() }.to_bytes()?, &trust, &references)
    };
    ensure!(with(&[0, 1, 2, 3, 4])?.is_trusted(), "the list is not written again as it was");
    refused(&with(&[0, 1, 3, 4])?, &[ReasonKind::Replay]).context("one dropped")?;
    refused(&with(&[0, 1, 3, 2, 4])?, &[ReasonKind::Replay]).context("two swapped")?;
    refused(&with(&[0, 1, 2, 3])?, &[ReasonKind::Replay]).context("the last dropped")?;
    refused(&with(&[0, 1, 2, 3, 4, 4])?, &[ReasonKind::UnprovenEntries]).context("one added")?;
    // Another TPM's key, by itself and with this key's quote.
    let elsewhere = integration::Scratch::new()?;
    let other = Swtpm::start(&elsewhere)?;
    let second = mount(&case.stand, &other, &["--ns-id", "second"])?;
    read(&second, 0..4)?;
    let theirs = case.stand.scratch.path().join("theirs");
    let key = quote(&second, NONCE, &theirs)?;
    ensure!(key != case.key, "two TPMs have one key");
    let theirs = std::fs::read(&theirs)?;
    refused(&ask(&theirs, &trust, &references)?, &[ReasonKind::UntrustedKey])?;
    let forged = Evidence { public: evidence.public, ..Evidence::parse(&theirs)? }.to_bytes()?;
    refused(&ask(&forged, &trust, &references)?, &[ReasonKind::UnsuitableKey, ReasonKind::Signature])?;
    second.stop()?;
    // A file without a signature, and one by a stranger.
    case.stand.file("file-4", "unsigned", 0o644)?;
    read(&case.mount, 4..5)?;
    let unsigned = case.stand.scratch.path().join("unsigned");
    quote(&case.mount, NONCE, &unsigned)?;
    refused(&ask(&std::fs::read(&unsigned)?, &trust, &references)?, &[ReasonKind::Unsigned])?;
    let stranger = case.stand.stranger()?;
    stranger.sign(&case.stand.file("file-5", "strange", 0o644)?)?;
    read(&case.mount, 5..6)?;
    quote(&case.mount, NONCE, &unsigned)?;
    let both = ask(&std::fs::read(&unsigned)?, &trust, &references)?;
    refused(&both, &[ReasonKind::Unsigned, ReasonKind::UnknownKey])?;
    // While somebody writes to it.
    let writer = std::fs::File::options().append(true).open(case.mount.path("file-0"))?;
    read(&case.mount, 0..1)?;
    drop(writer);
    quote(&case.mount, NONCE, &unsigned)?;
    let three = ask(&std::fs::read(&unsigned)?, &trust, &references)?;
    ensure!(three.reasons.iter().any(|reason| reason.kind == ReasonKind::Violation), "{:?}", three.reasons);
    Ok(())
}

#[test]
fn a_flipped_byte_anywhere_in_the_evidence_is_refused() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let case = Case::new(2)?;
    let (trust, references) = (Trust::pin(case.key.as_bytes())?, case.references()?);
    let mut file = std::fs::read(&case.evidence)?;
    ensure!(ask(&file, &trust, &references)?.is_trusted(), "not trusted");
    for offset in 0..file.len() {
        for flip in [0x01, 0x80] {
            if let Some(byte) = file.get_mut(offset) {
                *byte ^= flip;
            }
            // What cannot be read is not trusted either.
            if let Ok(verdict) = ask(&file, &trust, &references) {
                ensure!(!verdict.is_trusted(), "byte {offset} ^ {flip:#x} is trusted");
                ensure!(!verdict.reasons.is_empty(), "byte {offset} ^ {flip:#x} is refused without a reason");
            }
            if let Some(byte) = file.get_mut(offset) {
                *byte ^= flip;
            }
        }
    }
    ensure!(ask(&file, &trust, &references)?.is_trusted(), "not as it was");
    Ok(())
}

#[test]
fn later_evidence_goes_on_from_earlier_and_not_the_other_way_round() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let mut case = Case::new(4)?;
    case.stand.file("more", "more", 0o644)?;
    case.stand.sign("more")?;
    std::fs::read(case.mount.path("more"))?;
    let later = case.stand.scratch.path().join("later");
    quote(&case.mount, OTHER, &later)?;
    let ring = case.ring()?;
    let judge_after = |evidence: &Path, nonce: &str, earlier: &Path| {
        let earlier = earlier.to_str().context("not UTF-8")?;
        judge(evidence, nonce, &["--ak", &case.key, "--keyring", &ring, "--after", earlier])
    };
    let (status, verdict) = judge_after(&later, OTHER, &case.evidence)?;
    ensure!(status == 0, "{verdict}");
    // Also where somebody has the old nonce accepted, the old quote is not.
    let (status, verdict) = judge_after(&case.evidence, NONCE, &later)?;
    ensure!(status == 1 && reasons(&verdict) == ["rollback"], "{verdict}");
    // A TPM that was restarted has the whole list again, and has counted it.
    case.tpm.kill()?;
    case.tpm.restart()?;
    case.stand.file("after", "after", 0o644)?;
    case.stand.sign("after")?;
    std::fs::read(case.mount.path("after"))?;
    let restarted = case.stand.scratch.path().join("restarted");
    quote(&case.mount, NONCE, &restarted)?;
    let judge_after = |evidence: &Path, nonce: &str, earlier: &Path| {
        let earlier = earlier.to_str().context("not UTF-8")?;
        judge(evidence, nonce, &["--ak", &case.key, "--keyring", &ring, "--after", earlier])
    };
    let (status, verdict) = judge_after(&restarted, NONCE, &later)?;
    ensure!(status == 0, "{verdict}");
    let (status, verdict) = judge_after(&later, OTHER, &restarted)?;
    ensure!(status == 1 && reasons(&verdict) == ["rollback"], "{verdict}");
    Ok(())
}

#[test]
fn evidence_is_of_one_moment_while_files_are_measured() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    const FILES: usize = 400;
    let stand = signed(FILES)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let mount = mount(&stand, &tpm, &[])?;
    let ring = stand.keys.certificate.to_str().context("not UTF-8")?.to_owned();
    std::thread::scope(|scope| -> Result<()> {
        let load = [0..FILES / 2, FILES / 2..FILES].map(|half| scope.spawn(|| read(&mount, half)));
        let mut last = 0;
        for round in 0..8 {
            let evidence = stand.scratch.path().join(format!("evidence-{round}"));
            let key = quote(&mount, NONCE, &evidence)?;
            let (status, verdict) = judge(&evidence, NONCE, &["--ak", &key, "--keyring", &ring])?;
            ensure!(status == 0, "{verdict}");
            let entries = verdict.pointer("/counts/entries").and_then(Value::as_u64).context("no count")?;
            ensure!(entries >= last, "the list has shrunk from {last} to {entries}");
            last = entries;
        }
        load.into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    Ok(())
}

#[test]
fn strangers_are_served_within_bounds_and_hold_nobody_up() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let stand = signed(40)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let socket = stand.scratch.path().join("attest.sock");
    let place = format!("unix:{}", socket.display());
    let mount = mount(&stand, &tpm, &["--attest", &place])?;
    read(&mount, 0..5)?;
    let get = |place: &str, to: &Path| -> Result<std::process::Output> {
        let mut quote = Command::new(ours("imafs-attest")?);
        quote.args(["quote", "--socket", place, "--nonce", NONCE, "--output"]).arg(to);
        output(&mut quote)
    };
    let to = stand.scratch.path().join("evidence");
    let out = get(&place, &to)?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let say = |words: &[u8]| -> Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        // It may have heard enough before it was all said.
        let _heard = stream.write_all(words);
        let mut answer = Vec::new();
        let _cut = stream.take(200).read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ensure!(say(b"status\n")?.starts_with("error a request is"), "the mount's own requests are served");
    ensure!(say(b"stop\n")?.starts_with("error a request is"), "the mount can be stopped");
    ensure!(say(b"quote 00\n")?.starts_with("error a nonce has"), "a short nonce is taken");
    ensure!(say(format!("quote {}\n", "00".repeat(65)).as_bytes())?.starts_with("error a nonce has"));
    ensure!(say(b"quote xy\n")?.starts_with("error the nonce is not hex"));
    ensure!(say(&[b'q'; 100_000])?.is_empty(), "an endless request is answered");
    // Some who say nothing, as many as are served at once, and more: files are measured all the same.
    let idle = (0..8).map(|_| UnixStream::connect(&socket)).collect::<Result<Vec<_>, _>>()?;
    let refused = integration::process::until(std::time::Duration::from_secs(5), || {
        Ok(say(format!("quote {NONCE}\n").as_bytes())?.starts_with("error too many"))
    })?;
    ensure!(refused, "there is no bound");
    read(&mount, 5..20)?;
    // Root asks at the mount's own socket.
    quote(&mount, NONCE, &to)?;
    drop(idle);
    let again = integration::process::until(std::time::Duration::from_secs(30), || {
        Ok(get(&place, &to)?.status.success())
    })?;
    ensure!(again, "nobody is served any more");
    mount.stop()?;
    ensure!(!socket.exists(), "the socket is left behind");
    Ok(())
}

#[test]
fn evidence_comes_over_tcp_too() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let stand = signed(2)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let place = format!("tcp:127.0.0.1:{port}");
    let mount = mount(&stand, &tpm, &["--attest", &place])?;
    read(&mount, 0..2)?;
    let to = stand.scratch.path().join("evidence");
    let mut quote = Command::new(ours("imafs-attest")?);
    succeed(quote.args(["quote", "--socket", &place, "--nonce", NONCE, "--output"]).arg(&to))?;
    Evidence::parse(&std::fs::read(&to)?)?;
    mount.stop().map(drop)
}

#[test]
fn without_a_tpm_there_is_nothing_to_quote() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"), Need::Program("openssl"));
    let stand = signed(1)?;
    let mount = stand.mount()?.policy(POLICY)?.start()?;
    let to = stand.scratch.path().join("evidence");
    let mut quote = Command::new(ours("imafs-attest")?);
    quote.env("IMAFS_RUN_DIR", mount.run_dir()).args(["quote", "--nonce", NONCE, "--output"]).arg(&to);
    let out = output(quote.arg("--mount").arg(mount.target()))?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && words.contains("has no TPM"), "{}: {words}", out.status);
    ensure!(!to.exists(), "a file is left behind");
    let builder = stand.mount()?.policy(POLICY)?.args(["--attest", "unix:/nowhere/sock"]);
    let out = output(&mut builder.command()?)?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && words.contains("--tpm"), "{}: {words}", out.status);
    Ok(())
}

/// A certificate of the attestation key by an authority, for this purpose.
fn certify(dir: &Path, public: &Path, purpose: &str) -> Result<(PathBuf, PathBuf)> {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 \
         -subj '/CN=AK authority' -addext 'basicConstraints=critical,CA:true' 2>&1 && \
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout any.key -out any.csr \
         -subj '/CN=the AK' 2>&1 && \
         printf 'extendedKeyUsage={purpose}\\n' > ext && \
         openssl x509 -req -in any.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext \
         -force_pubkey {} -out ak.pem 2>&1",
        public.display()
    );
    succeed(Command::new("sh").args(["-c", &script]).current_dir(dir))?;
    Ok((dir.join("ca.pem"), dir.join("ak.pem")))
}

#[test]
fn an_authority_vouches_for_keys_that_it_certified_as_attestation_keys() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("swtpm"),
        Need::Program("tpm2_print"),
        Need::Program("evmctl"),
        Need::Program("openssl")
    );
    let case = Case::new(2)?;
    let dir = case.stand.scratch.dir("authority")?;
    let file = std::fs::read(&case.evidence)?;
    let public = Evidence::parse(&file)?.public.to_vec();
    let length = u16::try_from(public.len())?;
    std::fs::write(dir.join("public"), [&length.to_be_bytes()[..], &public].concat())?;
    let pem = succeed(
        Command::new("tpm2_print").args(["-t", "TPM2B_PUBLIC", "-f", "pem", "public"]).current_dir(&dir),
    )?;
    std::fs::write(dir.join("public.pem"), &pem)?;
    let ring = case.ring()?;
    let stranger = case.stand.stranger()?;
    let path = |path: &Path| path.to_str().map(str::to_owned).context("not UTF-8");
    // The key itself, as tpm2-tools write it.
    let (status, verdict) =
        judge(&case.evidence, NONCE, &["--ak", &path(&dir.join("public.pem"))?, "--keyring", &ring])?;
    ensure!(status == 0, "{verdict}");
    for (purpose, wanted) in [("2.23.133.8.3", 0), ("serverAuth", 1)] {
        let dir = case.stand.scratch.dir(&format!("authority-{wanted}"))?;
        let (authority, certificate) =
            certify(&dir, &case.stand.scratch.path().join("authority/public.pem"), purpose)?;
        let tpm = &case.tpm;
        let other_pcr = if wanted == 0 { "11" } else { "12" };
        let more = [
            "--ak-cert",
            &path(&certificate)?,
            "--pcr",
            other_pcr,
            "--ns-id",
            &format!("certified-{wanted}"),
        ];
        let mount = mount(&case.stand, tpm, &more)?;
        read(&mount, 0..2)?;
        let evidence = dir.join("evidence");
        quote(&mount, NONCE, &evidence)?;
        let judge = |authority: &Path| {
            let authority = path(authority)?;
            judge(&evidence, NONCE, &["--ca", &authority, "--keyring", &ring, "--pcr", other_pcr])
        };
        let (status, verdict) = judge(&authority)?;
        ensure!(status == wanted, "{purpose}: {verdict}");
        let untrusted = ["untrusted-key"];
        ensure!(status == 0 || reasons(&verdict) == untrusted, "{purpose}: {verdict}");
        // A stranger's authority vouches for nothing.
        let (status, verdict) = judge(&stranger.certificate)?;
        ensure!(status == 1 && reasons(&verdict) == untrusted, "a stranger: {verdict}");
        mount.stop()?;
    }
    Ok(())
}

#[test]
fn quotes_by_other_tools_keys_are_read() -> Result<()> {
    need!(Need::Program("swtpm"), Need::Program("tpm2_quote"), Need::Program("tpm2_createprimary"));
    let scratch = integration::Scratch::new()?;
    let tpm = Swtpm::start(&scratch)?;
    let dir = scratch.dir("quotes")?;
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
    let all = BANKS.map(|bank| format!("{bank}:0,7,10")).join("+");
    let keys = [
        ("rsa2048:rsassa-sha256:null", "rsassa", "sha256"),
        ("rsa2048:rsapss-sha256:null", "rsapss", "sha256"),
        ("ecc384:ecdsa-sha384:null", "ecdsa", "sha384"),
    ];
    for (number, (algorithm, scheme, hash)) in keys.into_iter().enumerate() {
        let name = |what: &str| format!("{what}-{number}");
        let run = |program: &str, args: &[&str]| {
            succeed(Command::new(program).args(["--tcti", &tpm.tcti()]).args(args).current_dir(&dir))
        };
        run(
            "tpm2_createprimary",
            &["-C", "e", "-g", "sha256", "-G", algorithm, "-a", attributes, "-c", &name("key")],
        )?;
        run("tpm2_readpublic", &["-c", &name("key"), "-o", &name("public"), "-n", &name("name")])?;
        let quote = [
            "--scheme",
            scheme,
            "-g",
            hash,
            "-l",
            &all,
            "-q",
            NONCE,
            "-m",
            &name("attest"),
            "-s",
            &name("signature"),
        ];
        run("tpm2_quote", &[&["-c", &name("key")], &quote[..]].concat())?;
        let file = |what: &str| std::fs::read(dir.join(name(what))).context("not written");
        let public = file("public")?;
        let public = attest::tpm::Public::parse(public.get(2..).unwrap_or_default())?;
        ensure!(public.name() == file("name")?, "{algorithm}: another name");
        let message = file("attest")?;
        let attest = attest::tpm::Attest::parse(&message)?;
        ensure!(attest.is_generated && attest.is_quote && attest.extra_data == hex(NONCE)?, "{attest:?}");
        ensure!(attest.selection.len() == BANKS.len(), "{attest:?}");
        ensure!(public.hierarchy(attest.qualified_signer) == Some("endorsement"), "{attest:?}");
        let signature = attest::tpm::Signature::parse(&file("signature")?)?;
        ensure!(attest::tpm::verify(&public.material, &message, &signature), "{algorithm}: not accepted");
        let mut changed = message.clone();
        changed.reverse();
        ensure!(
            !attest::tpm::verify(&public.material, &changed, &signature),
            "{algorithm}: a changed one is"
        );
        // A TPM keeps few keys at once.
        run("tpm2_flushcontext", &["-t"])?;
    }
    Ok(())
}
