//! The command line of `imafs-sign`, as definitions; help, man pages and completions come from here.
//!
//! Where an option means what evmctl's means, it is spelled as evmctl spells it, at least as an alias.

mod manifest;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ima::{HashAlgo, KeyId};

pub use manifest::{LabelSource, MakeArgs, ManifestArgs, ManifestShowArgs, ManifestVerb, ManifestVerifyArgs};

use crate::file::Attribute;

/// Make keys, sign and hash file trees, and check what others signed.
#[derive(Debug, Parser)]
#[command(
    name = "imafs-sign",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 done, or all verified; 1 the answer is no; 2 could not find out, bad usage included.\n\
                  Labels are what `evmctl ima_sign` and `evmctl ima_hash` write, and the other way round."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a private key and its certificate.
    Keygen(KeygenArgs),
    /// Sign files: write security.ima with a signature, or with --hash a digest.
    Sign(SignArgs),
    /// Check the labels of files against certificates.
    Verify(VerifyArgs),
    /// Print the digests of files, or with --write store them as hash labels.
    Hash(HashArgs),
    /// Say what the labels of files hold, without checking them.
    Show(ShowArgs),
    /// Put the labels of a whole image into one signed file, for storage that keeps none.
    Manifest(ManifestArgs),
}

/// The attribute that holds labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LabelStore {
    /// security.ima, which the kernel's IMA and imafs read.
    #[default]
    Xattr,
    /// user.imafs.ima, which imafs reads with --labels user; any owner of a file can write it.
    User,
}

impl LabelStore {
    /// The attribute.
    #[must_use]
    pub fn attribute(self) -> Attribute {
        match self {
            Self::Xattr => Attribute::Ima,
            Self::User => Attribute::User,
        }
    }
}

/// A kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyType {
    /// RSA; every kernel that appraises verifies it, and fastest.
    Rsa,
    /// ECDSA on NIST P-256; needs CONFIG_CRYPTO_ECDSA in a kernel.
    P256,
    /// ECDSA on NIST P-384; needs CONFIG_CRYPTO_ECDSA in a kernel.
    P384,
}

/// `imafs-sign keygen`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-sign keygen --ca --subject 'CN=Example image CA' --out-key ca.key --out-cert ca.pem\n  \
    imafs-sign keygen --type p256 --ca-key ca.key --ca-cert ca.pem --subject 'CN=image signing' \\\n      \
      --out-key signing.key --out-cert signing.der\n\n\
    Files that exist are never overwritten. The key is PKCS#8 PEM, readable by its owner only.")]
pub struct KeygenArgs {
    /// Kind of key.
    #[arg(long = "type", value_enum, default_value = "rsa")]
    pub kind: KeyType,
    /// Size of an RSA key: 2048, 3072 or 4096 [default: 3072]
    #[arg(long, value_name = "BITS", value_parser = parse_bits)]
    pub bits: Option<u32>,
    /// Where the private key goes.
    #[arg(long, value_name = "FILE")]
    pub out_key: PathBuf,
    /// Where the certificate goes: DER when the name ends in .der, PEM otherwise.
    #[arg(long, value_name = "FILE")]
    pub out_cert: PathBuf,
    /// Who it is for: a common name, 'CN=name, O=organisation' or '/CN=name/O=organisation'.
    #[arg(long, value_name = "NAME", default_value = "imafs signing key")]
    pub subject: String,
    /// How long the certificate is valid; neither kernels nor imafs look at it when verifying.
    #[arg(long, value_name = "DAYS", default_value_t = 3650)]
    pub days: u32,
    /// Make an authority that signs certificates, and no files.
    #[arg(long)]
    pub ca: bool,
    /// Private key of the authority that signs the certificate; self-signed without.
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// Certificate of that authority.
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
}

/// Which files.
#[derive(Debug, Args)]
pub struct PathArgs {
    /// Files, or directories with all below them.
    #[arg(value_name = "PATH", required_unless_present_any = ["null", "files0_from"])]
    pub paths: Vec<PathBuf>,
    /// Read more paths from standard input, each ended by a NUL (`find -print0`).
    #[arg(short = '0', long)]
    pub null: bool,
    /// Read more paths from a file, each ended by a NUL.
    #[arg(long, value_name = "FILE", conflicts_with = "null")]
    pub files0_from: Option<PathBuf>,
    /// Only files that are executable or ELF objects.
    #[arg(long)]
    pub exec_only: bool,
    /// Also what is mounted from other filesystems below the paths.
    #[arg(long)]
    pub cross_filesystems: bool,
    /// How many files at once [default: one per core]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Where the labels are.
    #[arg(long, value_name = "STORE", value_enum, default_value_t)]
    pub labels: LabelStore,
}

/// What to print.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// One JSON object per line, the last one a summary.
    #[arg(long)]
    pub json: bool,
    /// Name each file, not only what went wrong.
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub verbose: bool,
}

/// `imafs-sign sign`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-sign sign --key signing.key --cert signing.der /srv/rootfs\n  \
    imafs-sign sign --key signing.key --cert signing.der --exec-only --hash-algo sha512 /srv/rootfs\n  \
    imafs-sign sign --key signing.key --cert signing.der --verity /srv/rootfs\n  \
    find /srv/rootfs/etc -type f -print0 | imafs-sign sign --hash -0\n\n\
    Files whose label already verifies are left alone, so an interrupted run is resumed by running it again.")]
