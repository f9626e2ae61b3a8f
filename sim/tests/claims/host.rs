// SPDX-License-Identifier: MIT

//! Who has the pool while a scenario works on it: a server, or the kernel module.

use std::path::Path;
use std::process::Command;

use super::media::Driver;
use super::program::{Program, Server};
use super::report;

/// Lines of the kernel's log that a failure shows.
const LOG_LINES: usize = 40;

/// Who has the pool.
pub(crate) enum Host {
    /// A server of the program.
    Server(Server),
    /// The kernel module.
    Module(Attached),
}

impl Host {
    /// Brings the pool up.
    pub(crate) fn begin(driver: Driver, pool: &Program, socket: &Path) -> Result<Self, String> {
        match driver {
            Driver::Server => Ok(Self::Server(pool.serve(socket)?)),
            Driver::Module => Ok(Self::Module(Attached::new(pool)?)),
        }
    }

    /// Takes it down as an operator does.
    pub(crate) fn stop(self, pool: &Program) -> Result<(), String> {
        match self {
            Self::Server(server) => {
                pool.ok(&["stop"])?;
                server.ended()
            }
            Self::Module(attached) => attached.detach(),
        }
    }

    /// Takes it down as hard as can be. A server is killed, and the next one recovers the pool from
    /// its log. The kernel has nothing like it: here the module is made to let go in order, so that
    /// what follows shows that the pool is all there in another life of it, and nothing about
    /// crashes. Those are shown by cutting the machine's power, in cases of their own.
    pub(crate) fn kill(self) -> Result<(), String> {
        match self {
            Self::Server(server) => server.kill(),
            Self::Module(attached) => attached.detach(),
        }
    }

    /// What there is to read about a failure.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Server(server) => server.said(),
            Self::Module(_) => kernel_log(),
        }
    }
}

/// A pool that the module has; it is made to let go of it when this is dropped.
pub(crate) struct Attached {
    program: Program,
    uuid: String,
    is_up: bool,
}

impl Attached {
    fn new(program: &Program) -> Result<Self, String> {
        program.attach()?;
        let mut attached = Self { program: program.clone(), uuid: String::new(), is_up: true };
        attached.uuid = report::uuid(program)?;
        Ok(attached)
    }

    fn detach(mut self) -> Result<(), String> {
        self.is_up = false;
        self.program.patiently(&["detach", &self.uuid])
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.is_up {
            // The scenario has failed; the next one is to find no pool of it.
            let _ = self.program.patiently(&["detach", &self.uuid]);
        }
    }
}

/// The end of the kernel's log.
fn kernel_log() -> String {
    let Ok(run) = Command::new("dmesg").output() else { return String::new() };
    let said = String::from_utf8_lossy(&run.stdout);
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
