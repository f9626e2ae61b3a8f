// SPDX-License-Identifier: MIT

//! `rwsnap lossy`: disks whose power is cut, through the project's NBD client and through QEMU's.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use rwsnap::nbd::client::Client;
use rwsnap::nbd::wire::{cmd, flag, opt};
use rwsnap::nbd::Address;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;
const SIZE: u64 = BLOCKS * BLOCK as u64;

/// A server of two disks in a folder of its own; `b` has the larger blocks.
struct Lossy {
    child: Child,
    says: BufReader<ChildStdout>,
    dir: PathBuf,
}

impl Lossy {
    /// Serves the images of a folder; makes them if they are not there.
    fn start(dir: &Path, seed: u64) -> Self {
        for name in ["a.img", "b.img"].map(|name| dir.join(name)) {
            if !name.exists() {
                fs::File::create(name).unwrap().set_len(SIZE).unwrap();
            }
        }
        let disk = |name: &str, block| format!("{name}={}:{block}", image(dir, name).display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_rwsnap"))
            .args(["lossy", "--nbd", &format!("unix:{}", dir.join("sock").display())])
            .args(["--disk", &disk("a", 512), "--disk", &disk("b", 4096)])
            .args(["--seed", &seed.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("rwsnap: ready\n") {
            assert_ne!(says.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        Self { child, says, dir: dir.to_owned() }
    }

    fn address(&self) -> Address {
        Address::Unix(self.dir.join("sock"))
    }

    fn client(&self, name: &str) -> Client {
        Client::connect(&self.address(), name).unwrap()
    }

    /// Ends it by a signal; gives its last words.
    fn end(mut self, signal: Signal) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let mut said = String::new();
        self.says.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        assert!(!self.dir.join("sock").exists());
        said
    }

    /// Cuts the power; gives the writes that were lost, kept, torn.
    fn cut(self) -> [u64; 3] {
        let said = self.end(Signal::SIGUSR1);
        let words: Vec<_> = said.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let ["cut:", lost, "writes", "lost", kept, "kept", torn, "torn\n"] = words[..] else {
            panic!("it said {said}");
        };
        [lost, kept, torn].map(|number| number.parse().unwrap())
    }
}

fn image(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.img"))
}

/// The value of each 512 bytes of an image; they are all the same.
fn sectors(dir: &Path, name: &str) -> Vec<u8> {
    let value = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn within");
        sector[0]
    };
    fs::read(image(dir, name)).unwrap().chunks(512).map(value).collect()
}

fn write(client: &mut Client, block: u64, value: u8, blocks: usize, fua: bool) {
    client.write(block * BLOCK as u64, &vec![value; blocks * BLOCK], fua).unwrap();
}

/// A fixed story on both disks: ones are durable, then twos are not; threes are, by FUA.
fn story(lossy: &Lossy) {
    for name in ["a", "b"] {
        let mut client = lossy.client(name);
        write(&mut client, 0, 1, 128, false);
        client.flush().unwrap();
        for block in (0..192).step_by(2) {
            write(&mut client, block, 2, 2, false);
        }
        write(&mut client, 200, 3, 2, true);
        write(&mut client, 64, 3, 1, true);
        client.zero(4096 * 100, 4096 * 4, 0).unwrap();
        let mut data = vec![0; BLOCK];
        for (block, value) in [(0, 2), (64, 3), (65, 2), (100, 0), (103, 0), (104, 2), (201, 3)] {
            client.read(block * BLOCK as u64, &mut data).unwrap();
            assert!(data.iter().all(|byte| *byte == value), "block {block} of {name}");
        }
    }
}

#[test]
fn what_was_flushed_survives_and_the_rest_may_or_may_not() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..16 {
        let dir = tempfile::tempdir().unwrap();
        let lossy = Lossy::start(dir.path(), seed);
        story(&lossy);
        let losses = lossy.cut();
        assert_eq!(losses.iter().sum::<u64>(), 2 * 97);
        for name in ["a", "b"] {
            let got = sectors(dir.path(), name);
            let per_block = BLOCK / 512;
            for (n, value) in got.iter().enumerate() {
                let allowed: &[u8] = match n / per_block {
                    64 | 200 | 201 => &[3],
                    100..=103 => &[0, 1, 2],
                    0..128 => &[1, 2],
                    128..192 => &[0, 2],
                    _ => &[0],
                };
                assert!(allowed.contains(value), "seed {seed}, sector {n} of {name}: {value}");
            }
            if name == "b" {
                let whole = |block: &[u8]| block.iter().all(|value| *value == block[0]);
                assert!(got.chunks(per_block).all(whole), "a block of 4096 bytes is torn within");
            }
        }
        lost += losses[0];
        kept += losses[1];
        torn += losses[2];
    }
    assert!(lost > 200 && kept > 200 && torn > 50, "{lost} lost, {kept} kept, {torn} torn");
}

#[test]
fn the_same_seed_and_story_leave_the_same() {
    let run = |seed| {
        let dir = tempfile::tempdir().unwrap();
        let lossy = Lossy::start(dir.path(), seed);
        story(&lossy);
        let losses = lossy.cut();
        (losses, ["a", "b"].map(|name| sectors(dir.path(), name)))
    };
    let runs: Vec<_> = (0..6).map(run).collect();
    for (seed, once) in (0..).zip(&runs) {
        assert!(*once == run(seed), "seed {seed} left something else");
    }
    assert!((1..6).any(|seed| runs[seed] != runs[0]));
}

#[test]
fn the_power_comes_back_and_an_orderly_end_keeps_all() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..6 {
        let lossy = Lossy::start(dir.path(), round.into());
        let mut client = lossy.client("a");
        write(&mut client, 7, round, 3, false);
        client.flush().unwrap();
        write(&mut client, 20, round, 3, false);
        lossy.cut();
        assert!(client.flush().is_err(), "it answers without power");
        assert_eq!(sectors(dir.path(), "a")[7 * 8..10 * 8], [round; 24]);
    }
    let lossy = Lossy::start(dir.path(), 1);
    let mut client = lossy.client("a");
    write(&mut client, 20, 99, 3, false);
    assert_eq!(lossy.end(Signal::SIGTERM), "");
    assert_eq!(sectors(dir.path(), "a")[20 * 8..23 * 8], [99; 24]);
}

/// The bytes of a request.
fn request(kind: u16, flags: u16, at: u64, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(at.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A flush that is sent before the replies to writes have come covers none of them, and a write
/// with FUA that nobody was told of may be lost.
#[test]
fn a_flush_covers_what_the_client_knows_to_be_done() {
    let mut lost = 0;
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let lossy = Lossy::start(dir.path(), seed);
        let mut raw = UnixStream::connect(dir.path().join("sock")).unwrap();
        // The client's flags; then the export by its name, to be answered with ten bytes.
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(b"IHAVEOPT");
        hello.extend(opt::EXPORT_NAME.to_be_bytes());
        hello.extend(1_u32.to_be_bytes());
        hello.extend(b"a");
        raw.write_all(&hello).unwrap();
        raw.read_exact(&mut [0; 18 + 10]).unwrap();
        let mut batch = request(cmd::WRITE, 0, 0, &[1; 512]);
        batch.extend(request(cmd::FLUSH, 0, 0, &[]));
        raw.write_all(&batch).unwrap();
        raw.read_exact(&mut [0; 2 * 16]).unwrap();
        raw.write_all(&request(cmd::WRITE, flag::FUA, 512, &[2; 512])).unwrap();
        raw.read_exact(&mut [0; 16]).unwrap();
        lossy.cut();
        let got = sectors(dir.path(), "a");
        assert_eq!(got[1], 2);
        lost += u32::from(got[0] == 0);
    }
    assert!(lost > 0, "the flush covered a write that was in flight");
}

#[test]
fn qemu_io_writes_flushes_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let lossy = Lossy::start(dir.path(), 3);
    let qemu = |name: &str, commands: &[&str]| {
        let mut run = Command::new("qemu-io");
        run.args(["-f", "raw", "-t", "none"]);
        run.args(commands.iter().flat_map(|command| ["-c", command]));
        let output = run.arg(lossy.address().uri(name)).output().expect("qemu-io is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !said.contains("failed"), "{said}");
    };
    for name in ["a", "b"] {
        qemu(name, &["write -P 7 0 64k", "flush", "write -f -P 8 128k 64k", "read -P 7 0 64k"]);
        qemu(name, &["write -z 16k 16k", "discard 32k 16k", "read -P 0 16k 32k", "flush"]);
    }
    lossy.cut();
    let got = sectors(dir.path(), "b");
    assert_eq!(got[..32], [7; 32]);
    assert_eq!(got[32..96], [0; 64]);
    assert_eq!(got[256..384], [8; 128]);
}

#[test]
fn nonsense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("odd"), [0; 700]).unwrap();
    let odd = format!("a={}", dir.path().join("odd").display());
    let socket = format!("unix:{}", dir.path().join("sock").display());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--disk", &odd, "--nbd", &socket], 1, "not a number of blocks"),
        (&["--disk", "a=x:513", "--nbd", &socket], 64, "is not a block"),
        (&["--disk", "a=x", "--disk", "a=y", "--nbd", &socket], 64, "the same name"),
        (&["--disk", "a=/nonexistent", "--nbd", &socket], 1, "/nonexistent"),
        (&["--disk", "a=x", "--nbd", "tcp:localhost:1"], 64, "Unix socket"),
        (&["--nbd", &socket], 64, "--disk"),
    ];
    for (args, code, why) in cases {
        let mut run = Command::new(env!("CARGO_BIN_EXE_rwsnap"));
        let output = run.arg("lossy").args(*args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    }
}
