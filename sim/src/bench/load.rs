// SPDX-License-Identifier: MIT

//! The load: fio, for all contenders the same. Servers are driven by its `nbd` engine (libnbd),
//! the disk itself by its `io_uring` engine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cli::error::{Failure, Outcome};

use super::child::{is_installed, output};
use super::numbers::real;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Random reads.
    Read,
    /// Random writes.
    Write,
    /// Writes from the first byte to the last.
    Fill,
}

/// Who is driven.
#[derive(Clone, Debug)]
pub enum Whom {
    /// A server, by its URI.
    Server(String),
    /// A file, around the page cache.
    File(std::path::PathBuf),
}

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// For so long, over and over.
    Seconds(u32),
    /// So many bytes, no block twice.
    Bytes(u64),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is done.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// Bytes of a request.
    pub block: u32,
    /// Requests at once.
    pub depth: u32,
    /// Bytes of the range that it goes over.
    pub size: u64,
    /// Which blocks it takes, and in what order.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Requests a second.
    pub iops: f64,
    /// Bytes a second.
    pub rate: f64,
    /// Requests.
    pub count: u64,
}

/// Whether there is a load to be had.
///
/// # Errors
///
/// There is none.
pub fn installed() -> Outcome {
    if !is_installed("fio") {
        return Err(Failure::new(
            "fio is not installed, which makes the load: install Debian's fio",
        ));
    }
    let engines = output(Command::new("fio").arg("--enghelp"))?;
    if engines.split_whitespace().any(|word| word == "nbd") {
        return Ok(());
    }
    Err(Failure::new("this fio has no nbd engine: Debian's fio has one"))
}

impl Load {
    /// 4k random requests at depth 32 for a while.
    #[must_use]
    pub const fn timed(kind: Kind, size: u64, seconds: u32) -> Self {
        let amount = Amount::Seconds(seconds);
        Self { kind, amount, block: 4096, depth: 32, size, seed: 1 }
    }

    /// 4k random requests at depth 32, no block twice.
    #[must_use]
    pub const fn once(kind: Kind, size: u64, bytes: u64, seed: u64) -> Self {
        Self { kind, amount: Amount::Bytes(bytes), block: 4096, depth: 32, size, seed }
    }

    /// The same at another depth.
    #[must_use]
    pub const fn at_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }

    /// Drives it.
    ///
    /// # Errors
    ///
    /// fio fails, or a request did.
    pub fn drive(&self, whom: &Whom) -> Outcome<Done> {
        let text = output(&mut self.command(whom))?;
        parse(&text).ok_or_else(|| Failure::new("fio's output makes no sense"))
    }

    fn command(&self, whom: &Whom) -> Command {
        let mut fio = Command::new("fio");
        fio.args([
            "--name=load",
            "--output-format=json",
            "--randrepeat=1",
            "--allow_file_create=0",
        ]);
        fio.args(["--random_generator=lfsr", "--clat_percentiles=0", "--thread=1"]);
        fio.arg(match self.kind {
            Kind::Read => "--rw=randread",
            Kind::Write => "--rw=randwrite",
            Kind::Fill => "--rw=write",
        });
        fio.arg(format!("--bs={}", self.block)).arg(format!("--iodepth={}", self.depth));
        fio.arg(format!("--size={}", self.size)).arg(format!("--randseed={}", self.seed));
        match self.amount {
            Amount::Seconds(n) => {
                fio.args(["--time_based=1", "--norandommap=1"]).arg(format!("--runtime={n}"))
            }
            Amount::Bytes(n) => fio.arg(format!("--io_size={n}")),
        };
        match whom {
            Whom::Server(uri) => fio.arg("--ioengine=nbd").arg(format!("--uri={uri}")),
            Whom::File(path) => fio
                .args(["--ioengine=io_uring", "--direct=1"])
                .arg(format!("--filename={}", path.display())),
        };
        fio
    }
}

/// A fio run's own figures.
fn parse(text: &str) -> Option<Done> {
    let json: serde_json::Value = serde_json::from_str(text.get(text.find('{')?..)?).ok()?;
    let job = json.get("jobs")?.get(0)?;
    let sides = [job.get("read")?, job.get("write")?];
    let busy = sides.into_iter().max_by_key(|side| side.get("total_ios")?.as_u64())?;
    let count = busy.get("total_ios")?.as_u64()?;
    let time = Duration::from_millis(busy.get("runtime")?.as_u64()?);
    let bytes = busy.get("io_bytes")?.as_u64()?;
    let iops = busy.get("iops")?.as_f64()?;
    let rate = if time.is_zero() { 0.0 } else { real(bytes) / time.as_secs_f64() };
    let failed = job.get("error")?.as_i64()? != 0;
    (!failed).then_some(Done { iops, rate, count })
}

/// The URI of an export on a Unix socket.
#[must_use]
pub fn uri(socket: &Path, export: &str) -> String {
    crate::nbd::Address::Unix(socket.to_path_buf()).uri(export)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_fio_says() {
        let text = r#"fio: a note
            {"jobs":[{"error":0,
              "read":{"total_ios":0,"runtime":0,"io_bytes":0,"iops":0.0},
              "write":{"total_ios":100,"runtime":2000,"io_bytes":409600,"iops":50.0}}]}"#;
        let done = parse(text).unwrap();
        assert_eq!(done.count, 100);
        assert!((done.iops - 50.0).abs() < 1e-9 && (done.rate - 204_800.0).abs() < 1e-9);
        assert!(parse(&text.replace("\"error\":0", "\"error\":5")).is_none());
    }
}
