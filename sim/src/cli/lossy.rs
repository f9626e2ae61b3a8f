// SPDX-License-Identifier: MIT

//! `rwsnap lossy`: disks whose power can be cut, for the tests of the kernel module.

use std::path::PathBuf;

use super::args;
use super::error::{Failure, Outcome};
use crate::lossy::{run, Ending, Image, Losses, Options};
use crate::nbd::Address;

/// Serve raw images as disks whose power can be cut
///
/// Prints a URI for each disk, then the line `rwsnap: ready`. SIGUSR1 cuts the power: each write
/// that was not flushed is lost, kept or torn, as the seed says; it prints the line
/// `cut: N writes lost, M kept, T torn`, the images are what the disks would hold, and it ends.
/// SIGTERM ends it with everything written out.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap lossy --nbd unix:/tmp/disks.sock --disk vda=vda.img --disk vdb=vdb.img:4096 --seed 7")]
pub(super) struct Lossy {
    /// The socket: unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    nbd: Address,
    /// A disk: its name, its image, and the bytes of a logical block (512 if not given)
    #[arg(long = "disk", value_name = "NAME=FILE[:BLOCK]", required = true, value_parser = image)]
    disks: Vec<Image>,
    /// Decides what a power cut leaves
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much each disk holds before it writes back
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = args::size)]
    cache: u64,
    /// Broken disks: flushes make nothing durable. A test that does not notice it is none
    #[arg(long)]
    forget_flushes: bool,
}

impl Lossy {
    /// Until a signal ends it.
    pub(super) fn run(self) -> Outcome {
        let Address::Unix(socket) = self.nbd.clone() else {
            return Err(Failure::usage("the disks are served at a Unix socket alone"));
        };
        let mut names: Vec<_> = self.disks.iter().map(|image| image.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Failure::usage("two disks have the same name"));
        }
        let uris: Vec<_> = names.into_iter().map(|name| self.nbd.uri(name)).collect();
        let Self { disks: images, seed, cache, forget_flushes, .. } = self;
        let ready = || {
            uris.iter().for_each(|uri| println!("{uri}"));
            println!("rwsnap: ready");
        };
        let ending = run(&Options { socket, images, seed, cache, forget_flushes }, ready);
        if let Ending::Cut(Losses { lost, kept, torn }) = ending.map_err(Failure::io("serve"))? {
            println!("cut: {lost} writes lost, {kept} kept, {torn} torn");
        }
        Ok(())
    }
}

/// `NAME=FILE[:BLOCK]`.
fn image(text: &str) -> Result<Image, String> {
    let args::Located { name, path } = args::located(text)?;
    let place = path.to_string_lossy().into_owned();
    let (path, block) = match place.rsplit_once(':') {
        Some((path, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let block = digits
                .parse()
                .ok()
                .filter(|block: &u32| block.is_power_of_two() && (512..=65536).contains(block));
            let why =
                || format!("`{digits}` is not a block: it is a power of two from 512 to 65536");
            (PathBuf::from(path), block.ok_or_else(why)?)
        }
        _ => (path, 512),
    };
    Ok(Image { name: name.unwrap_or_default(), path, block })
}
