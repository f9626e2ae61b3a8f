// SPDX-License-Identifier: MIT

//! The server on bare disks, with real clients and hostile ones, on one reactor and on four.
//!
//! The server runs in a process of its own: this test binary again, with [`SERVE`] set.

#![expect(clippy::cast_possible_truncation, reason = "patterns of small numbers")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, SigSet, Signal};
use nix::unistd::Pid;
use rwsnap::nbd::client::Client;
use rwsnap::nbd::{Address, HANDSHAKE_TIME};
use rwsnap::server::{run, Config, Limits, Listen, Plain, Served};
use rwsnap::store::{Access, Cache, Volume};
use tempfile::TempDir;

/// Set for the process that serves: image, socket, reactors, 1 for O_DIRECT.
const SERVE: &str = "RWSNAP_TEST_SERVE";

const MIB: usize = 1 << 20;

/// Not a test: the server of the others.
#[test]
fn serve_for_the_others() {
    let Ok(told) = std::env::var(SERVE) else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let told: Vec<&str> = told.split('|').collect();
    let cache = if told[3] == "1" { Cache::Direct } else { Cache::Buffered };
    let disk = Arc::new(Volume::open(Path::new(told[0]), Access::Own, cache).unwrap());
    let plain =
        |name: &str, read_only| Plain { name: name.into(), disk: Arc::clone(&disk), read_only };
    let result = run(Config {
        served: Served::Plain(vec![plain("disk", false), plain("fixed", true)]),
        listen: vec![Listen::Unix(told[1].into()), Listen::Tcp("127.0.0.1:0".parse().unwrap())],
        insecure: false,
        reactors: told[2].parse().unwrap(),
        limits: Limits::default(),
        ready: Box::new(|uris| {
            uris.iter().for_each(|uri| println!("uri {uri}"));
            println!("ready");
        }),
    });
    println!("ended {result:?}");
}

/// A running server, killed at the end.
struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    uris: Vec<String>,
    socket: PathBuf,
    image: PathBuf,
    dir: TempDir,
}

impl Server {
    fn start(reactors: u32, mib: usize) -> Self {
        Self::with(reactors, mib, true)
    }

