// SPDX-License-Identifier: MIT

//! `rwsnap stop`: ends a pool's server in order.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rwsnap_core::control::{self, Name};

use super::connect::command;
use super::error::{Failure, Outcome};
use super::Global;

/// How long a server may take to write its checkpoint.
const PATIENCE: Duration = Duration::from_secs(120);

/// End the pool's server in order; its clients are cut off
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap stop --pool save.img")]
pub(super) struct Stop {}

impl Stop {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut pool = global.connect()?;
        if pool.is_attached() {
            let place = pool.place.display();
            return Err(Failure::new(format!(
                "the pool on {place} is attached by the kernel module, not served; `rwsnap detach` \
                 ends that"
            )));
        }
        if !pool.is_served() {
            let place = pool.place.display().to_string();
            pool.close()?;
            return Err(Failure::new(format!("the pool on {place} is not being served")));
        }
        let socket = pool.place.clone();
        pool.call(&command(control::Verb::Stop, Name::default()), &[])?;
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket)
            .is_ok_and(|_| begun.elapsed() < PATIENCE)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        match std::os::unix::net::UnixStream::connect(&socket) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(())
            }
            _ => Err(Failure::new("the server has not ended yet; it may still be writing")),
        }
    }
}
