// SPDX-License-Identifier: MIT

//! A pool that is served, as NBD clients find it: what the tests of the protocol's machines and of
//! bare disks cannot show.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "nbd_common/speak.rs"]
#[expect(clippy::cast_possible_truncation, reason = "numbers cut on purpose")]
mod speak;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool::Place;
use rwsnap::nbd::client::Client;
use rwsnap::nbd::wire::{cmd, export, info, opt, rep, OptionReply};
use rwsnap::nbd::Address;
use server::Server;
use speak::{go, option, request, FLAGS};
use zerocopy::FromBytes;

const SIZE: u64 = 16 << 20;
const CHUNK: u64 = 4096;

fn socket(place: &Place) -> Address {
    Address::Unix(place.path("n.sock"))
}

fn client(place: &Place, name: &str) -> Client {
    Client::connect(&socket(place), name).unwrap()
}

fn terminate(server: &Server) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

/// The next reply to an option, and what it brings.
fn next_reply(stream: &mut impl Read) -> (OptionReply, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    let head = OptionReply::read_from_bytes(&head).unwrap();
    let mut data = vec![0; usize::try_from(head.len.get()).unwrap()];
    stream.read_exact(&mut data).unwrap();
    (head, data)
}

/// Says this option, behind the greeting; what the export's information says.
fn export_info(stream: &mut (impl Read + Write), which: u32, name: &[u8]) -> Vec<u8> {
    stream.write_all(&option(which, &go(name, &[]))).unwrap();
    let mut found = Vec::new();
    loop {
        let (head, data) = next_reply(stream);
        match head.kind.get() {
            rep::ACK => return found,
            rep::INFO if data.starts_with(&info::EXPORT.to_be_bytes()) => found = data,
            rep::INFO => {}
            kind => panic!("{kind:#x}: {}", String::from_utf8_lossy(&data)),
        }
    }
}

fn greeted<S: Read + Write>(mut stream: S) -> S {
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&FLAGS).unwrap();
    stream
}

/// A server removed whatever stood where its socket was to be: a connection to a file that is no
/// socket is refused, like one to the socket of a dead server.
#[test]
fn a_file_where_a_socket_is_to_be_is_left_alone() {
    let place = Place::pool(SIZE);
    fs::write(place.path("precious.img"), b"data").unwrap();
    place.refused(&["serve", "save.img", "--nbd", "unix:precious.img"], &["precious.img"]);
    place.refused(&["serve", "save.img", "--control", "precious.img"], &["precious.img"]);
    place.refused(&["serve", "save.img", "--nbd", "unix:prod.img"], &["prod.img"]);
    assert_eq!(fs::read(place.path("precious.img")).unwrap(), b"data");
    place.holds("prod", 0, SIZE, 1);
    // The socket of a server that was killed is replaced.
    drop(Server::start(&place, &["--nbd", "unix:n.sock"]));
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    client(&place, "prod").disconnect().unwrap();
    place.ok(&["stop"]);
    server.ended();
}

/// `qemu-nbd --list` asks several things of every export on one connection, and was cut off.
#[test]
fn a_client_asks_about_each_of_many_exports() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    for n in 0..100 {
        place.ok(&["snapshot", &format!("prod@s{n}")]);
    }
    let socket = place.path("n.sock");
    let list = Command::new("qemu-nbd").args(["--list", "-k"]).arg(&socket).output().unwrap();
    let said = String::from_utf8_lossy(&list.stdout);
    let error = String::from_utf8_lossy(&list.stderr);
    assert!(list.status.success(), "{error}\n{said}");
    for n in 0..100 {
        assert!(said.contains(&format!("'prod@s{n}'")), "{n}: {said}");
    }
    assert_eq!(said.matches("base:allocation").count(), 101, "{said}");
    place.ok(&["stop"]);
    server.ended();
}

/// What `INFO` said of a volume that can be written was that it cannot.
#[test]
fn info_says_of_an_export_what_go_says() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev"]);
    for (name, writable) in [("prod", true), ("dev", true), ("prod@a", false), ("", true)] {
        let mut stream = greeted(UnixStream::connect(place.path("n.sock")).unwrap());
        let seen = export_info(&mut stream, opt::INFO, name.as_bytes());
        assert_eq!(seen, export_info(&mut stream, opt::GO, name.as_bytes()), "{name}");
        let flags = u16::from_be_bytes([seen[10], seen[11]]);
        assert_eq!(flags & export::READ_ONLY == 0, writable, "{name}");
    }
    place.ok(&["stop"]);
    server.ended();
}

