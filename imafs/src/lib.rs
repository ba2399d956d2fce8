//! imafs: a FUSE passthrough filesystem that measures, appraises and audits each open of a container's root.
//!
//! This crate is the program: it mounts, decodes requests, calls the reference monitor and replies. Deciding
//! happens in `crates/`; nothing here can grant an open by itself.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod failure;
pub mod fs;
pub mod fuse;
