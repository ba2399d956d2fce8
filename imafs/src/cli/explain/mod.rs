//! `imafs policy explain`: which rule decides an access for each class of action, and why no earlier one does.
//!
//! What is decided is `policy`'s to say ([`Policy::explain`] is the decision itself, with its reasons). Here the access
//! is put together from options and from a real file, and the answer is written down.

mod facts;
mod text;

use std::path::{Path, PathBuf};

use clap::Args;
use ima::Digest;
use policy::{Func, Mask, ParseOptions, Policy, Query, Undecided};

use super::{Failure, Outcome, output};
use facts::Facts;

/// Say which rule of a policy decides an access, and why
#[derive(Debug, Args)]
#[command(after_long_help = "\
What is not given is taken from the file at ROOT/PATH: its owner and group, the filesystem it is on, its digest where
a rule asks for one. Where there is no such file, root's file on an ext4 is assumed. The subject is root unless --uid
says otherwise.

One access can be several occasions. An open is a FILE_CHECK; starting a program is a FILE_CHECK, a BPRM_CHECK and a
CREDS_CHECK with MAY_EXEC; mapping code is an MMAP_CHECK with MAY_EXEC. Ask for each.

Exit 0: explained. 2: could not find out, for instance because a rule asks for a digest that is not known.

Examples:
  imafs policy explain exec --path /usr/bin/id --func BPRM_CHECK
  imafs policy explain my.policy --root /srv/rootfs --path /etc/passwd --uid 1000
  imafs policy explain tcb --path /etc/shadow --mask 'MAY_READ|MAY_WRITE' --fsmagic 0x9fa0
  imafs policy explain my.policy --func KEY_CHECK --keyring .ima --json | jq .classes")]
pub struct ExplainArgs {
    /// A file of rules, or the name of a policy as --policy takes it
    file: PathBuf,

    /// The file that is accessed, by its path in the mount
    #[arg(long, value_name = "PATH", required_unless_present_any = ["keyring", "label"])]
    path: Option<PathBuf>,

    /// Where the tree of the mount lies; the file is looked for there
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,

    /// The occasion, as rules spell it
    #[arg(long, value_name = "FUNC", default_value = "FILE_CHECK", value_parser = func)]
    func: Func,

    /// What the access asks for, such as MAY_READ or 'MAY_READ|MAY_WRITE'
    ///
    /// Without it MAY_EXEC where something is started or mapped, MAY_READ elsewhere.
    #[arg(long, value_name = "MASK", value_parser = mask)]
    mask: Option<Mask>,

    #[command(flatten)]
    facts: facts::FactArgs,

    /// The keyring that a key is added to, for KEY_CHECK
    #[arg(long, value_name = "NAME", conflicts_with = "label")]
    keyring: Option<String>,