/// The accept on a TCP listener went on until the last client had gone: those who came meanwhile
/// were let in and shut out at once.
#[test]
fn a_server_that_ends_takes_no_client() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &["--nbd", &format!("tcp:127.0.0.1:{port}")]);
    // A client that does not read what it asked for delays the end.
    let mut lazy = greeted(TcpStream::connect(("127.0.0.1", port)).unwrap());
    export_info(&mut lazy, opt::GO, b"prod");
    for cookie in 0..64 {
        lazy.write_all(&request(cmd::READ, 0, cookie, 0, 8 << 20)).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    terminate(&server);
    let begun = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            _ if begun.elapsed() > Duration::from_secs(2) => panic!("clients are still let in"),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
    let mut server = server;
    assert!(server.child.try_wait().unwrap().is_none(), "there was nothing to wait for");
    // Told once more, it does not end any sooner or worse.
    terminate(&server);
    server.ended();
    place.check();
}

/// Offset, length and flags of each extent, as `nbdinfo --map` shows them.
fn map(place: &Place, name: &str) -> Vec<[u64; 3]> {
    let uri = format!("nbd+unix:///{name}?socket={}", place.path("n.sock").display());
    let output = Command::new("nbdinfo").args(["--map", &uri]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let numbers = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse().unwrap());
        [(); 3].map(|()| fields.next().unwrap_or(u64::MAX))
    };
    said.lines()
        .map(|line| numbers(line.split("data").next().unwrap().split("hole").next().unwrap()))
        .collect()
}

/// All of every volume was said to be allocated.
#[test]
fn a_sparse_production_is_said_to_be_sparse() {
    const MIB: u64 = 1 << 20;
    for reactors in ["1", "4"] {
        let place = Place::new();
        let image = place.path("prod.img");
        fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        let image = image.to_str().unwrap().to_owned();
        place.ok(&["-q", "create", "save.img", "--size", "64M", "--production", &image]);
        let server = Server::start(&place, &["--nbd", "unix:n.sock", "--reactors", reactors]);
        assert_eq!(map(&place, "prod"), [[0, SIZE, 3]]);
        let mut prod = client(&place, "prod");
        prod.write(MIB, &vec![7; 1 << 20], false).unwrap();
        prod.write(4 * MIB + CHUNK, &vec![7; 4096], false).unwrap();
        let sparse = [
            [0, MIB, 3],
            [MIB, MIB, 0],
            [2 * MIB, 2 * MIB + CHUNK, 3],
            [4 * MIB + CHUNK, CHUNK, 0],
            [4 * MIB + 2 * CHUNK, SIZE - 4 * MIB - 2 * CHUNK, 3],
        ];
        assert_eq!(map(&place, "prod"), sparse);
        prod.zero(MIB, 1 << 20, 0).unwrap();
        assert_eq!(map(&place, "prod")[0], [0, 4 * MIB + CHUNK, 3], "a hole again");
        prod.write(MIB, &vec![7; 1 << 20], false).unwrap();
        // More extents than a reply has room for, and just one.
        for n in 0..100 {
            prod.write(8 * MIB + 4 * n * CHUNK, &vec![7; 4096], false).unwrap();
        }
        assert_eq!(map(&place, "prod").len(), 5 + 200);
        assert_eq!(prod.block_status(0, 16 << 20, true).unwrap().len(), 1);
        // What is read from elsewhere is allocated, whatever the file in place says.
        place.ok(&["snapshot", "prod@a"]);
        assert_eq!(map(&place, "prod@a"), [[0, SIZE, 0]]);
        assert_eq!(map(&place, "prod").len(), 5 + 200);
        prod.zero(0, 16 << 20, 0).unwrap();
        drop(prod);
        let restore = ["restore", "prod", "--from", "prod@a", "--rate", "0", "--no-undo"];
        place.ok(&restore);
        let seen = map(&place, "prod");
        let data = |at: u64| seen.iter().any(|e| e[2] == 0 && e[0] <= at && at < e[0] + e[1]);
        assert!(data(MIB) && data(2 * MIB - 1) && data(4 * MIB + CHUNK), "{seen:?}");
        let copied = ["--destination-is-zero", "nbd+unix:///prod?socket=n.sock", "copy.img"];
        let mut copy = Command::new("nbdcopy");
        assert!(copy.args(copied).current_dir(place.path(".")).status().unwrap().success());
        assert!(fs::read(place.path("copy.img")).unwrap() == place.read("prod@a", 0, SIZE));
        place.ok(&["stop"]);
        server.ended();
        place.check();
    }
}

