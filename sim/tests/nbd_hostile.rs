// SPDX-License-Identifier: MIT

//! Hostile and broken clients: one test for each NBD hole that became known elsewhere, named after
//! it, and some that did not. Those of clients are in `nbd_hostile_servers`.

mod nbd_common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nbd_common::speak::{go, header, option, queries, request, FLAGS};
use nbd_common::{Server, Volumes};
use rwsnap::nbd::client::{Client, ClientError};
use rwsnap::nbd::handshake::OUTPUT_MAX;
use rwsnap::nbd::wire::{
    chunk, cmd, info, opt, rep, Chunk, OptionReply, BASE_ALLOCATION, CHUNK_MAGIC,
};
use rwsnap::nbd::{
    Closing, Handshake, NbdError, Progress, Waiting, CONNECTIONS_MAX, HANDSHAKE_TIME, NAME_MAX,
    OPTIONS_MAX, OPTION_MAX,
};
use zerocopy::FromBytes;

const SIZE: usize = 1 << 20;

fn volumes() -> Volumes {
    let mut volumes = Volumes::default();
    volumes.add("prod", vec![7; SIZE], false, 512);
    volumes.add("prod@monday", vec![7; SIZE], true, 512);
    volumes
}

/// What the machine says to the options, behind the greeting, and what comes next.
fn shake(options: &[Vec<u8>]) -> (Vec<u8>, Progress) {
    let (volumes, mut shake) = (volumes(), Handshake::new());
    let input = [&FLAGS[..], &options.concat()].concat();
    let (_, progress) = shake.feed(&input, &volumes);
    (shake.output()[18..].to_vec(), progress)
}

fn kinds(mut output: &[u8]) -> Vec<u32> {
    let mut kinds = Vec::new();
    while let Ok((head, rest)) = OptionReply::read_from_prefix(output) {
        kinds.push(head.kind.get());
        output = &rest[head.len.get() as usize..];
    }
    kinds
}

/// A raw connection that has just entered `name`, structured.
fn entered(server: &Server, name: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let options = [
        option(opt::STRUCTURED_REPLY, &[]),
        option(opt::SET_META_CONTEXT, &queries(name, &[BASE_ALLOCATION])),
        option(opt::GO, &go(name, &[])),
    ];
    stream.write_all(&[&FLAGS[..], &options.concat()].concat()).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    loop {
        let mut head = [0; 20];
        stream.read_exact(&mut head).unwrap();
        let head = OptionReply::read_from_bytes(&head).unwrap();
        stream.read_exact(&mut vec![0; head.len.get() as usize]).unwrap();
        if head.option == opt::GO && head.kind == rep::ACK {
            return stream;
        }
    }
}

/// The next chunk: cookie, type and data.
fn next_chunk(stream: &mut UnixStream) -> (u64, u16, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    let head = Chunk::read_from_bytes(&head).unwrap();
    assert_eq!(head.magic, CHUNK_MAGIC);
    let mut data = vec![0; head.len.get() as usize];
    stream.read_exact(&mut data).unwrap();
    (head.cookie.get(), head.kind.get(), data)
}

/// The error of the next chunk.
fn next_error(stream: &mut UnixStream, cookie: u64) -> NbdError {
    let (seen, kind, data) = next_chunk(stream);
    assert_eq!((seen, kind), (cookie, chunk::ERROR));
    NbdError::from_code(u32::from_be_bytes(*data.first_chunk().unwrap()))
}

/// The connection still works.
fn works(stream: &mut UnixStream) {
    stream.write_all(&request(cmd::READ, 0, 99, 0, 512)).unwrap();
    let (cookie, kind, data) = next_chunk(stream);
    assert_eq!((cookie, kind, data.len()), (99, chunk::OFFSET_DATA, 520));
}

// Lengths.

#[test]
fn cve_2022_26495_a_name_length_that_wraps() {
    for len in [u32::MAX, u32::MAX - 1, i32::MAX as u32, 1 << 31] {
        let data = [&len.to_be_bytes()[..], b"prod\0\0"].concat();
        for which in [opt::GO, opt::INFO, opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
            let (said, _) = shake(&[option(opt::STRUCTURED_REPLY, &[]), option(which, &data)]);
            assert_eq!(kinds(&said), [rep::ACK, rep::ERR_INVALID]);
        }
        let (said, progress) = shake(&[header(opt::EXPORT_NAME, len)]);
        assert_eq!((said.len(), progress), (0, Progress::Close(Closing::NoExport)));
    }
}

#[test]
fn cve_2022_26496_and_2017_15118_a_name_longer_than_its_buffer() {
    for len in [NAME_MAX + 1, 1024, 4096, 4097, OPTION_MAX - 6] {
        let name = vec![b'a'; len];
        let (said, progress) =
            shake(&[option(opt::INFO, &go(&name, &[])), option(opt::GO, &go(&name, &[]))]);
        assert_eq!(kinds(&said), [rep::ERR_UNKNOWN, rep::ERR_UNKNOWN]);
        assert_eq!(progress, Progress::Receive);
    }
}

