// SPDX-License-Identifier: MIT

//! Serves a file as it is: `plain FILE SOCKET [REACTORS]`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use rwsnap::server::{run, Config, Disk, Limits, Listen, Plain};
use rwsnap_core::api::Device;

fn main() -> std::io::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<_> = std::env::args().collect();
    let arg = |n: usize| args.get(n).cloned().unwrap_or_default();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(libc::O_DIRECT).open(arg(1))?;
    let size = file.metadata()?.len();
    let device = Device { size, block: 512, volatile: true, fua: false };
    run(Config {
        disks: vec![Disk::new(file, arg(1), device)],
        plain: vec![Plain { name: String::from("disk"), disk: 0, read_only: false }],
        listen: vec![Listen::Unix(arg(2).into())],
        insecure: false,
        reactors: arg(3).parse().unwrap_or(1),
        limits: Limits::default(),
        ready: Box::new(|uris| uris.iter().for_each(|uri| println!("{uri}"))),
    })
}
