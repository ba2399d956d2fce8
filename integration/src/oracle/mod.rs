//! The live oracle: generated scenarios, played by a real kernel with IMA and by imafs, which have to agree.
//!
//! A seed becomes a [`draft::Draft`] (`generate`): a policy, a tree and operations. [`render`] writes it as a scenario
//! directory in the form of `integration/golden`. A [`guest::Guest`] boots Debian's kernel under qemu with the
//! scenario and leaves a recording in it; imafs plays the same scenario as the golden tests do ([`both`]). The two
//! [`steps::Run`]s are held against each other, and each difference must be one that docs/differences.md tells of
//! ([`explain`]). What is not is made small ([`shrink`]) and kept. [`campaign`] does this for many seeds.
//!
//! The recorder is proved by what was recorded before: [`prove`].

pub mod both;
pub mod campaign;
pub mod draft;
pub mod explain;
pub mod generate;
pub mod guest;
pub mod prove;
pub mod render;
pub mod rng;
pub mod shrink;
pub mod steps;
pub mod stop;
pub mod world;
