//! Asking a mount for evidence, and `imafs-attest` for a verdict on it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

use crate::Mount;
use crate::process::{ours, output, succeed};

/// A verifier's nonce.
pub const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Puts evidence of this mount into a file; returns the name of the attestation key as it was printed.
///
/// # Errors
/// Fails when `imafs-attest quote` does.
pub fn quote(mount: &Mount, nonce: &str, to: &Path) -> Result<String> {
    let mut quote = Command::new(ours("imafs-attest")?);
    quote.env("IMAFS_RUN_DIR", mount.run_dir()).args(["quote", "--nonce", nonce, "--mount"]);
    let words = succeed(quote.arg(mount.target()).arg("--output").arg(to))?;
    let line = words.lines().find_map(|line| line.strip_prefix("key ")).context("no key is named")?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

/// What `imafs-attest verify` says of evidence: its exit status, 0 or 1, and its verdict.
///
/// # Errors
/// Fails when it could not find out, telling what it said.
pub fn judge(evidence: &Path, nonce: &str, more: &[&str]) -> Result<(i32, Value)> {
    let mut judge = Command::new(ours("imafs-attest")?);
    judge.arg("verify").arg(evidence).args(["--nonce", nonce, "--json"]).args(more);
    let out = output(&mut judge)?;
    let status = out.status.code().context("no exit status")?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(status != 2, "it could not find out: {words}");
    Ok((status, serde_json::from_slice(&out.stdout).context("not JSON")?))
}

/// The kinds of a verdict's reasons.
pub fn reasons(verdict: &Value) -> Vec<String> {
    let reasons = verdict.get("reasons").and_then(Value::as_array).cloned().unwrap_or_default();
    let kind = |reason: &Value| reason.get("kind").and_then(Value::as_str).map(str::to_owned);
    reasons.iter().filter_map(kind).collect()
}