    fn with(reactors: u32, mib: usize, direct: bool) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (image, socket) = (dir.path().join("image"), dir.path().join("nbd.sock"));
        let bytes: Vec<u8> = (0..mib * MIB).map(|i| (i / 512 * 7 + i) as u8).collect();
        fs::write(&image, bytes).unwrap();
        let told = [image.to_str().unwrap(), socket.to_str().unwrap()].join("|");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "serve_for_the_others", "--nocapture", "--test-threads=1"]);
        command.env(SERVE, format!("{told}|{reactors}|{}", u8::from(direct)));
        // The mask is inherited: no thread of the test harness is to die of the signal.
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.thread_block().unwrap();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut uris = Vec::new();
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server did not start");
            if let Some(uri) = line.split("uri ").nth(1) {
                uris.push(uri.trim().to_owned());
            } else if line.trim() == "ready" {
                break;
            }
        }
        Self { child, lines, uris, socket, image, dir }
    }

    fn uri(&self) -> &str {
        &self.uris[0]
    }

    fn tcp(&self) -> &str {
        &self.uris[1]
    }

    fn client(&self) -> Client {
        Client::connect(&Address::Unix(self.socket.clone()), "disk").unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sends SIGTERM; what the server said at its end, and how long it took.
    fn terminate(mut self) -> (String, Duration) {
        let begun = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        (rest, begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn clients_read_what_is_there() {
    for (reactors, direct) in [(1, true), (4, true), (1, false)] {
        let server = Server::with(reactors, 24, direct);
        let info = tool("nbdinfo", &[server.uri()]);
        for fact in ["export-size: 25165824", "can_multi_conn: true", "block_size_minimum: 512"] {
            assert!(info.contains(fact), "{info}");
        }
        assert!(tool("nbdinfo", &["--list", server.uri()]).contains("export=\"fixed\""));
        for uri in [server.uri(), server.tcp()] {
            let copy = server.file("copy");
            tool("nbdcopy", &["--connections=4", uri, path(&copy)]);
            assert!(fs::read(&copy).unwrap() == fs::read(&server.image).unwrap());
        }
        tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", server.uri(), path(&server.image)]);
        let (said, _) = server.terminate();
        assert!(said.contains("ended Ok"), "{said}");
    }
}

#[test]
fn clients_write_with_all_flags() {
    let server = Server::start(1, 24);
    let source = server.file("source");
    let bytes: Vec<u8> = (0..24 * MIB).map(|i| (i * 31 / 1000) as u8).collect();
    fs::write(&source, &bytes).unwrap();
    tool("nbdcopy", &["--connections=3", "--flush", path(&source), server.uri()]);
    assert!(fs::read(&server.image).unwrap() == bytes);
    let io = |command| tool("qemu-io", &["-f", "raw", "-c", command, server.uri()]);
    io("write -f -P 0x5a 4096 12M");
    io("write -P 0x5b 512 512");
    io("write -z 1M 64k");
    io("write -z -u 2M 1M");
    io("discard 4M 1M");
    io("flush");
    let now = fs::read(&server.image).unwrap();
    assert!(now[512..1024].iter().all(|&b| b == 0x5b));
    assert!(now[MIB..MIB + 65536].iter().all(|&b| b == 0));
    assert!(now[2 * MIB..3 * MIB].iter().all(|&b| b == 0));
    assert!(now[3 * MIB..4 * MIB].iter().all(|&b| b == 0x5a));
    assert!(now[4096 + 12 * MIB..] == bytes[4096 + 12 * MIB..]);
    let fixed = server.uris[2].clone();
    let denied = Command::new("qemu-io").args(["-f", "raw", "-c", "write 0 512", &fixed]).output();
    assert!(!denied.unwrap().status.success());
    assert!(fs::read(&server.image).unwrap() == now);
}

#[test]
fn fio_verifies_what_it_wrote() {
    for reactors in [1, 4] {
        let server = Server::start(reactors, 64);
        let uri = format!("--uri={}", server.uri());
        let common = ["--name=v", "--ioengine=nbd", &uri, "--verify=crc32c", "--size=64m"];
        let run = |more: &[&str]| {
            tool("fio", &[&common[..], &["--verify_state_save=0"], more].concat());
        };
        run(&["--rw=randwrite", "--bsrange=512-300k", "--bs_unaligned=0", "--iodepth=32"]);
        run(&["--rw=randrw", "--bs=4k", "--iodepth=64", "--io_size=32m"]);
    }
}

#[test]
fn requests_larger_than_all_buffers() {
    let server = Server::start(1, 64);
    let mut client = server.client();
    let mut data = vec![0; 32 * MIB];
    client.read(16 * MIB as u64, &mut data).unwrap();
    let image = fs::read(&server.image).unwrap();
    assert!(data == image[16 * MIB..48 * MIB]);
    data.iter_mut().for_each(|b| *b ^= 0xFF);
    client.write(0, &data, true).unwrap();
    client.read(0, &mut data).unwrap();
    let image = fs::read(&server.image).unwrap();
    assert!(data == image[..32 * MIB]);
    // Many at once, more than there is memory for.
    let all: Vec<_> = (0..6)
        .map(|_| {
            let mut client = server.client();
            std::thread::spawn(move || {
                let mut data = vec![0; 32 * MIB];
                client.read(0, &mut data).unwrap();
                data
            })
        })
        .collect();
    for reader in all {
        assert!(reader.join().unwrap() == image[..32 * MIB]);
    }
}

#[test]
fn an_idle_client_does_not_delay_the_end() {
    let server = Server::start(4, 1);
    let idle: Vec<_> = (0..8).map(|_| server.client()).collect();
    let silent = server.raw();
    let socket = server.socket.clone();
    let (said, time) = server.terminate();
    assert!(said.contains("ended Ok") && time < Duration::from_secs(3), "{said} {time:?}");
    assert!(!socket.exists());
    drop((idle, silent));
}

#[test]
fn writes_that_were_answered_survive_the_end() {
    let server = Server::start(1, 8);
    let image = File::open(&server.image).unwrap();
    let mut client = server.client();
    client.write(MIB as u64, &[0x77; 8192], false).unwrap();
    let (said, _) = server.terminate();
    assert!(said.contains("ended Ok"));
    let mut there = [0; 8192];
    image.read_exact_at(&mut there, MIB as u64).unwrap();
    assert_eq!(there, [0x77; 8192]);
}

#[test]
fn silence_is_cut_off_and_does_not_disturb() {
    let server = Server::start(1, 8);
    let mut silent: Vec<_> = (0..20).map(|_| server.raw()).collect();
    let mut client = server.client();
    let mut data = [0; 4096];
    client.read(0, &mut data).unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    silent[7].read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 18, "the greeting, then the end");
    let waited = begun.elapsed() + Duration::from_secs(1);
    assert!(waited > HANDSHAKE_TIME && waited < HANDSHAKE_TIME * 2);
    client.read(0, &mut data).unwrap();
}

#[test]
fn garbage_and_huge_lengths_are_refused() {
    let server = Server::start(1, 8);
    let mut noise = server.raw();
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let _ = noise.write_all(&bytes);
    let mut rest = Vec::new();
    let _ = noise.read_to_end(&mut rest);
    // An option that announces 4 GiB, and never sends them.
    let mut huge = server.raw();
    let mut option = vec![0, 0, 0, 3];
    option.extend_from_slice(&0x4948_4156_454f_5054_u64.to_be_bytes());
    option.extend_from_slice(&7_u32.to_be_bytes());
    option.extend_from_slice(&u32::MAX.to_be_bytes());
    huge.write_all(&option).unwrap();
    let mut client = server.client();
    let size = 8 * MIB as u64;
    let mut beyond = vec![0; 4096];
    client.read(size, &mut beyond).unwrap_err();
    client.read(u64::MAX - 4095, &mut beyond).unwrap_err();
    client.read(100, &mut beyond).unwrap_err();
    client.write(size - 512, &beyond, false).unwrap_err();
    client.read(size - 4096, &mut beyond).unwrap();
}

#[test]
fn those_who_do_not_read_do_not_stop_others() {
    let server = Server::start(1, 64);
    let mut lazy = Vec::new();
    for _ in 0..40 {
        let mut stream = enter(&server);
        for cookie in 0..200_u64 {
            stream.write_all(&request(0, cookie, (cookie % 60) << 20, MIB as u32)).unwrap();
        }
        lazy.push(stream);
    }
    let mut client = server.client();
    let mut data = vec![0; 4 * MIB];
    let begun = Instant::now();
    client.read(0, &mut data).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(data == fs::read(&server.image).unwrap()[..4 * MIB]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    assert!(kib < 200 << 10, "peak of {kib} KiB");
    drop(lazy);
    client.read(0, &mut data).unwrap();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let server = Server::start(1, 64);
    for round in 0..150_u64 {
        let Some(mut stream) = try_enter(&server) else {
            // A hundred are still on their way out.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        for cookie in 0..8 {
            stream.write_all(&request(0, cookie, cookie << 18, 256 << 10)).unwrap();
        }
        // A write whose payload never comes whole.
        stream.write_all(&request(1, 9, 0, MIB as u32)).unwrap();
        stream.write_all(&vec![1; (round as usize * 7919) % MIB]).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    let all: Vec<_> = (0..99).map(|_| server.client()).collect();
    drop(all);
    let mut client = server.client();
    let mut data = vec![0; 8 * MIB];
    client.read(32 * MIB as u64, &mut data).unwrap();
    assert!(data == fs::read(&server.image).unwrap()[32 * MIB..40 * MIB]);
    let (said, time) = server.terminate();
    assert!(said.contains("ended Ok") && time < Duration::from_secs(7), "{time:?}");
}

#[test]
fn the_hundred_and_first_is_turned_away() {
    let server = Server::start(4, 1);
    let clients: Vec<_> = (0..100).map(|_| server.client()).collect();
    let mut one_more = server.raw();
    let mut rest = Vec::new();
    one_more.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    drop(clients);
    let begun = Instant::now();
    while Client::connect(&Address::Unix(server.socket.clone()), "disk").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

fn request(kind: u16, cookie: u64, at: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&at.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}

/// A raw connection in the transmission phase, by the oldest option.
fn enter(server: &Server) -> UnixStream {
    try_enter(server).unwrap()
}

fn try_enter(server: &Server) -> Option<UnixStream> {
    let mut stream = server.raw();
    let mut hello = vec![0, 0, 0, 3];
    hello.extend_from_slice(&0x4948_4156_454f_5054_u64.to_be_bytes());
    hello.extend_from_slice(&1_u32.to_be_bytes());
    hello.extend_from_slice(&4_u32.to_be_bytes());
    hello.extend_from_slice(b"disk");
    stream.write_all(&hello).ok()?;
    let mut reply = [0; 18 + 10];
    stream.read_exact(&mut reply).ok()?;
    Some(stream)
}
