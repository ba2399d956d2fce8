//! Audit records and the sinks they go to.
//!
//! A [`Record`] says who asked for what and what came of it, in the kernel's field names. [`Audit`] gives it
//! a serial and a time, keeps it in a ring that `/.imafs/audit` is read from, and hands it to every sink:
//! a file, standard output, the journal, the kernel's audit system. Each sink has its own thread and its own bounded queue; a record
//! that a sink cannot take is counted, and the sink is told how many it missed as soon as it works again.
//!
//! This crate decides nothing and knows no policy. It does not know that FUSE exists, and it does not choose
//! what is worth a record: its callers do. It reads `/proc` for the one task a record is about
//! ([`process`]), and nothing else of the system.
//!
//! Follows the audit records of Linux 6.1: security/integrity/integrity_audit.c and
//! `ima_audit_measurement` in security/integrity/ima/ima_api.c.

pub mod hub;
mod json;
mod kernel;
mod outlet;
pub mod process;
pub mod record;
pub mod ring;
pub mod sink;

pub use hub::{Audit, Config, SinkStatus};
pub use process::{Process, UNKNOWN};
pub use record::{FileRule, Integrity, Lost, PolicyRule, Record, RecordType, Stamped};
pub use ring::{Batch, Limits, Line};
pub use sink::{
    Format, JournalSink, KernelSink, Sink, SinkSpec, SinkSpecError, SocketError, StdoutSink, file::FileSink,
};
