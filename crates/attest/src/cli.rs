//! The command line of `imafs-attest`, as definitions; help, man pages and completions come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ima::{Digest, HashAlgo, PcrIndex};

/// Fetch quotes of measurement lists, and say whether a list is to be trusted.
#[derive(Debug, Parser)]
#[command(
    name = "imafs-attest",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 trusted, or done; 1 refused, and each reason is listed; 2 could not find out, bad usage included."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Ask a mount for evidence: a quote by its TPM, and the list up to it.
    Quote(QuoteArgs),
    /// Say whether evidence is to be trusted, and why not.
    Verify(VerifyArgs),
    /// The same as a page for people: one HTML file that needs no network.
    Report(ReportArgs),
    /// Make a Keylime runtime policy of a root filesystem.
    Policy(PolicyArgs),
}

/// `imafs-attest quote`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-attest quote --mount /mnt/web --nonce $(openssl rand -hex 32) -o web.evidence\n  \
    imafs-attest quote --socket tcp:192.0.2.7:4750 --nonce $NONCE -o web.evidence\n\n\
    The nonce is the verifier's own, made anew for each question and kept for imafs-attest verify.\n\
    It prints the name of the attestation key, which a verifier trusts with --ak.")]
pub struct QuoteArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub from: FromArgs,
    /// The verifier's nonce, in hex: 16 to 64 bytes.
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    pub nonce: Nonce,
    /// Where the evidence goes.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Whom to ask.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct FromArgs {
    /// The imafs that is mounted here on this machine; as root.
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
    /// An imafs that was mounted with --attest: unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<SocketPlace>,
}

/// Where evidence is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPlace {
    /// A unix socket.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

impl std::str::FromStr for SocketPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            Some(_) | None => Err("write unix:PATH or tcp:HOST:PORT".to_owned()),
        }
    }
}

impl std::fmt::Display for SocketPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// `imafs-attest verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-attest verify web.evidence --nonce $NONCE --ak 000b9e2c... --digests image.sha256\n  \
    imafs-attest verify web.evidence --nonce $NONCE --ak ak.pem --keyring /etc/keys/image\n  \
    imafs-attest verify web.evidence --nonce $NONCE --ca ak-ca.pem --runtime-policy image.json --json\n  \
    imafs-attest verify host.evidence --nonce $NONCE --ak ak.pem --ns web --keyring /etc/keys/image\n\n\
    The nonce is the one that the evidence was asked for with, which nobody could have known before.\n\
    Exit status: 0 trusted; 1 refused, and each reason is listed; 2 could not find out.")]
pub struct VerifyArgs {
    /// What is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
    /// Which entries to list.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "offending")]
    pub entries: Entries,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `imafs-attest report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-attest report web.evidence --nonce $NONCE --ak ak.pem --keyring /etc/keys/image -o web.html\n  \
    imafs status web --show audit > audit.json\n  \
    imafs-attest report web.evidence --nonce $NONCE --ak ak.pem --digests image.sha256 --audit audit.json -o web.html\n\n\
    Exit status: 0 the page was written, and the evidence is trusted; 1 it was written, and the evidence is refused; 2 \
    there is no page.")]
pub struct ReportArgs {
    /// What is asked.
    #[command(flatten)]
    pub question: QuestionArgs,
    /// The page [default: the evidence's name with .html]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Audit records of the mount as JSON lines, to show what it refused.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
}

/// What evidence is asked.
#[derive(Debug, Args)]
pub struct QuestionArgs {
    /// The evidence, as `imafs-attest quote` writes it.
    #[arg(value_name = "EVIDENCE")]
    pub evidence: PathBuf,
    /// The nonce that the evidence was asked for with, in hex.
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    pub nonce: Nonce,
    /// Which attestation key is trusted.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What the entries are held against.
    #[command(flatten)]
    pub reference: ReferenceArgs,
    /// Earlier evidence of the same list: this must go on from it, and the TPM's clock must not have gone back.
    #[arg(long, value_name = "EVIDENCE")]
    pub after: Option<PathBuf>,
    /// Judge the entries of this mount alone, by its --ns-id: for evidence of a TPM that mounts share by a host list.
    #[arg(long, value_name = "ID")]
    pub ns: Option<String>,
    /// PCR that the list extends, and nothing else (repeatable) [default: 10]
    #[arg(long, value_name = "N", value_parser = parse_pcr)]
    pub pcr: Vec<PcrIndex>,
    /// Let violations pass: files that were open for writing while they were measured.
    #[arg(long)]
    pub insecure_allow_violations: bool,
    /// Ignore entries beyond those that the quote covers, instead of refusing the list.
    #[arg(long)]
    pub insecure_allow_unproven: bool,
}

/// `imafs-attest policy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-attest policy /srv/rootfs -o image.json\n  \
    imafs-attest policy rootfs.tar --exclude '/var/log/.*' -o image.json\n  \
    imafs-attest verify web.evidence --nonce $NONCE --ak ak.pem --runtime-policy image.json\n\n\
    Every regular file is listed with its digest. Keylime's verifier reads the policy as it is.")]
pub struct PolicyArgs {
    /// A directory, or a tar archive that is not compressed.
    #[arg(value_name = "ROOTFS|TAR")]
    pub source: PathBuf,
    /// Where the policy goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Hash algorithm of the list's file digests.
    #[arg(short = 'a', long, value_name = "NAME", default_value = "sha256", value_parser = parse_algo)]
    pub hash_algo: HashAlgo,
    /// Leave out of account what begins with this regular expression (repeatable).
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// What the list may begin with, as algorithm:hex, for verifiers to whom the boot's registers are not quoted.
    #[arg(long, value_name = "DIGEST")]
    pub boot_aggregate: Vec<Digest>,
}

/// Which attestation key is trusted.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TrustArgs {
    /// Trust this key: its name in hex, as `imafs-attest quote` prints it, or a file with its public key or certificate.
    #[arg(long, value_name = "NAME|FILE")]
    pub ak: Option<PathBuf>,
    /// Trust keys that one of these authorities has certified: a certificate or a directory of them.
    #[arg(long, value_name = "FILE|DIR")]
    pub ca: Option<PathBuf>,
}