#[test]
fn cve_2017_15119_an_option_that_claims_gigabytes() {
    let (volumes, mut shake) = (volumes(), Handshake::new());
    shake.feed(&[&FLAGS[..], &header(opt::LIST, u32::MAX)].concat(), &volumes);
    shake.sent(usize::MAX);
    let junk = vec![0x49; 1 << 20];
    for _ in 0..(1 << 12) - 1 {
        let (consumed, progress) = shake.feed(&junk, &volumes);
        assert_eq!((consumed, progress), (junk.len(), Progress::Receive));
        assert!(shake.output().is_empty());
        assert_eq!(shake.waits_for(), Waiting::Data);
    }
    shake.feed(&junk[1..], &volumes);
    assert_eq!(kinds(shake.output()), [rep::ERR_TOO_BIG]);
}

#[test]
fn a_request_that_ends_beyond_all_numbers() {
    let server = Server::start(volumes());
    let mut stream = entered(&server, b"prod");
    for (cookie, (at, len)) in
        [(u64::MAX, 1), (u64::MAX - 511, 512), (0, u32::MAX), (SIZE as u64, u32::MAX - 511)]
            .into_iter()
            .enumerate()
    {
        for kind in [cmd::READ, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS] {
            stream.write_all(&request(kind, 0, cookie as u64, at, len)).unwrap();
            let error = next_error(&mut stream, cookie as u64);
            assert!(matches!(error, NbdError::Inval | NbdError::NoSpc));
        }
    }
    works(&mut stream);
}

#[test]
fn a_refused_write_does_not_put_its_payload_in_place_of_requests() {
    let server = Server::start(volumes());
    for (name, at, len) in [
        (&b"prod@monday"[..], 0, 512 * 28),
        (b"prod", SIZE as u64, 512 * 28),
        (b"prod", 0, (40 << 20) / 28 * 28),
        (b"prod", 1, 28),
    ] {
        let mut stream = entered(&server, name);
        stream.write_all(&request(cmd::WRITE, 0, 5, at, len)).unwrap();
        let trap = request(cmd::WRITE_ZEROES, 0, 666, 0, 512);
        stream.write_all(&trap.repeat(len as usize / trap.len())).unwrap();
        next_error(&mut stream, 5);
        works(&mut stream);
    }
    assert!(server.volumes.data("prod") == vec![7; SIZE]);
}

// Assertions.

#[test]
fn cve_2017_7539_and_2017_9524_clients_that_leave_at_any_byte() {
    let server = Server::start(volumes());
    let options = [
        option(opt::STRUCTURED_REPLY, &[]),
        option(opt::LIST, &[]),
        option(opt::GO, &go(b"prod", &[info::NAME])),
    ];
    let write = [request(cmd::WRITE, 0, 1, 0, 512), vec![7; 512]].concat();
    let all = [&FLAGS[..], &options.concat(), &request(cmd::READ, 0, 1, 0, 4096), &write].concat();
    for len in 0..=all.len() {
        let mut stream = UnixStream::connect(&server.socket).unwrap();
        let _ = stream.write_all(&all[..len]);
        if len % 2 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    works(&mut entered(&server, b"prod"));
    assert!(server.volumes.data("prod") == vec![7; SIZE]);
}

#[test]
fn cve_2020_10761_an_answer_about_a_name_of_4096_bytes() {
    let (said, _) = shake(&vec![option(opt::GO, &go(&[b'x'; 4096], &[])); 10]);
    assert_eq!(kinds(&said), [rep::ERR_UNKNOWN; 10]);
    assert!(said.len() <= 10 * (20 + 64), "the name does not come back");
}

#[test]
fn cve_2019_14851_an_option_that_leaves_state_behind() {
    let set = option(opt::SET_META_CONTEXT, &queries(b"prod", &[BASE_ALLOCATION]));
    let (_, progress) = shake(&[
        option(opt::STRUCTURED_REPLY, &[]),
        set,
        option(opt::INFO, &go(b"nothing", &[])),
        option(opt::INFO, &go(b"prod@monday", &[])),
        option(opt::GO, &go(b"prod@monday", &[])),
    ]);
    let Progress::Ready(session) = progress else { panic!("{progress:?}") };
    assert_eq!(session.export.name, "prod@monday");
    assert!(!session.allocation, "selected for another export");
}

#[test]
fn cve_2025_47711_and_47712_block_status_of_the_longest_range() {
    let mut volumes = volumes();
    volumes.add("large", vec![0; 1 << 20], false, 512).export.size = 1 << 40;
    let (_, progress) = {
        let mut shake = Handshake::new();
        let options = [
            option(opt::STRUCTURED_REPLY, &[]),
            option(opt::SET_META_CONTEXT, &queries(b"large", &[BASE_ALLOCATION])),
            option(opt::GO, &go(b"large", &[])),
        ];
        shake.feed(&[&FLAGS[..], &options.concat()].concat(), &volumes)
    };
    let Progress::Ready(session) = progress else { panic!("{progress:?}") };
    let replies = rwsnap::nbd::Replies::new(&session);
    let longest = u32::MAX - 511;
    let mut inlet = rwsnap::nbd::Inlet::new(&session);
    let (_, event) = inlet.next(&request(cmd::BLOCK_STATUS, 0, 1, 1 << 39, longest));
    let rwsnap::nbd::Event::Request(request) = event else { panic!("{event:?}") };
    for len in [1_u64 << 40, 1 << 32, u64::from(u32::MAX), u64::from(longest), u64::MAX] {
        let extent = rwsnap::nbd::reply::Extent { len, flags: 3 };
        let mut out = [0; 64];
        let n = replies.block_status(&request, false, [extent, extent], &mut out).unwrap();
        assert_eq!(n, 32);
        assert_eq!(out[24..28], longest.to_be_bytes());
    }
}

// Denial of service.

#[test]
fn cve_2013_7441_a_connection_that_ends_at_once_does_not_end_the_server() {
    let server = Server::start(volumes());
    for _ in 0..200 {
        drop(UnixStream::connect(&server.socket).unwrap());
    }
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.len() <= 18, "the greeting, and no more");
    works(&mut entered(&server, b"prod"));
}