    /// The label of the data, for CRITICAL_DATA
    #[arg(long, value_name = "NAME")]
    label: Option<String>,

    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> Outcome {
    let policy = super::policy::load(&args.file, &ParseOptions::default())?;
    let access = Access::of(args)?;
    let answer = answer(&policy, &access)?;
    let explained = text::Explained { policy: &policy, access: &access, explanation: &answer };
    output::print(&if args.json { explained.json().to_string() } else { explained.text() })
}

/// What is asked about.
#[derive(Debug)]
struct Access {
    func: Func,
    mask: Mask,
    /// In the mount.
    path: Vec<u8>,
    /// The keyring or label, where the occasion is about one.
    data: Option<String>,
    facts: Facts,
}

impl Access {
    fn of(args: &ExplainArgs) -> Result<Self, Failure> {
        Ok(Self {
            func: args.func,
            mask: args.mask.unwrap_or(usual_mask(args.func)),
            path: path(args.path.as_deref())?,
            data: data(args)?,
            facts: Facts::gather(&args.facts, &args.root, args.path.as_deref())?,
        })
    }
}

/// Asks the policy, and once more when it wants a digest that the file can give.
fn answer(policy: &Policy, access: &Access) -> Result<policy::Explanation, Failure> {
    let mut digest = access.facts.digest;
    // The rule about labels written is one for the whole policy: no other is asked.
    if access.func == Func::SetxattrCheck {
        return Ok(ask(policy, access, digest.as_ref()));
    }
    loop {
        let explanation = ask(policy, access, digest.as_ref());
        let algo = match &explanation.outcome {
            Ok(_) => return Ok(explanation),
            Err(Undecided::Digest(algo)) => *algo,
            Err(undecided) => return Err(Failure::caused(undecided)),
        };
        let again = digest.is_some_and(|digest| digest.algo() == algo);
        digest = match access.facts.digest_of_file(algo)? {
            Some(found) if !again => Some(found),
            _ => {
                let action = format!("decide about {}", String::from_utf8_lossy(&access.path));
                let reason = format!("a rule asks for the content's {algo} digest");
                return Err(Failure::cannot(action, reason)
                    .advise(format!("add --digest {algo}:HEX, or name a file that is there")));
            }
        };
    }
}

fn ask(policy: &Policy, access: &Access, digest: Option<&Digest>) -> policy::Explanation {
    let subject = &access.facts.subject;
    if let Some(name) = &access.data {
        return policy.explain_data(access.func, name, subject);
    }
    let object = access.facts.object(&access.path);
    policy.explain(&Query { func: access.func, mask: access.mask, object: &object, subject, digest })
}

fn path(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(path) = path else { return Ok(b"/".to_vec()) };
    if path.is_absolute() {
        return Ok(path.as_os_str().as_bytes().to_vec());
    }
    Err(Failure::cannot(format!("explain {}", path.display()), "paths in a mount begin with /")
        .advise("write the path from the mount's root, and --root DIRECTORY where the tree lies"))
}

/// The keyring or label; each belongs to one func, and that func needs it.
fn data(args: &ExplainArgs) -> Result<Option<String>, Failure> {
    let fits = match args.func {
        Func::KeyCheck => args.keyring.is_some(),
        Func::CriticalData => args.label.is_some(),
        _ => args.keyring.is_none() && args.label.is_none(),
    };
    if !fits {
        return Err(Failure::cannot(format!("explain {}", args.func), "what it is about is not named")
            .advise(
                "--keyring goes with --func KEY_CHECK, --label with --func CRITICAL_DATA, and each needs it",
            ));
    }
    Ok(args.keyring.clone().or_else(|| args.label.clone()))
}

fn func(name: &str) -> Result<Func, String> {
    Func::from_name(name).ok_or_else(|| {
        let known: Vec<_> =
            Func::ALL.into_iter().filter(|func| *func != Func::PostSetattr).map(Func::name).collect();
        format!("expected one of {}", known.join(", "))
    })
}

fn mask(names: &str) -> Result<Mask, String> {
    names
        .split('|')
        .map(|name| {
            Mask::from_keyword(name).ok_or("expected MAY_EXEC, MAY_WRITE, MAY_READ, MAY_APPEND, joined by |")
        })
        .try_fold(Mask::empty(), |all, mask| Ok(all | mask?))
}

/// What a kernel asks for on this occasion.
const fn usual_mask(func: Func) -> Mask {
    match func {
        Func::MmapCheck | Func::MmapCheckReqprot | Func::BprmCheck | Func::CredsCheck => Mask::EXEC,
        Func::KexecCmdline
        | Func::KeyCheck
        | Func::CriticalData
        | Func::SetxattrCheck
        | Func::PostSetattr => Mask::empty(),
        Func::FileCheck
        | Func::ModuleCheck
        | Func::FirmwareCheck
        | Func::KexecKernelCheck
        | Func::KexecInitramfsCheck
        | Func::PolicyCheck => Mask::READ,
    }
}

#[cfg(test)]
mod tests;
