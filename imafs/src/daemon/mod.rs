//! The process that serves one mount, from its start to its clean end.
//!
//! `preflight` looks for what would make the mount fail, `parts` builds what decides and records, `banks` where the
//! PCRs are and `reserved` that nobody else has them, `journal` keeps the list, `serve` mounts and waits. Around them:
//! `background` (a child that outlives the command), `run_dir` (which mounts are running), `logs`, `labels` (the store
//! of labels), `serials` (how fresh a manifest must be), `socket` (asking a running one), `attest` (evidence for
//! verifiers), `status` (its facts), `holders` and `mounts` (reading `/proc`).
//!
//! A process is multi-threaded as soon as it serves, so it never forks: the background process is this program
//! started again, which tells its parent when the mount is ready.

mod attest;
mod background;
mod backing;
mod banks;
pub mod holders;
mod journal;
mod labels;
mod logs;
pub mod mounts;
mod notify;
mod parts;
mod preflight;
mod reserved;
pub mod run_dir;
mod serials;
mod serve;
mod signals;
pub mod socket;
pub mod status;
mod system;

pub use background::{Readiness, parent, start_in_background};
pub use backing::facts as backing_facts;
pub use parts::{check_keys, check_policy, policy_failure};
pub use serve::run;
pub use system::plain;