pub struct SignArgs {
    /// Which files.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Private key: PEM or DER; PKCS#8, PKCS#1 or SEC1; not encrypted.
    #[arg(short, long, value_name = "FILE", required_unless_present = "hash", conflicts_with = "hash")]
    pub key: Option<PathBuf>,
    /// Certificate of that key, whose subject key identifier names it in the labels. Without it and
    /// --keyid: the certificate in the key's file, else SHA-1 of the public key.
    #[arg(long, value_name = "FILE", visible_alias = "keyid-from-cert", conflicts_with_all = ["keyid", "hash"])]
    pub cert: Option<PathBuf>,
    /// Name the key in the labels by these eight hex digits.
    #[arg(long, value_name = "HEX", value_parser = parse_keyid, conflicts_with = "hash")]
    pub keyid: Option<KeyId>,
    /// Write hash labels instead of signatures: they show damage and prove no origin.
    #[arg(long, visible_alias = "imahash")]
    pub hash: bool,
    /// Sign fs-verity digests, for rules with digest_type=verity; they are computed where the filesystem has none.
    /// The hash algorithm is sha256 or sha512, or the filesystem's where it has one.
    #[arg(long, visible_alias = "veritysig", conflicts_with = "hash")]
    pub verity: bool,
    /// Hash algorithm.
    #[arg(short = 'a', long, value_name = "NAME", visible_alias = "hashalgo", default_value = "sha256", value_parser = parse_algo)]
    pub hash_algo: HashAlgo,
    /// Write labels even where the right one, or a signature in place of a hash, is there already.
    #[arg(long)]
    pub force: bool,
    /// Do everything but write.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// What to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `imafs-sign verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-sign verify --cert signing.der --exec-only /srv/rootfs\n  \
    imafs-sign verify --cert old.pem --cert new.pem --json /srv/rootfs\n  \
    imafs-sign verify --hash /srv/rootfs/etc\n\n\
    Exit status: 0 all verified; 1 some are not, and each is listed with the reason; 2 could not find out.")]
pub struct VerifyArgs {
    /// Which files.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Certificates to trust, DER or PEM. Expired ones still verify, as in a kernel.
    #[arg(short, long, value_name = "FILE", visible_alias = "key", required_unless_present = "hash")]
    pub cert: Vec<PathBuf>,
    /// Check hash labels instead of signatures: this finds damage, it proves no origin.
    #[arg(long, conflicts_with = "cert")]
    pub hash: bool,
    /// Check signatures of fs-verity digests, as rules with digest_type=verity do.
    #[arg(long, visible_alias = "veritysig", conflicts_with = "hash")]
    pub verity: bool,
    /// What to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `imafs-sign hash`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-sign hash /bin/ls\n  \
    imafs-sign hash --hash-algo sha512 --write /srv/rootfs/etc")]
pub struct HashArgs {
    /// Which files.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Hash algorithm.
    #[arg(short = 'a', long, value_name = "NAME", visible_alias = "hashalgo", default_value = "sha256", value_parser = parse_algo)]
    pub hash_algo: HashAlgo,
    /// Store the digests as hash labels instead of printing them (the same as `sign --hash`).
    #[arg(short, long)]
    pub write: bool,
    /// With --write: replace signatures too.
    #[arg(long, requires = "write")]
    pub force: bool,
    /// With --write: do everything but write.
    #[arg(short = 'n', long, requires = "write")]
    pub dry_run: bool,
    /// What to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `imafs-sign show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    imafs-sign show /bin/ls\n  \
    imafs-sign show --cert signing.der --json /srv/rootfs/bin\n\n\
    Exit status: 0 every file has a label that can be read; 1 some have none; 2 could not find out.")]
pub struct ShowArgs {
    /// Which files.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Certificates to name the keys by.
    #[arg(short, long, value_name = "FILE", visible_alias = "key")]
    pub cert: Vec<PathBuf>,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
}

fn parse_bits(text: &str) -> Result<u32, String> {
    match text {
        "2048" => Ok(2048),
        "3072" => Ok(3072),
        "4096" => Ok(4096),
        _ => Err("a kernel takes 2048, 3072 or 4096".to_owned()),
    }
}

fn parse_algo(text: &str) -> Result<HashAlgo, String> {
    HashAlgo::from_name(text).filter(|algo| algo.is_in_kernels()).ok_or_else(|| {
        "not a hash algorithm known here (sha1, sha224, sha256, sha384, sha512, ...)".to_owned()
    })
}

fn parse_keyid(text: &str) -> Result<KeyId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.parse().map_err(|_| "a keyid is eight hexadecimal digits".to_owned())
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
    fn a_manifest_is_made_unless_a_verb_says_otherwise() {
        let manifest = |line: &str| {
            let words = ["imafs-sign", "manifest"].into_iter().chain(line.split(' '));
            let Verb::Manifest(args) = Cli::try_parse_from(words).ok()?.verb else { return None };
            Some((args.make.is_some(), args.verb.is_some()))
        };
        assert_eq!(manifest("--key k --image i dir"), Some((true, false)));
        assert_eq!(manifest("--key k --image i ./show"), Some((true, false)));
        assert_eq!(manifest("show m"), Some((false, true)));
        assert_eq!(manifest("verify --cert c m"), Some((false, true)));
        assert_eq!(manifest("--image i dir"), None);
        assert_eq!(manifest("--key k dir"), None);
        assert_eq!(manifest("--key k --image i show m"), None);
    }

    #[test]
    fn signing_needs_a_key_or_asks_for_hashes_and_not_both() {
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "f"]).is_err());
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "--hash", "f"]).is_ok());
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "--key", "k", "f"]).is_ok());
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "--key", "k", "--hash", "f"]).is_err());
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "--key", "k"]).is_err());
        assert!(
            Cli::try_parse_from(["imafs-sign", "sign", "--key", "k", "--keyid", "0xd2d8a49d", "f"]).is_ok()
        );
        assert!(Cli::try_parse_from(["imafs-sign", "sign", "--key", "k", "--keyid", "d2d8", "f"]).is_err());
    }
}
