// SPDX-License-Identifier: MIT

//! Disks that lose power: raw images served over NBD, for machines whose power is to be cut.
//!
//! Writes that were not flushed wait in memory ([`disk`]). When the power is cut, each of them is
//! lost, kept, or torn at the logical block, as a seed says, in any order; the connections break;
//! and the images are what the disks would hold. What reached the server by then and was not
//! answered is a write in flight, and may be kept as well.
//!
//! It is one process for one life of a machine: it ends with the power cut, and serving the images
//! again is the power coming back.

mod disk;
mod rack;
mod serve;

use std::fs::{remove_file, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};

pub use disk::Losses;
use rack::Rack;
use serve::Shared;

/// A disk to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The export's name.
    pub name: String,
    /// The raw image.
    pub path: PathBuf,
    /// Bytes of a logical block: a power of two from 512 to 65536.
    pub block: u32,
}

/// What to serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The socket.
    pub socket: PathBuf,
    /// The disks.
    pub images: Vec<Image>,
    /// Decides what a power cut leaves.
    pub seed: u64,
    /// Bytes of writes that wait in each disk; beyond it the oldest are written back.
    pub cache: u64,
    /// Whether flushes and FUA make nothing durable.
    pub forget_flushes: bool,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All was written out.
    Stopped,
    /// The power was cut.
    Cut(Losses),
}

/// Serves until SIGUSR1 cuts the power, or SIGTERM or SIGINT ends it with all written out.
///
/// To be called before other threads exist: they would get the signals.
///
/// # Errors
///
/// An image or the socket cannot be opened, or what is left at the end cannot be written.
pub fn run(options: &Options, ready: impl FnOnce()) -> io::Result<Ending> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let mut rack = Rack::open(&options.images, options.cache)?;
    if options.forget_flushes {
        rack.forget_flushes();
    }
    let shared = Arc::new(Shared::new(rack));
    let listener = crate::server::unix(&options.socket)?;
    shared.listen(listener);
    ready();
    let cut = signals.wait()? == Signal::SIGUSR1;
    if cut {
        shared.rack().cut_power();
    }
    let _ = remove_file(&options.socket);
    shared.disconnect();
    if cut {
        let losses = shared.rack().lose(options.seed)?;
        return Ok(Ending::Cut(losses));
    }
    shared.rack().settle()?;
    Ok(Ending::Stopped)
}

/// Opens an image; its size has to be a number of blocks.
fn open(image: &Image) -> io::Result<(File, u64)> {
    use io::Seek;
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", image.path.display()))
    };
    let mut file = File::options().read(true).write(true).open(&image.path).map_err(named)?;
    let size = file.seek(io::SeekFrom::End(0)).map_err(named)?;
    if size == 0 || size % u64::from(image.block) != 0 {
        let text = format!("its {size} bytes are not a number of blocks of {}", image.block);
        return Err(named(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    Ok((file, size))
}
