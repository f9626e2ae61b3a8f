// SPDX-License-Identifier: MIT

//! The built program: its commands, and a server of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a server may take to be ready: a recovery may be part of it.
const READY: Duration = Duration::from_secs(60);

/// How long somebody who looks at every new device, as udev does, may keep one busy.
const GLANCE: Duration = Duration::from_secs(10);

/// The program: the one that was built with the tests, or where it has been copied to.
fn rwsnap() -> Command {
    let named = std::env::var_os("RWSNAP_PROGRAM");
    Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_rwsnap").into()))
}

/// The program, for one pool.
#[derive(Clone)]
pub(crate) struct Program {
    save: PathBuf,
    /// Where control sockets lie.
    run: PathBuf,
}

impl Program {
    /// For the pool on this save volume, with a folder for its control socket.
    pub(crate) fn new(save: PathBuf, folder: &Path) -> Self {
        Self { save, run: folder.join("run") }
    }

    /// Runs a command on the pool.
    fn run(&self, args: &[&str]) -> Result<Output, String> {
        let run = rwsnap()
            .env("RWSNAP_POOL", &self.save)
            .env("RWSNAP_RUNTIME_DIR", &self.run)
            .args(args)
            .stdin(Stdio::null())
            .output();
        run.map_err(|e| format!("rwsnap: {e}"))
    }

    /// Runs a command that has to succeed; gives what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> Result<String, String> {
        let run = self.run(args)?;
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        if run.status.success() {
            return Ok(said);
        }
        let errors = String::from_utf8_lossy(&run.stderr);
        Err(format!("rwsnap {}: {}: {errors}{said}", args.join(" "), run.status))
    }

    /// Runs a command that has to be refused with exit code 1; gives what it said.
    pub(crate) fn refused(&self, args: &[&str]) -> Result<String, String> {
        let run = self.run(args)?;
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        match run.status.code() {
            Some(1) if !said.trim().is_empty() => Ok(said),
            _ => Err(format!("rwsnap {} was not refused: {} {said}", args.join(" "), run.status)),
        }
    }

    /// Makes the pool.
    pub(crate) fn create(&self, options: &[&str]) -> Result<String, String> {
        let save = self.save.to_string_lossy();
        self.ok(&[&["create", &save], options].concat())
    }

    /// Has the pool examined; it is at rest.
    pub(crate) fn check(&self) -> Result<String, String> {
        self.ok(&["check", &self.save.to_string_lossy()])
    }

    /// Runs a command that has to succeed, if need be after others have let go of a device.
    pub(crate) fn patiently(&self, args: &[&str]) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match self.ok(args) {
                Err(_) if begun.elapsed() < GLANCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                last => return last.map(drop),
            }
        }
    }

    /// Gives the pool to the kernel module.
    pub(crate) fn attach(&self) -> Result<(), String> {
        self.ok(&["attach", &self.save.to_string_lossy()]).map(drop)
    }

    /// Serves the pool.
    pub(crate) fn serve(&self, socket: &Path) -> Result<Server, String> {
        Server::start(&self.save, &self.run, socket)
    }
}

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Server {
    fn start(save: &Path, run: &Path, socket: &Path) -> Result<Self, String> {
        let mut child = rwsnap()
            .env("RWSNAP_RUNTIME_DIR", run)
            .arg("serve")
            .arg(save)
            .arg("--nbd")
            .arg(format!("unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let said = Arc::new(Mutex::new(String::new()));
        let lines = follow(child.stdout.take(), &said);
        drop(follow(child.stderr.take(), &said));
        let server = Self { child, said };
        server.wait_ready(&lines)?;
        Ok(server)
    }

    /// Waits for the line that says so.
    fn wait_ready(&self, lines: &Receiver<String>) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match lines.recv_timeout(READY.saturating_sub(begun.elapsed())) {
                Ok(line) if line.contains("ready") => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err("the server is not ready".to_owned()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the server ended: {}", self.said()));
                }
            }
        }
    }

    /// All that it printed.
    pub(crate) fn said(&self) -> String {
        self.said.lock().map(|s| s.clone()).unwrap_or_default()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(|_| ()).map_err(|e| e.to_string())
    }

    /// Waits for its end, which was asked for; it has to say 0.
    pub(crate) fn ended(mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < READY {
            match self.child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the server ended with {status}")),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Err("the server does not end".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream line by line in the background, to its end.
fn follow(
    stream: Option<impl std::io::Read + Send + 'static>,
    said: &Arc<Mutex<String>>,
) -> Receiver<String> {
    let (sender, lines) = channel();
    let said = Arc::clone(said);
    let stream = stream.expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Ok(mut all) = said.lock() {
                all.push_str(&line);
                all.push('\n');
            }
            let _ = sender.send(line);
        }
    });
    lines
}
