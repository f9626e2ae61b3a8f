// SPDX-License-Identifier: MIT

//! Real NBD clients against the protocol machines. A client that is not installed fails the test.

mod nbd_common;

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Duration;
use std::{fs, io, thread};

use nbd_common::{Random, Server, Volumes};
use rwsnap::nbd::client::{Client, ClientError};
use rwsnap::nbd::wire::{export, flag, rep, state, NbdError};

const MIB: usize = 1 << 20;

/// Half of it data, half zeros, in runs.
fn image(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    let mut data = vec![0; len];
    for run in data.chunks_mut(256 << 10) {
        if random.below(2) == 0 {
            let pattern = random.bytes(4096);
            run.chunks_mut(4096).for_each(|block| block.copy_from_slice(&pattern[..block.len()]));
        }
    }
    data
}

fn server(len: usize, min_block: u32) -> Server {
    let mut volumes = Volumes::default();
    volumes.add("prod", image(len), false, min_block);
    volumes.add("prod@monday", image(len), true, min_block);
    Server::start(volumes)
}

/// Runs a client; panics with what it said unless it ends as it should.
fn run(program: &str, args: &[&str], good: bool) -> String {
    let Output { status, stdout, stderr } = Command::new(program)
        .args(args)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("`{program}` cannot be run, but has to be: {error}"));
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(status.success(), good, "{program} {args:?} said:\n{said}");
    said
}

fn ok(program: &str, args: &[&str]) -> String {
    run(program, args, true)
}

#[test]
fn nbdinfo_sees_the_exports() {
    let server = server(8 * MIB, 512);
    let list = ok("nbdinfo", &["--list", "--json", &server.uri("")]);
    for fact in [
        r#""export-name": "prod""#,
        r#""export-name": "prod@monday""#,
        r#""description": "the volume prod""#,
        r#""structured": true"#,
        r#""base:allocation""#,
        r#""export-size": 8388608"#,
        r#""block_size_minimum": 512"#,
        r#""block_size_preferred": 4096"#,
        r#""block_size_maximum": 33554432"#,
        r#""can_fast_zero": true"#,
        r#""can_df": true"#,
        r#""can_multi_conn": true"#,
    ] {
        assert!(list.contains(fact), "no {fact} in {list}");
    }
    for (can, prod, monday) in [
        ("connect", true, true),
        ("structured", true, true),
        ("flush", true, true),
        ("fua", true, true),
        ("cache", true, true),
        ("multi-conn", true, true),
        ("trim", true, false),
        ("zero", true, false),
        ("write", true, false),
    ] {
        run("nbdinfo", &["--can", can, &server.uri("prod")], prod);
        run("nbdinfo", &["--can", can, &server.uri("prod@monday")], monday);
    }
    run("nbdinfo", &[&server.uri("nothing")], false);
}

#[test]
fn nbdinfo_maps_the_holes() {
    let server = server(8 * MIB, 4096);
    let map = ok("nbdinfo", &["--map", &server.uri("prod")]);
    let mut end = 0;
    let data = server.volumes.data("prod");
    for line in map.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |n: usize| fields[n].parse::<usize>().expect("a number");
        assert_eq!(number(0), end);
        end += number(1);
        let zero = data[number(0)..end].iter().all(|&byte| byte == 0);
        assert_eq!(number(2) == 3, zero, "{line}");
    }
    assert_eq!(end, data.len());
}

#[test]
fn nbdcopy_goes_there_and_back() {
    let server = server(24 * MIB, 512);
    let (from, to) = (server.file("from"), server.file("to"));
    let mut data = image(24 * MIB);
    data.reverse();
    fs::write(&from, &data).unwrap();
    ok("nbdcopy", &["--flush", from.to_str().unwrap(), &server.uri("prod")]);
    assert!(server.volumes.data("prod") == data);
    ok("nbdcopy", &[&server.uri("prod"), to.to_str().unwrap()]);
    assert!(fs::read(&to).unwrap() == data);
    ok(
        "nbdcopy",
        &["--destination-is-zero", "--connections=1", &server.uri("prod@monday"), "null:"],
    );
    run("nbdcopy", &[from.to_str().unwrap(), &server.uri("prod@monday")], false);
}

