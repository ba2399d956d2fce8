//! PCR values, and `evmctl ima_measurement` as the judge of whether a list replays to them.

use crate::process::output;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One PCR of one bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Hash algorithm of the bank, as the kernel spells it.
    pub bank: String,
    /// Which register.
    pub index: u32,
    /// Its value, lower-case hexadecimal.
    pub hex: String,
}

/// Reads lines of bank, PCR number and value, as `/.imafs/pcrs` has them.
///
/// # Errors
/// Fails on any line of another shape.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    text.lines().filter(|l| !l.trim().is_empty()).map(parse_line).collect()
}

fn parse_line(line: &str) -> Result<Value> {
    let mut words = line.split_whitespace();
    let (Some(bank), Some(index), Some(hex), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("not bank, PCR and value: {line:?}");
    };
    ensure!(hex.bytes().all(|b| b.is_ascii_hexdigit()), "not hexadecimal: {line:?}");
    let index = index.parse().with_context(|| format!("not a PCR number: {line:?}"))?;
    Ok(Value { bank: bank.to_owned(), index, hex: hex.to_ascii_lowercase() })
}

/// Writes one bank the way `evmctl --pcrs` reads it: `PCR-00: HEX` for 0 to 23, in order, zeros where unknown.
///
/// Source: `read_one_bank`, ima-evm-utils 1.4, src/evmctl.c; it stops understanding at the first number missing.
fn evmctl_file(values: &[Value], bank: &str, dir: &Path) -> Result<PathBuf> {
    let width = match bank {
        "sha1" => 40,
        "sha256" => 64,
        other => bail!("no width known for bank {other}"),
    };
    let mut text = String::new();
    for index in 0..24 {
        let known = values.iter().find(|v| v.bank == bank && v.index == index).map(|v| v.hex.as_str());
        let zeros = "0".repeat(width);
        writeln!(text, "PCR-{index:02}: {}", known.unwrap_or(&zeros)).context("cannot write")?;
    }
    let path = dir.join(format!("pcrs-{bank}"));
    std::fs::write(&path, text).context("cannot write the PCR file")?;
    Ok(path)
}

/// Asks evmctl whether a binary measurement list of `entries` entries replays to these values of PCR 10, in the
/// SHA-1 and SHA-256 banks, with its very last entry.
///
/// # Errors
/// Fails with evmctl's words when it says no, or meets the values before the end of the list.
pub fn evmctl_accepts(list: &Path, entries: u64, values: &[Value], dir: &Path) -> Result<()> {
    evmctl_says(list, entries, values, dir, &[]).map(drop)
}

/// What PCR 10 of a bank holds after a binary list of templates other than `ima`, by arithmetic of this crate's own:
/// evmctl 1.4 knows no banks but SHA-1 and SHA-256.
///
/// # Errors
/// Fails for a list cut off or a bank not known here.
pub fn replay(list: &[u8], bank: &str) -> Result<Value> {
    let hash = |data: &[&[u8]]| -> Result<Vec<u8>> {
        Ok(match bank {
            "sha1" => digest::<sha1::Sha1>(data),
            "sha256" => digest::<sha2::Sha256>(data),
            "sha384" => digest::<sha2::Sha384>(data),
            "sha512" => digest::<sha2::Sha512>(data),
            other => bail!("bank {other} is not known"),
        })
    };
    let mut pcr = vec![0; hash(&[])?.len()];
    let mut rest = list;
    while !rest.is_empty() {
        let head = take(&mut rest, 24)?;
        counted(&mut rest)?;
        let data = counted(&mut rest)?;
        if !head.starts_with(&10_u32.to_le_bytes()) {
            continue;
        }
        let violation = head.get(4..).is_some_and(|digest| digest.iter().all(|byte| *byte == 0));
        let value = if violation { vec![0xff; pcr.len()] } else { hash(&[data])? };
        pcr = hash(&[&pcr, &value])?;
    }
    let hex = pcr.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Value { bank: bank.to_owned(), index: 10, hex })
}

fn digest<D: sha2::Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = D::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_vec()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("the list is cut off")?;
    *rest = left;
    Ok(taken)
}

/// A length of four bytes, and as much after it.
fn counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length: [u8; 4] = take(rest, 4)?.try_into().context("no length")?;
    take(rest, usize::try_from(u32::from_le_bytes(length))?)
}

/// As [`evmctl_accepts`], and evmctl verifies so many signatures in the list, and fails at none, by the key of this
/// certificate in DER.
///
/// # Errors
/// As [`evmctl_accepts`]; also when other signatures verify than that.
pub fn evmctl_verifies(
    list: &Path,
    entries: u64,
    values: &[Value],
    dir: &Path,
    (certificate, signatures): (&Path, usize),
) -> Result<()> {
    let key = [OsStr::new("--verify-sig"), OsStr::new("--key"), certificate.as_os_str()];
    let words = evmctl_says(list, entries, values, dir, &key)?;
    // evmctl 1.4 ends with 0 whatever it thinks of the signatures.
    let good = words.lines().filter(|line| line.ends_with(": verification is OK")).count();
    let bad = words.lines().filter(|line| line.contains(": verification failed")).count();
    ensure!((good, bad) == (signatures, 0), "{good} signatures verify and {bad} do not, of {signatures}");
    Ok(())
}

/// What evmctl says of a list that it accepts.
fn evmctl_says(list: &Path, entries: u64, values: &[Value], dir: &Path, more: &[&OsStr]) -> Result<String> {
    let mut evmctl = Command::new("evmctl");
    evmctl.args(["ima_measurement", "--ignore-violations"]).args(more);
    for bank in ["sha1", "sha256"] {
        let mut option = std::ffi::OsString::from(format!("{bank},"));
        option.push(evmctl_file(values, bank, dir)?);
        evmctl.arg("--pcrs").arg(option);
    }
    let out = output(evmctl.arg("-v").arg(list))?;
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success(), "evmctl says no: {}\n{}", out.status, tail(&words));
    for bank in ["sha1", "sha256"] {
        let agreed = format!("{bank} PCR-10: succeed at entry {entries}");
        ensure!(
            words.lines().any(|line| line == agreed),
            "evmctl does not say `{agreed}`:\n{}",
            tail(&words)
        );
    }
    // It would also be content with SHA-1 digests padded to the width of the bank, as kernels before 5.8 made them.
    ensure!(words.contains("Matched per TPM bank calculated digest(s)"), "not by bank:\n{}", tail(&words));
    Ok(words)
}

/// The last lines of a long text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}
