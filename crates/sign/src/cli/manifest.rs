//! `imafs-sign manifest`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use ima::{HashAlgo, KeyId};

use super::{OutputArgs, parse_keyid};

/// `imafs-sign manifest`: one is made, unless a verb says otherwise.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
    imafs-sign manifest --key signing.key --cert signing.der --image web /srv/rootfs\n  \
    imafs-sign manifest --key signing.key --cert signing.der --image web --from xattr -o web.manifest /srv/rootfs\n  \
    imafs-sign manifest verify --cert signing.der --tree /srv/rootfs /srv/rootfs/.imafs-manifest\n  \
    imafs-sign manifest show --json web.manifest\n\n\
    A directory that is called as one of the commands is written with a path: ./show"
)]
pub struct ManifestArgs {
    /// What to do instead of making one.
    #[command(subcommand)]
    pub verb: Option<ManifestVerb>,
    /// What to make it of.
    #[command(flatten)]
    pub make: Option<MakeArgs>,
}

/// What is done with manifests that are there.
#[derive(Debug, Subcommand)]
pub enum ManifestVerb {
    /// Check the signature of a manifest, and with --tree the files by its labels.
    Verify(ManifestVerifyArgs),
    /// Say what a manifest holds, without checking it.
    Show(ManifestShowArgs),
}

/// Where the labels of a manifest are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LabelSource {
    /// Signed anew, with the key that signs the manifest.
    #[default]
    Sign,
    /// Hashed anew: as trusted as the manifest, but no signatures where a rule asks for one.
    Hash,
    /// From security.ima of each file.
    Xattr,
    /// From user.imafs.ima of each file.
    User,
}

/// What a manifest is made of.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// Root of the image.
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
    /// Private key that signs it: PEM or DER; PKCS#8, PKCS#1 or SEC1; not encrypted.
    #[arg(short, long, value_name = "FILE")]
    pub key: PathBuf,
    /// Certificate of that key; as for `sign`.
    #[arg(long, value_name = "FILE", visible_alias = "keyid-from-cert", conflicts_with = "keyid")]
    pub cert: Option<PathBuf>,
    /// Name the key by these eight hex digits.
    #[arg(long, value_name = "HEX", value_parser = parse_keyid)]
    pub keyid: Option<KeyId>,
    /// What the image is called; older manifests of the same image are stale.
    #[arg(long, value_name = "NAME")]
    pub image: String,
    /// Which of the image's manifests it is [default: seconds since 1970]
    #[arg(long, value_name = "N")]
    pub serial: Option<u64>,
    /// Where the labels are from.
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t)]
    pub from: LabelSource,
    /// Hash algorithm of the manifest's signature, and of labels made anew.
    #[arg(short = 'a', long, value_name = "NAME", visible_alias = "hashalgo", default_value = "sha256", value_parser = parse_algo)]
    pub hash_algo: HashAlgo,
    /// Where it goes [default: .imafs-manifest in the directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only files that are executable or ELF objects.
    #[arg(long)]
    pub exec_only: bool,
    /// Also what is mounted from other filesystems below the directory.
    #[arg(long)]
    pub cross_filesystems: bool,
    /// How many files at once [default: one per core]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Print one JSON object.
    // No flattened struct in here: with one clap takes an optional struct for absent.
    #[arg(long)]
    pub json: bool,
}

/// `imafs-sign manifest verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all verified; 1 the signature does not hold, or some files do not verify; \
    2 could not find out."
)]
pub struct ManifestVerifyArgs {
    /// The manifest.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Certificates to trust, DER or PEM.
    #[arg(short, long, value_name = "FILE", visible_alias = "key", required = true)]
    pub cert: Vec<PathBuf>,
    /// Also check the files of this image by their labels.
    #[arg(long, value_name = "DIRECTORY")]
    pub tree: Option<PathBuf>,
    /// The image it must be of.
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// The lowest serial it may have.
    #[arg(long, value_name = "N")]
    pub serial: Option<u64>,
    /// How many files at once [default: one per core]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// What to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `imafs-sign manifest show`.
#[derive(Debug, Args)]
pub struct ManifestShowArgs {
    /// The manifest.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Certificates to name the keys by.
    #[arg(short, long, value_name = "FILE", visible_alias = "key")]
    pub cert: Vec<PathBuf>,
    /// One JSON object per line, the first about the manifest.
    #[arg(long)]
    pub json: bool,
}

fn parse_algo(text: &str) -> Result<HashAlgo, String> {
    let algo = HashAlgo::from_name(text);
    algo.filter(|algo| matches!(algo, HashAlgo::Sha256 | HashAlgo::Sha384 | HashAlgo::Sha512))
        .ok_or_else(|| "manifests are signed over sha256, sha384 or sha512".to_owned())
}
