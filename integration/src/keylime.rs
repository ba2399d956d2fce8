//! Keylime as a judge of lists and quotes: its verifier's functions, called as the verifier calls them.
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
    /// See `bank`. Not asked for where there is a quote, which has it.
    pub pcr: String,
    /// A TPM's quote of that PCR.
    pub quote: Option<Quoted>,
    /// Algorithm of the list's template digests; SHA-1 where none is named.
    pub list_algo: Option<String>,
    /// The files that the list may name: each path with the digests it may have. `None`: any.
    pub allowed: Option<Value>,
    /// As `allowed`, for the keys in `ima-buf` entries: each keyring with the digests of its certificates.
    pub keyrings: Option<Value>,
    /// A certificate that file signatures are verified by.
    pub certificate: Option<PathBuf>,
}

/// A quote in the form of Keylime's protocol between agent and verifier.
#[derive(Debug, Clone)]
pub struct Quoted {
    /// The quote.
    pub quote: String,
    /// The key that it has to be signed by, as the registrar has it.
    pub key: String,
    /// What the verifier asked with.
    pub nonce: String,
}

/// What Keylime says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// PCR 10 as the list gives it; empty for a quote, of which Keylime does not tell.
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
text = open(asked["list"], "rb").read().decode("utf-8")
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
if asked["quote"]:
    from keylime.mba import mba
    from keylime.tpm.tpm_main import Tpm
    # As the verifier does when it starts.
    mba.load_imports(skip_custom_policies=True)
    pcr = ""
    # Without a policy that wants this register 7.14 would take a quote whose signature is wrong: that error has no
    # text, so it counts as none, and what has no registers has none that are wrong.
    failure = Tpm().check_quote(
        None, asked["nonce"], None, asked["quote"], asked["key"], {"10": []}, text, policy, Hash(asked["bank"]),
        keyrings)
else:
    pcr, failure = ima.process_measurement_list(
        None, text.split("\n"), policy, asked["pcr"], keyrings, hash_alg=Hash(asked["bank"]))
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
        "quote": question.quote.as_ref().map(|quoted| &quoted.quote),
        "key": question.quote.as_ref().map(|quoted| &quoted.key),
        "nonce": question.quote.as_ref().map(|quoted| &quoted.nonce),
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
