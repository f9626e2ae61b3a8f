// SPDX-License-Identifier: MIT

//! Other programs, which end when we do.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::cli::error::{Failure, Outcome};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(120);

/// A server in a process of its own.
#[derive(Debug)]
pub struct Server {
    child: Child,
    what: String,
}

impl Server {
    /// Starts it; it is ready when it prints a line that is `ready`.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn with_line(mut command: Command, ready: &str) -> Outcome<Self> {
        let mut server = Self::spawn(command.stdout(Stdio::piped()))?;
        let Some(out) = server.child.stdout.take() else { return Err(server.silent()) };
        let mut lines = BufReader::new(out);
        loop {
            let mut line = String::new();
            match lines.read_line(&mut line) {
                Ok(n) if n > 0 && line.trim() != ready => {}
                Ok(n) if n > 0 => break,
                _ => return Err(server.silent()),
            }
        }
        // It may go on to speak.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Ok(server)
    }

    /// Starts it; it is ready when there is a socket.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn with_socket(mut command: Command, socket: &Path) -> Outcome<Self> {
        let mut server = Self::spawn(command.stdout(Stdio::null()))?;
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            let ended = server.child.try_wait().ok().flatten().is_some();
            if ended || begun.elapsed() > START {
                return Err(server.silent());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn spawn(command: &mut Command) -> Outcome<Self> {
        let what = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(Failure::io(format!("start {what}")))?;
        let said = child.stderr.take();
        std::thread::spawn(move || {
            for line in said.into_iter().flat_map(|said| BufReader::new(said).lines()).flatten() {
                tracing::warn!("{line}");
            }
        });
        Ok(Self { child, what })
    }

    fn silent(&mut self) -> Failure {
        let _ = self.child.kill();
        let status = self.child.wait().map(|status| status.to_string()).unwrap_or_default();
        Failure::new(format!("{} did not start: {status}", self.what))
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, and waits.
    ///
    /// # Errors
    ///
    /// It ends badly.
    pub fn stop(mut self) -> Outcome {
        let id = i32::try_from(self.child.id()).unwrap_or(0);
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let status = self.child.wait().map_err(Failure::io(format!("wait for {}", self.what)))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("{} ended badly: {status}", self.what)))
    }

    /// Ends it at once, as a crash would, and waits.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program is installed.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Runs a program to its end; what it printed.
///
/// # Errors
///
/// It cannot be run, or fails.
pub fn output(command: &mut Command) -> Outcome<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(Failure::io(format!("run {what}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Failure::new(format!("{what} failed: {}: {}", done.status, said.trim())))
}
