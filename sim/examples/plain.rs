// SPDX-License-Identifier: MIT

//! Serves a file as it is: `plain FILE SOCKET [REACTORS]`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rwsnap::server::{run, Config, Limits, Listen, Plain, Served};
use rwsnap::store::{Access, Cache, Volume};

fn main() -> std::io::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<_> = std::env::args().collect();
    let arg = |n: usize| args.get(n).cloned().unwrap_or_default();
    let disk = Volume::open(Path::new(&arg(1)), Access::Own, Cache::Direct);
    let disk = Arc::new(disk.map_err(std::io::Error::other)?);
    run(Config {
        served: Served::Plain(vec![Plain { name: "disk".into(), disk, read_only: false }]),
        listen: vec![Listen::Unix(arg(2).into())],
        insecure: false,
        reactors: arg(3).parse().unwrap_or(1),
        limits: Limits::default(),
        ready: Box::new(|uris| uris.iter().for_each(|uri| println!("{uri}"))),
    })
}
