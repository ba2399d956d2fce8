//! Keylime's own parser of measurement lists as a judge: its verifier's function, called as the verifier calls it.
//!
//! It runs in the environment that `scripts/install-keylime.sh` makes. No Keylime service runs, and none is configured.

use crate::process::{repository, succeed};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter that has Keylime.
pub fn python() -> PathBuf {
    repository().join("target/tools/keylime/bin/python")
}

/// What is put before Keylime. The defaults ask for nothing but the PCR.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The ASCII list.
    pub list: Vec<u8>,
    /// The bank, and the value of PCR 10 in it.
    pub bank: String,
    /// See `bank`.
    pub pcr: String,
    /// Algorithm of the list's template digests; SHA-1 where none is named.
    pub list_algo: Option<String>,
    /// The files that the list may name: each path with the digests it may have. `None`: any.
    pub allowed: Option<Value>,
    /// As `allowed`, for the keys in `ima-buf` entries: each keyring with the digests of its certificates.
    pub keyrings: Option<Value>,
    /// A certificate that file signatures are verified by.
    pub certificate: Option<PathBuf>,
}

/// What Keylime says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// PCR 10 as the list gives it.
    pub pcr: String,
    /// The ids of all that is wrong, each once, in order; empty when nothing is.
    pub wrong: Vec<String>,
}

/// Reads the question from standard input, as JSON, and prints the answer. The list comes as it comes from an agent:
/// one string.
const JUDGE: &str = r#"
import json, logging, os, sys
# Violations are no failure of the list. (The option's name says the opposite of what 7.14 does with it.)
os.environ["KEYLIME_VERIFIER_IGNORE_TOMTOU_ERRORS"] = "false"
logging.disable(logging.CRITICAL)
from keylime.common.algorithms import Hash
from keylime.ima import file_signatures, ima

asked = json.load(sys.stdin)
lines = open(asked["list"], "rb").read().decode("utf-8").split("\n")
policy = None
if asked["allowed"] is not None or asked["list_algo"] is not None:
    policy = ima.empty_policy()
    policy["digests"] = asked["allowed"] or {}
    policy["keyrings"] = asked["keyrings"] or {}
    policy["ima"]["log_hash_alg"] = asked["list_algo"] or "sha1"
    ima.validate_runtime_policy(policy)
keyrings = None
if asked["certificate"]:
    keyring = file_signatures.ImaKeyring()
    keyring.add_pubkey(*file_signatures.get_pubkey_from_file(asked["certificate"]))
    keyrings = file_signatures.ImaKeyrings()
    keyrings.set_tenant_keyring(keyring)
pcr, failure = ima.process_measurement_list(
    None, lines, policy, asked["pcr"], keyrings, hash_alg=Hash(asked["bank"]))
wrong = sorted({event.event_id for event in failure.events})
print(json.dumps({"pcr": pcr, "wrong": wrong}))
"#;

/// Asks Keylime. `dir` is a place for the list.
///
/// # Errors
/// Fails when Keylime does in any way but by finding the list wrong.
pub fn ask(question: &Question, dir: &Path) -> Result<Answer> {
    let list = dir.join("keylime-list");
    std::fs::write(&list, &question.list).context("cannot write the list")?;
    let asked = json!({
        "list": list,
        "bank": question.bank,
        "pcr": question.pcr,
        "list_algo": question.list_algo,
        "allowed": question.allowed,
        "keyrings": question.keyrings,
        "certificate": question.certificate,
    });
    let input = dir.join("keylime-question");
    std::fs::write(&input, asked.to_string()).context("cannot write the question")?;
    let mut keylime = Command::new(python());
    keylime.args(["-I", "-c", JUDGE]).stdin(Stdio::from(std::fs::File::open(&input)?));
    let answer: Value = serde_json::from_str(&succeed(&mut keylime)?).context("cannot read the answer")?;
    let wrong = answer.get("wrong").and_then(Value::as_array).context("no list of what is wrong")?;
    Ok(Answer {
        pcr: answer.get("pcr").and_then(Value::as_str).context("no PCR")?.to_owned(),
        wrong: wrong.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}
