// SPDX-License-Identifier: MIT

//! The world of one scenario: volumes, pool, server, clients and the model, and the steps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::client::Exports;
use super::devices::Devices;
use super::door::{Door, Load};
use super::host::Host;
use super::media::{Driver, Media, Medium};
use super::model::Model;
use super::program::Program;
use super::script::word;
use super::{life, look, merge};

/// What a step does.
type Action = fn(&mut World, &[String]) -> Result<(), String>;

/// Every step by its first word.
const STEPS: &[(&str, Action)] = &[
    ("production", life::production),
    ("create", life::create),
    ("serve", life::serve),
    ("stop", life::stop),
    ("kill9", life::kill9),
    ("check", life::check),
    ("snapshot", life::snapshot),
    ("clone", life::clone),
    ("refresh", life::refresh),
    ("destroy", life::destroy),
    ("rename", life::rename),
    ("refuse", life::refuse),
    ("write", look::write),
    ("zero", look::zero),
    ("discard", look::discard),
    ("flush", look::flush),
    ("close", look::close),
    ("expect", look::expect),
    ("verify", look::verify),
    ("same", look::same),
    ("qemu-io", look::qemu_io),
    ("bits", look::bits),
    ("map", look::map),
    ("distinct", look::distinct),
    ("slots", look::slots),
    ("identity", look::identity),
    ("restore", merge::restore),
    ("merge", merge::merge),
    ("cancel", merge::cancel),
    ("settled", merge::settled),
    ("fio", merge::fio),
];

/// Whether there is such a step.
pub(crate) fn knows(words: &[String]) -> bool {
    words.first().is_some_and(|first| STEPS.iter().any(|(name, _)| name == first))
}

/// All that a scenario works on.
pub(crate) struct World {
    /// Where the volumes lie.
    pub(crate) media: Media,
    /// Production volumes, until the pool is made: `NAME=PATH`.
    pub(crate) productions: Vec<String>,
    /// The pool's program, once there is a pool.
    pub(crate) program: Option<Program>,
    /// Bytes in a chunk.
    pub(crate) chunk: u64,
    /// The way to the volumes, once one was used. It goes before the host does.
    pub(crate) door: Option<Box<dyn Door>>,
    /// Who serves the pool, while it is served.
    pub(crate) host: Option<Host>,
    /// What everything should hold.
    pub(crate) model: Model,
    /// Numbers and words that the scenario remembers.
    pub(crate) marks: BTreeMap<String, String>,
    /// Load in the background.
    pub(crate) load: Option<Load>,
}

impl World {
    /// An empty one.
    pub(crate) fn new(medium: Medium) -> Self {
        Self {
            media: Media::new(medium),
            productions: Vec::new(),
            program: None,
            chunk: 4096,
            door: None,
            host: None,
            model: Model::default(),
            marks: BTreeMap::new(),
            load: None,
        }
    }

    /// Carries a step out.
    pub(crate) fn step(&mut self, words: &[String]) -> Result<(), String> {
        let name = word(words, 0, "a step")?;
        let (_, action) = STEPS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| "there is no such step".to_owned())?;
        action(self, words)
    }

    /// Has the pool at rest, and examined.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if self.host.is_some() {
            look::verify(self, &[])?;
            life::stop(self, &[])?;
        }
        life::check(self, &[])
    }

    /// What the server printed, or the kernel's log.
    pub(crate) fn host_said(&self) -> String {
        self.host.as_ref().map(Host::said).unwrap_or_default()
    }

    /// The program for the pool.
    pub(crate) fn program(&self) -> Result<&Program, String> {
        self.program.as_ref().ok_or_else(|| "there is no pool yet".to_owned())
    }

    /// Runs a command that needs volumes that nobody uses. Devices have been let go of by then, but
    /// whoever looks at each that was written to, as udev does, may be there for a moment.
    pub(crate) fn change(&self, command: &[&str]) -> Result<(), String> {
        match self.media.driver() {
            Driver::Server => self.program()?.ok(command).map(drop),
            Driver::Module => self.program()?.patiently(command),
        }
    }

    /// The socket of the server.
    pub(crate) fn socket(&self) -> PathBuf {
        self.media.folder().join("nbd.sock")
    }

    /// The way to the volumes.
    pub(crate) fn door(&mut self) -> Result<&mut dyn Door, String> {
        let fresh: Box<dyn Door> = match (self.door.take(), self.media.driver()) {
            (Some(door), _) => door,
            (None, Driver::Server) => Box::new(Exports::new(self.socket())),
            (None, Driver::Module) => Box::new(Devices::new(self.program()?)),
        };
        Ok(&mut **self.door.insert(fresh))
    }
}
