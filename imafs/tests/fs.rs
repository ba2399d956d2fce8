//! The filesystem as its users see it: a mount over a scratch directory, held against that directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

#[path = "fs/attacks.rs"]
mod attacks;
#[path = "fs/attributes.rs"]
mod attributes;
#[path = "fs/content.rs"]
mod content;
#[path = "fs/control.rs"]
mod control;
#[path = "fs/lifetime.rs"]
mod lifetime;
#[path = "fs/listing.rs"]
mod listing;
#[path = "fs/names.rs"]
mod names;
#[path = "fs/owners.rs"]
mod owners;
#[path = "fs/paths.rs"]
mod paths;
#[path = "fs/sharing.rs"]
mod sharing;
#[path = "fs/stacks.rs"]
mod stacks;