/// What the entries are held against. An entry is accepted when one of them accepts it.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct ReferenceArgs {
    /// Lines of digest and path, as `imafs-sign hash` and sha256sum print them (repeatable).
    #[arg(long, value_name = "FILE")]
    pub digests: Vec<PathBuf>,
    /// Keylime runtime policy (repeatable).
    #[arg(long, value_name = "FILE")]
    pub runtime_policy: Vec<PathBuf>,
    /// Manifest of labels, as `imafs-sign manifest` writes it: each file must be what its path's label says
    /// (repeatable).
    #[arg(long, value_name = "FILE", requires = "keyring")]
    pub manifest: Vec<PathBuf>,
    /// Certificates by which files are signed: a certificate or a directory of them (repeatable). Without another
    /// reference every file must be signed; with --manifest they vouch for the manifests and what is in them alone.
    #[arg(long, value_name = "FILE|DIR")]
    pub keyring: Vec<PathBuf>,
    /// Directory that absolute paths of --digests begin with.
    #[arg(long, value_name = "DIR", requires = "digests")]
    pub root: Option<PathBuf>,
}

/// Which entries an answer lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Entries {
    /// Those that were not accepted, at most 1000.
    Offending,
    /// All.
    All,
}

/// A nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(pub Vec<u8>);

/// The shortest nonce: one that is shorter may come again.
pub const MIN_NONCE: usize = 16;
/// The longest that a TPM takes.
pub const MAX_NONCE: usize = 64;

/// Reads a nonce in hex.
///
/// # Errors
/// What is wrong with it.
pub fn parse_nonce(text: &str) -> Result<Nonce, String> {
    let bytes =
        hex::decode(text).map_err(|_| "a nonce is an even number of hexadecimal digits".to_owned())?;
    if (MIN_NONCE..=MAX_NONCE).contains(&bytes.len()) {
        Ok(Nonce(bytes))
    } else {
        Err(format!("a nonce has {MIN_NONCE} to {MAX_NONCE} bytes; make one with: openssl rand -hex 32"))
    }
}

/// The registers that software may reset, so that a list in them proves nothing.
const RESETTABLE: [u32; 2] = [16, 23];

fn parse_algo(text: &str) -> Result<HashAlgo, String> {
    HashAlgo::from_name(text).filter(|algo| algo.is_in_kernels() && algo.digest_len() >= 20).ok_or_else(
        || "not a hash algorithm of runtime policies (sha1, sha256, sha384, sha512, ...)".to_owned(),
    )
}

fn parse_pcr(text: &str) -> Result<PcrIndex, String> {
    let pcr = text.parse().ok().and_then(PcrIndex::new).filter(|pcr| pcr.value() < 24);
    let pcr = pcr.ok_or_else(|| "a TPM has the PCRs 0 to 23".to_owned())?;
    if RESETTABLE.contains(&pcr.value()) {
        return Err("anybody who may use the TPM can reset that PCR: a list in it proves nothing".to_owned());
    }
    Ok(pcr)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verifying_needs_a_nonce_one_trust_and_a_reference() {
        let parse = |more: &[&str]| {
            let words = ["imafs-attest", "verify", "e"].iter().chain(more);
            Cli::try_parse_from(words).is_ok()
        };
        let nonce = "00".repeat(16);
        assert!(parse(&["--nonce", &nonce, "--ak", "k", "--keyring", "d"]));
        assert!(!parse(&["--ak", "k", "--keyring", "d"]));
        assert!(!parse(&["--nonce", &nonce, "--keyring", "d"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k", "--ca", "c", "--keyring", "d"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k", "--root", "/"]));
        assert!(parse(&["--nonce", &nonce, "--ak", "k", "--manifest", "m", "--keyring", "d"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k", "--manifest", "m"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k", "--manifest", "m", "--digests", "d"]));
        assert!(!parse(&["--nonce", &"00".repeat(15), "--ak", "k", "--keyring", "d"]));
        assert!(!parse(&["--nonce", &"00".repeat(65), "--ak", "k", "--keyring", "d"]));
        assert!(!parse(&["--nonce", &nonce, "--ak", "k", "--keyring", "d", "--pcr", "16"]));
        assert!(parse(&["--nonce", &nonce, "--ak", "k", "--keyring", "d", "--pcr", "11"]));
    }
}
