// SPDX-License-Identifier: MIT

//! Clients that others wrote: libnbd through `client.py`, nbdcopy, qemu-img, qemu-io and fio.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::door::{Door, Load};

/// A running `client.py`.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it for the server at this socket.
    fn start(socket: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claims/client.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 runs");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output }
    }

    /// Asks; gives the answer's bytes.
    fn ask(&mut self, request: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |e: std::io::Error| format!("the client is gone: {e}");
        writeln!(self.input, "{request}").map_err(failed)?;
        self.input.write_all(payload).and_then(|()| self.input.flush()).map_err(failed)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(failed)?;
        let Some(bytes) = line.strip_prefix("ok ") else {
            return Err(format!("{request}: {}", line.trim()));
        };
        let mut data = vec![0; bytes.trim().parse().map_err(|e| format!("{line}: {e}"))?];
        self.output.read_exact(&mut data).map_err(failed)?;
        Ok(data)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exports of a server.
pub(crate) struct Exports {
    socket: PathBuf,
    /// Once something was asked.
    client: Option<Client>,
}

impl Exports {
    /// Of the server at this socket.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, client: None }
    }

    /// The address of an export.
    fn uri(&self, name: &str) -> String {
        format!("nbd+unix:///{name}?socket={}", self.socket.display())
    }

    /// Asks the client.
    fn ask(&mut self, request: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        self.client.get_or_insert_with(|| Client::start(&self.socket)).ask(request, payload)
    }
}

impl Door for Exports {
    fn write(&mut self, name: &str, at: u64, data: &[u8]) -> Result<(), String> {
        self.ask(&format!("write {name} {at} {} 0", data.len()), data).map(drop)
    }

    fn read(&mut self, name: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
        self.ask(&format!("read {name} {at} {bytes}"), &[])
    }

    fn zero(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String> {
        self.ask(&format!("zero {name} {at} {bytes} 0"), &[]).map(drop)
    }

    fn discard(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String> {
        self.ask(&format!("trim {name} {at} {bytes}"), &[]).map(drop)
    }

    fn flush(&mut self, name: &str) -> Result<(), String> {
        self.ask(&format!("flush {name}"), &[]).map(drop)
    }

    fn info(&mut self, name: &str) -> Result<String, String> {
        let info = self.ask(&format!("info {name}"), &[])?;
        Ok(String::from_utf8_lossy(&info).into_owned())
    }

    fn node(&mut self, name: &str) -> Result<String, String> {
        Ok(self.uri(name))
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        self.ask(&format!("drop {name}"), &[]).map(drop)
    }

    fn whole(&mut self, name: &str) -> Result<Vec<u8>, String> {
        run("nbdcopy", &[&self.uri(name), "-"])
    }

    fn alike(&mut self, a: &str, b: &str) -> Result<(), String> {
        let (a, b) = (self.uri(a), self.uri(b));
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &a, &b]).map(drop)
    }

    fn visit(&mut self, name: &str, at: u64, bytes: u64, byte: u8) -> Result<(), String> {
        let write = format!("write -P {byte} {at} {bytes}");
        let read = format!("read -P {byte} {at} {bytes}");
        let commands = ["-f", "raw", "-c", &write, "-c", "flush", "-c", &read];
        let said = run("qemu-io", &[&commands[..], &[&self.uri(name)]].concat())?;
        let said = String::from_utf8_lossy(&said);
        let failed = said.contains("failed") || said.contains("error");
        if failed {
            Err(said.into_owned())
        } else {
            Ok(())
        }
    }

    fn load(&mut self, name: &str, at: u64, bytes: u64, seconds: u64) -> Result<Load, String> {
        let folder = self.socket.parent().unwrap_or(Path::new("/"));
        let report = folder.join("fio.json");
        let child = Command::new("fio")
            .args(["--name=load", "--ioengine=nbd", "--rw=randrw", "--bs=4k", "--iodepth=8"])
            .args(["--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1", "--time_based"])
            .args(["--randrepeat=0", "--output-format=json"])
            .arg(format!("--uri={}", self.uri(name)))
            .arg(format!("--offset={at}"))
            .arg(format!("--size={bytes}"))
            .arg(format!("--runtime={seconds}"))
            .arg(format!("--output={}", report.display()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("fio: {e}"))?;
        Ok(Box::new(move || fio_done(child, &report)))
    }
}

/// Runs a client to its end; gives its standard output.
fn run(program: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let run = Command::new(program).args(args).stdin(Stdio::null()).output();
    let run = run.map_err(|e| format!("{program}: {e}"))?;
    if run.status.success() {
        return Ok(run.stdout);
    }
    let said = [run.stdout, run.stderr].concat();
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&said)))
}

/// Waits for fio; gives the reads and writes that were served, none of them wrong.
fn fio_done(mut child: Child, report: &Path) -> Result<(u64, u64), String> {
    let status = child.wait().map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(report).map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("fio failed: {text}"));
    }
    let from = text.find('{').unwrap_or(0);
    let report: serde_json::Value =
        serde_json::from_str(&text[from..]).map_err(|e| format!("{e}: {text}"))?;
    let count = |way: &str| report["jobs"][0][way]["total_ios"].as_u64().unwrap_or(0);
    Ok((count("read"), count("write")))
}