#[test]
fn cve_2019_14850_small_options_do_not_cost_much() {
    // What is left of an amplification: the list. The client has to take it before it gets more.
    let mut volumes = volumes();
    for n in 0..1000 {
        volumes.add(&format!("v{n:03}{}", "x".repeat(200)), Vec::new(), false, 512);
    }
    let mut shake = Handshake::new();
    let input = [&FLAGS[..], &option(opt::LIST, &[]).repeat(60)].concat();
    let (consumed, progress) = shake.feed(&input, &volumes);
    assert_eq!(progress, Progress::Send);
    assert!(shake.output().len() <= OUTPUT_MAX && consumed < 64);
    assert_eq!(shake.feed(&input[consumed..], &volumes), (0, Progress::Send));
}

#[test]
fn cve_2024_7409_silent_clients_have_ten_seconds_and_a_limit() {
    assert!(HANDSHAKE_TIME <= Duration::from_secs(10));
    const { assert!(CONNECTIONS_MAX <= 100) };
    let server = Server::start(volumes());
    let start = Instant::now();
    let mut idle = UnixStream::connect(&server.socket).unwrap();
    idle.set_read_timeout(Some(HANDSHAKE_TIME * 2)).unwrap();
    idle.write_all(&FLAGS).unwrap();
    let mut said = Vec::new();
    idle.read_to_end(&mut said).unwrap();
    assert!(start.elapsed() < HANDSHAKE_TIME * 2);
}

#[test]
fn a_client_cannot_send_options_for_ever() {
    let (volumes, mut shake) = (volumes(), Handshake::new());
    let input = [&FLAGS[..], &option(opt::STARTTLS, &[]).repeat(OPTIONS_MAX as usize + 1)].concat();
    let mut input = &input[..];
    loop {
        let (consumed, progress) = shake.feed(input, &volumes);
        assert!(shake.output().len() <= OUTPUT_MAX);
        shake.sent(usize::MAX);
        input = &input[consumed..];
        match progress {
            Progress::Send => assert!(!input.is_empty()),
            progress => {
                assert_eq!(progress, Progress::Close(Closing::TooManyOptions));
                break;
            }
        }
    }
}

// TLS: there is none, so that nothing said in the clear can be taken for more.

#[test]
fn cve_2021_3716_options_sent_along_with_starttls() {
    let (said, progress) = shake(&[
        option(opt::STRUCTURED_REPLY, &[]),
        option(opt::STARTTLS, &[]),
        option(opt::GO, &go(b"prod", &[])),
    ]);
    assert_eq!(kinds(&said)[..2], [rep::ACK, rep::ERR_UNSUP]);
    let Progress::Ready(session) = progress else { panic!("{progress:?}") };
    assert!(session.structured, "refused, so that what was agreed on stays");
}

#[test]
fn cve_2024_7383_tls_is_never_promised() {
    for data in [&b""[..], b"x", &[0; OPTION_MAX + 1]] {
        let (said, _) = shake(&[option(opt::STARTTLS, data)]);
        assert!(kinds(&said).iter().all(|kind| kind & rep::ERR != 0));
    }
    let error = Client::connect_uri("nbds://localhost/prod").unwrap_err();
    assert!(matches!(error, ClientError::Address(_)), "the client does not fall back either");
}

// Access by prefix.

#[test]
fn cve_2013_6410_names_are_compared_whole() {
    for name in ["p", "pro", "prod ", "prod@", "prod@m", "PROD", "prod\n", "../prod", "/prod", "*"]
    {
        let (said, _) = shake(&[option(opt::GO, &go(name.as_bytes(), &[]))]);
        assert_eq!(kinds(&said), [rep::ERR_UNKNOWN], "{name:?}");
    }
}
