// SPDX-License-Identifier: MIT

//! Servers of one image: the passthrough, and what others have written.
//!
//! The *passthrough* is this program serving a bare file, through the same NBD and ring code as a
//! pool, but without the core.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::cli::error::{Failure, Outcome};
use crate::server::{self, Config, Limits, Listen, Plain, Served};
use crate::store::{Access, Cache, Volume};

use super::child::{is_installed, output, Server};
use super::load::{uri, Whom};
use super::report::Report;
use super::Bench;

/// The export's name.
const EXPORT: &str = "disk";

/// The line that a passthrough prints when it is ready.
const READY: &str = "rwsnap: ready";

/// QEMU's server.
const QEMU: &str = "qemu-storage-daemon";

/// A server of one image.
#[derive(Debug)]
pub struct Contender {
    server: Server,
    socket: PathBuf,
}

impl Contender {
    /// This program, the core not called.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn passthrough(bench: &Bench, image: &Path) -> Outcome<Self> {
        let socket = bench.place.path("passthrough.sock");
        let mut command = Command::new(&bench.options.program);
        command.arg("bench").arg("--passthrough").arg(image).arg("--socket").arg(&socket);
        Ok(Self { server: Server::with_line(command, READY)?, socket })
    }

    /// QEMU's server of a raw image; `None` if it is not installed.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn qemu_raw(bench: &Bench, image: &Path) -> Outcome<Option<Self>> {
        Self::qemu(bench, &format!("driver=raw,node-name=top,{}", file("file", image)))
    }

    /// QEMU's server of a fresh qcow2 overlay over a raw image, with clusters of 64 KiB and
    /// extended L2 entries, which is what it has for writing 4 KiB at a time.
    ///
    /// # Errors
    ///
    /// It cannot be made or does not start.
    pub fn qemu_overlay(bench: &Bench, base: &Path) -> Outcome<Option<Self>> {
        if !is_installed("qemu-img") {
            return Ok(None);
        }
        let overlay = bench.place.path("overlay.qcow2");
        let options = "cluster_size=64k,extended_l2=on";
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-o", options, "-F", "raw", "-b"]);
        output(create.arg(base).arg(&overlay))?;
        let layers = format!(
            "driver=qcow2,node-name=top,{},backing.driver=raw,{}",
            file("file", &overlay),
            file("backing.file", base)
        );
        Self::qemu(bench, &layers)
    }

    fn qemu(bench: &Bench, blockdev: &str) -> Outcome<Option<Self>> {
        if !is_installed(QEMU) {
            return Ok(None);
        }
        let socket = bench.place.path("qemu.sock");
        let mut command = Command::new(QEMU);
        command.arg("--blockdev").arg(blockdev);
        command.arg("--nbd-server").arg(format!("addr.type=unix,addr.path={}", socket.display()));
        let export = format!("type=nbd,id=e,node-name=top,name={EXPORT},writable=on");
        command.arg("--export").arg(export);
        Ok(Some(Self { server: Server::with_socket(command, &socket)?, socket }))
    }

    /// For the load.
    #[must_use]
    pub fn whom(&self) -> Whom {
        Whom::Server(uri(&self.socket, EXPORT))
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// It ends badly.
    pub fn stop(self) -> Outcome {
        self.server.stop()
    }
}

/// A file as QEMU opens it: around the page cache, by io_uring.
fn file(key: &str, path: &Path) -> String {
    let path = path.display();
    format!(
        "{key}.driver=file,{key}.filename={path},{key}.cache.direct=on,{key}.aio=io_uring,\
         {key}.discard=unmap"
    )
}

/// Tells which peers are not there.
pub fn note_missing(report: &mut Report) {
    for (program, package) in [(QEMU, "qemu-system-common"), ("qemu-img", "qemu-utils")] {
        if !is_installed(program) {
            report.missing.push(format!("{program} (Debian: {package})"));
        }
    }
}

/// Serves a bare file until it is told to end: what [`Contender::passthrough`] starts.
///
/// # Errors
///
/// It cannot be served.
pub fn serve_bare(image: &Path, socket: &Path) -> Outcome {
    let disk = Arc::new(Volume::open(image, Access::Own, Cache::Direct)?);
    server::run(Config {
        served: Served::Plain(vec![Plain { name: EXPORT.to_owned(), disk, read_only: false }]),
        listen: vec![Listen::Unix(socket.to_path_buf())],
        insecure: false,
        reactors: 1,
        limits: Limits::default(),
        ready: Box::new(|_| println!("{READY}")),
    })
    .map(drop)
    .map_err(|e| Failure::new(e.to_string()))
}