/// Growing fails, and neither the error nor the kernel's signal for it ends the server.
#[test]
fn a_limit_on_files_is_a_full_save_volume() {
    let place = Place::pool(SIZE);
    let size = fs::metadata(place.path("save.img")).unwrap().len();
    let script = format!("ulimit -f {}; exec \"$@\"", size / 1024);
    let serve = place.command(&["serve", "save.img", "--nbd", "unix:n.sock"]);
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(serve.get_program()).args(serve.get_args());
    command.current_dir(place.path(".")).env("RWSNAP_RUNTIME_DIR", place.path("run"));
    let server = Server::of(&mut command);
    place.ok(&["snapshot", "prod@a"]);
    let mut snapshots = Vec::new();
    // Fills the save volume, which grows when it is full.
    for n in 0..6_u64 {
        let name = format!("prod@s{n}");
        let full = place.json(&["status"])["full"].as_bool() == Some(true);
        if full {
            break;
        }
        place.ok(&["snapshot", &name]);
        snapshots.push(name);
        let image = place.path("in");
        fs::write(&image, pool::pattern(0, SIZE, n + 2)).unwrap();
        let mut write = place.command(&["write", "prod", "-i", "in"]).spawn().unwrap();
        let begun = Instant::now();
        while write.try_wait().unwrap().is_none() {
            if place.json(&["status"])["full"].as_bool() == Some(true) {
                let snapshot = snapshots.remove(0);
                place.ok(&["destroy", &snapshot]);
            }
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(fs::metadata(place.path("save.img")).unwrap().len() <= size);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

/// Reads and writes on four reactors while commands take the volumes away under them.
#[test]
fn volumes_come_and_go_while_requests_are_under_way() {
    for reactors in ["4", "1"] {
        let place = Place::new();
        let prod = place.production("prod.img", SIZE);
        place.ok(&["-q", "create", "save.img", "--size", "512M", "--production", &prod]);
        let server = Server::start(&place, &["--nbd", "unix:n.sock", "--reactors", reactors]);
        place.ok(&["snapshot", "prod@a"]);
        place.ok(&["clone", "prod@a", "dev"]);
        let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for n in 0..8_u64 {
                let (place, over, done) = (&place, &over, &done);
                scope.spawn(move || {
                    let name = ["prod", "dev", "prod@a", "dev"][usize::try_from(n % 4).unwrap()];
                    hammer(place, name, n, over, done);
                });
            }
            let begun = Instant::now();
            let mut turn = 0;
            while begun.elapsed() < Duration::from_secs(6) {
                turn += 1;
                let name = format!("dev@t{turn}");
                place.ok(&["snapshot", &name]);
                place.ok(&["clone", &name, "other"]);
                place.ok(&["refresh", "dev", "--to", "prod@a", "--force", "--keep", "kept"]);
                place.ok(&["destroy", "-r", "other", "kept"]);
                if turn % 2 == 0 {
                    let restore = ["restore", "prod", "--from", "dev", "--force", "--no-undo"];
                    let output = place.run(&[&restore[..], &["--wait"]].concat());
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{said}");
                }
            }
            assert!(turn > 3, "{turn}");
            over.store(true, Ordering::SeqCst);
        });
        assert!(done.load(Ordering::SeqCst) > 1000, "{done:?}");
        place.holds("prod@a", 0, SIZE, 1);
        terminate(&server);
        server.ended();
        place.check();
        place.holds("prod@a", 0, SIZE, 1);
    }
}

/// Reads and writes a volume; comes again when it is cut off.
fn hammer(place: &Place, name: &str, seed: u64, over: &AtomicBool, done: &AtomicU64) {
    let mut seed = seed + 1;
    let mut bytes = vec![0; 64 << 10];
    while !over.load(Ordering::SeqCst) {
        let Ok(mut client) = Client::connect(&socket(place), name) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        client.set_timeout(Some(Duration::from_secs(30))).unwrap();
        loop {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) % (SIZE / CHUNK - 16) * CHUNK;
            let result = match (seed >> 60, name) {
                (0..=5, "prod" | "dev") => client.write(at, &bytes, seed >> 59 & 1 == 1),
                (6, "prod" | "dev") => client.trim(at, 64 << 10),
                (7, "prod" | "dev") => client.zero(at, 64 << 10, 0),
                (8, _) => client.flush(),
                _ => client.read(at, &mut bytes),
            };
            match result {
                Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                Err(error) if format!("{error:?}").contains("TimedOut") => panic!("{error}"),
                Err(_) => break,
            };
            if over.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}
