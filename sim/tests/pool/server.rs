// SPDX-License-Identifier: MIT

//! A server of the pool in a folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::pool::Place;

/// A server; it is killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) uris: Vec<String>,
}

impl Server {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_on(place, "save.img", args)
    }

    /// As `start`, with the save volume somewhere else.
    pub(crate) fn start_on(place: &Place, save: &str, args: &[&str]) -> Self {
        Self::of(place.command(&["serve", save]).args(args))
    }

    /// As `start`, by this command.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut uris = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if line == "rwsnap: ready" {
                return Self { child, uris };
            }
            uris.push(line);
        }
        panic!("the server ended before it was ready: {:?}", child.wait());
    }

    /// Ends by itself, with success.
    pub(crate) fn ended(mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return assert!(status.success(), "{status}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