#[test]
fn nbdcopy_hears_of_a_failed_read() {
    let mut volumes = Volumes::default();
    volumes.add("bad", vec![1; 4 * MIB], false, 512).broken = Some(3 << 20);
    let server = Server::start(volumes);
    run("nbdcopy", &[&server.uri("bad"), "null:"], false);
}

#[test]
fn qemu_img_converts_and_compares() {
    let server = server(16 * MIB, 4096);
    let (raw, qcow2) = (server.file("raw"), server.file("qcow2"));
    let (raw, qcow2) = (raw.to_str().unwrap(), qcow2.to_str().unwrap());
    let (prod, monday) = (server.uri("prod"), server.uri("prod@monday"));
    ok("qemu-img", &["convert", "-f", "raw", "-O", "raw", &monday, raw]);
    assert!(fs::read(raw).unwrap() == server.volumes.data("prod@monday"));
    ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &prod, &monday]);
    ok("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &monday, qcow2]);
    let map = ok("qemu-img", &["map", "--output=json", "-f", "raw", &prod]);
    assert!(map.contains(r#""zero": true"#) && map.contains(r#""data": true"#), "{map}");
    ok("qemu-io", &["-f", "raw", "-c", "write -P 0x5a 0 16M", "-c", "flush", &prod]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &prod, &monday], false);
    ok("qemu-img", &["convert", "-n", "-W", "-f", "qcow2", "-O", "raw", qcow2, &prod]);
    ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &prod, &monday]);
    let info = ok("qemu-img", &["info", &prod]);
    assert!(info.contains("16 MiB"), "{info}");
}

#[test]
fn qemu_io_does_all_commands() {
    let server = server(16 * MIB, 512);
    let prod = server.uri("prod");
    for script in [
        &["write -P 0xa5 4096 1M", "read -P 0xa5 4096 1M"][..],
        &["write -f -P 0x11 0 512", "read -P 0x11 0 512"],
        &["write -z 1M 2M", "read -P 0 1M 2M"],
        &["write -z -u -f 5M 64k", "read -P 0 5M 64k"],
        &["write -z -n 5M 64k"],
        &["discard 8M 4M", "flush"],
        &["aio_write -P 0x22 0 8M", "aio_write -P 0x33 8M 8M", "aio_flush", "read -P 0x33 8M 8M"],
        &["write -P 0x44 100 1000", "read -P 0x44 100 1000"],
    ] {
        let mut args = vec!["-f", "raw", "-t", "none"];
        script.iter().for_each(|line| args.extend(["-c", line]));
        args.push(&prod);
        let said = ok("qemu-io", &args);
        assert!(!said.contains("ERROR") && !said.contains("failed"), "{script:?}: {said}");
    }
    let data = server.volumes.data("prod");
    assert!(data[100..1100].iter().all(|&byte| byte == 0x44));
    run("qemu-io", &["-f", "raw", "-c", "write 0 512", &server.uri("prod@monday")], false);
}

#[test]
fn fio_verifies() {
    for min_block in [512, 4096] {
        let server = server(32 * MIB, min_block);
        let said = ok(
            "fio",
            &[
                "--name=verify",
                "--ioengine=nbd",
                &format!("--uri={}", server.uri("prod")),
                "--rw=randrw",
                "--bsrange=4k-128k",
                "--size=32m",
                "--iodepth=32",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--do_verify=1",
                "--trim_percentage=0",
                "--fsync=32",
                "--verify_state_save=0",
            ],
        );
        assert!(said.contains("err= 0"), "{said}");
    }
}

#[test]
fn nbdsh_knows_the_corners() {
    let server = server(4 * MIB, 512);
    let script = include_str!("nbd_corners.py");
    let uris = [server.uri("prod"), server.uri("prod@monday")];
    ok("nbdsh", &["-c", &format!("uri, ro = {uris:?}\n{script}")]);
}

