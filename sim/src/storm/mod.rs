// SPDX-License-Identifier: MIT

//! The storm: a deterministic world that drives the core with simulated disks and looks for lies.
//!
//! A seed draws a plan (sizes, limits, policies, faults), and then every turn: which step ends and
//! how, what clients and the administrator ask, when it crashes and what a crash leaves. A naive
//! model of the pool says what may be seen: by each read, and by reading the whole pool through a
//! fresh core on what a crash at any step would leave.
//!
//! `plan` draws the knobs; `disk`, `block` and `fault` are the hardware; `machine` and `memory` the
//! driver; `schedule`, `client`, `command(s)` the story; `cell`, `model`, `oracle`, `slots` the
//! truth; `crash` the life after; `away` the productions that are not there, `moves`
//! those that come and go.

mod aftermath;
mod away;
mod block;
mod cell;
mod client;
mod command;
mod commands;
mod crash;
mod disk;
mod engine;
#[cfg(test)]
mod fake;
mod fault;
mod kinds;
mod machine;
mod memory;
mod model;
mod moves;
mod oracle;
mod plan;
mod real;
mod rng;
mod run;
mod schedule;
mod slots;
mod tally;
#[cfg(test)]
mod tests;
mod trace;
mod watch;

pub(crate) use disk::Survive;
pub(crate) use rng::Rng;
pub use run::{main, Options, Summary, Violation};
pub use tally::{Kinds, Tally};
