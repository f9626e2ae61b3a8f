// SPDX-License-Identifier: MIT

//! Clients that others wrote: libnbd through `client.py`, nbdcopy, qemu-img, qemu-io and fio.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running `client.py`.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it for the server at this socket.
    pub(crate) fn start(socket: &Path) -> Self {
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
    pub(crate) fn ask(&mut self, request: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
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

/// The address of an export.
pub(crate) fn uri(socket: &Path, name: &str) -> String {
    format!("nbd+unix:///{name}?socket={}", socket.display())
}

/// Runs a client to its end; gives its standard output.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let run = Command::new(program).args(args).stdin(Stdio::null()).output();
    let run = run.map_err(|e| format!("{program}: {e}"))?;
    if run.status.success() {
        return Ok(run.stdout);
    }
    let said = [run.stdout, run.stderr].concat();
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&said)))
}

/// fio with verification in the background, until it is waited for.
pub(crate) struct Load {
    child: Child,
    report: PathBuf,
}

impl Load {
    /// Random reads and writes of a part of a volume that nobody else uses, for a time.
    pub(crate) fn start(uri: &str, at: u64, bytes: u64, seconds: &str, folder: &Path) -> Self {
        let report = folder.join("fio.json");
        let child = Command::new("fio")
            .args(["--name=load", "--ioengine=nbd", "--rw=randrw", "--bs=4k", "--iodepth=8"])
            .args(["--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1", "--time_based"])
            .args(["--randrepeat=0", "--output-format=json"])
            .arg(format!("--uri={uri}"))
            .arg(format!("--offset={at}"))
            .arg(format!("--size={bytes}"))
            .arg(format!("--runtime={seconds}"))
            .arg(format!("--output={}", report.display()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .spawn()
            .expect("fio runs");
        Self { child, report }
    }

    /// Waits; gives the reads and writes that were served, none of them wrong.
    pub(crate) fn wait(mut self) -> Result<(u64, u64), String> {
        let status = self.child.wait().map_err(|e| e.to_string())?;
        let text = std::fs::read_to_string(&self.report).map_err(|e| e.to_string())?;
        if !status.success() {
            return Err(format!("fio failed: {text}"));
        }
        let from = text.find('{').unwrap_or(0);
        let report: serde_json::Value =
            serde_json::from_str(&text[from..]).map_err(|e| format!("{e}: {text}"))?;
        let count = |way: &str| report["jobs"][0][way]["total_ios"].as_u64().unwrap_or(0);
        Ok((count("read"), count("write")))
    }
}
