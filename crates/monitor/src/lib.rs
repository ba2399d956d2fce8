//! The reference monitor: one access in, one decision out.
//!
//! A filesystem hands each open to [`Monitor::begin_open`] and gets a [`Grant`], a [`Denial`], or [`Work`] that
//! gives one of the two. Only this crate can make a grant, and no reply to an open can be built without one. In
//! between, the monitor asks policy, collects and appraises, measures, and audits, as the kernel's
//! `process_measurement` does, and keeps for each inode what it needs to answer the next open at once.
//!
//! This crate does not know that FUSE exists: it sees objects, descriptors and accesses. It opens no paths, holds
//! no keys and no list of its own, and never sends a reply. Formats are `ima`'s, rules are `policy`'s, verdicts
//! are `appraise`'s.
//!
//! The way of one access: `monitor` (reader thread: count, and answer from memory if everything stands), `plan`
//! (hooks and decisions), `check` (worker thread: evidence, violations, measure, appraise, audit), `grant`.

mod access;
mod attributes;
mod check;
mod denial;
mod digests;
mod evidence;
mod exec;
mod grant;
mod keys;
mod kind;
mod monitor;
mod name;
mod object;
mod options;
mod plan;
mod policy_file;
mod reading;
mod records;
mod release;
mod rules;
mod seldom;
mod setlabel;
mod state;
mod subject;
mod uses;
mod violation;
mod work;

pub use access::{Access, FMODE_EXEC};
pub use denial::Denial;
pub use exec::Ticket;
pub use grant::Grant;
pub use monitor::{Begun, Change, Monitor, NoContainerLayer, WouldWeaken};
pub use object::{Names, Object};
pub use options::{BackingFacts, Layer, MmapCheck, Mode, OnMeasureFailure, Options, ViolationRule};
pub use policy_file::PolicyRead;
pub use release::{Closed, Closing};
pub use rules::Rules;
pub use state::FileState;
pub use work::{Step, Work};