#[test]
fn our_client_does_all_commands() {
    let server = server(40 * MIB, 512);
    let mut client = Client::connect_uri(&server.uri("prod")).unwrap();
    let facts = client.facts();
    assert_eq!((client.size(), facts.min_block, facts.preferred_block), (40 << 20, 512, 4096));
    assert!(facts.structured && facts.context.is_some());
    assert_eq!(facts.flags & export::READ_ONLY, 0);

    let data = Random(3).bytes(40 * MIB);
    client.write(0, &data, true).unwrap(); // longer than one request may be
    let mut back = vec![0; data.len()];
    client.read(0, &mut back).unwrap();
    assert!(back == data);

    client.zero(4096, 8192, flag::FUA | flag::NO_HOLE).unwrap();
    client.trim(65536, 4096).unwrap();
    client.cache(0, 4096).unwrap();
    client.flush().unwrap();
    let hole = state::HOLE | state::ZERO;
    let extents = client.block_status(0, 65536, false).unwrap();
    let extents: Vec<_> = extents.iter().map(|extent| (extent.len, extent.flags)).collect();
    assert_eq!(extents, [(4096, 0), (8192, hole), (53248, 0)]);
    assert_eq!(client.block_status(0, 65536, true).unwrap().len(), 1);

    let error = |result: Result<(), ClientError>| result.unwrap_err().nbd();
    assert_eq!(error(client.read(40 << 20, &mut [0; 512])), Some(NbdError::Inval));
    assert_eq!(error(client.write(40 << 20, &[0; 512], false)), Some(NbdError::NoSpc));
    assert_eq!(error(client.zero(0, 512, flag::FAST_ZERO)), Some(NbdError::NotSup));
    client.flush().unwrap();
    client.disconnect().unwrap();

    let mut monday = Client::connect(&server.address(), "prod@monday").unwrap();
    assert_ne!(monday.facts().flags & export::READ_ONLY, 0);
    assert_eq!(error(monday.write(0, &[0; 512], false)), Some(NbdError::Perm));
    match Client::connect(&server.address(), "nothing") {
        Err(ClientError::Refused(rep::ERR_UNKNOWN, _)) => {}
        other => panic!("{other:?}"),
    }
    let list = Client::list(&server.address()).unwrap();
    assert_eq!(list[1], ("prod@monday".into(), "the volume prod@monday".into()));
    assert_eq!(list.len(), 2);
}

#[test]
fn our_client_speaks_tcp() {
    let server = server(4 * MIB, 512);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = server.socket.clone();
    thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut to = UnixStream::connect(socket).unwrap();
        let (mut back, mut forth) = (to.try_clone().unwrap(), from.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut to));
        let _ = io::copy(&mut back, &mut forth);
    });
    let mut client = Client::connect_uri(&format!("nbd://127.0.0.1:{port}/prod")).unwrap();
    client.set_timeout(Some(Duration::from_secs(20))).unwrap();
    let data = Random(9).bytes(4 * MIB);
    client.write(0, &data, false).unwrap();
    let mut back = vec![0; data.len()];
    client.read(0, &mut back).unwrap();
    assert!(back == data && server.volumes.data("prod") == data);
}

#[test]
fn our_client_works_against_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nbdkit.sock");
    let mut nbdkit = Command::new("nbdkit")
        .args(["-f", "-U", socket.to_str().unwrap(), "memory", "size=64M"])
        .spawn()
        .expect("`nbdkit` has to be installed");
    let address = rwsnap::nbd::Address::Unix(socket);
    let mut client = (0..100)
        .find_map(|_| {
            thread::sleep(Duration::from_millis(50));
            Client::connect(&address, "").ok()
        })
        .expect("nbdkit answers");
    let data = Random(5).bytes(3 * MIB);
    client.write(1 << 20, &data, false).unwrap();
    client.zero(2 << 20, 1 << 20, 0).unwrap();
    let mut back = vec![1; 4 * MIB];
    client.read(0, &mut back).unwrap();
    assert!(back[MIB..2 * MIB] == data[..MIB] && back[3 * MIB..] == data[2 * MIB..]);
    assert!(back[2 * MIB..3 * MIB].iter().all(|&byte| byte == 0));
    assert!(!client.block_status(0, 64 << 20, false).unwrap().is_empty());
    drop(client);
    nbdkit.kill().unwrap();
    nbdkit.wait().unwrap();
}
