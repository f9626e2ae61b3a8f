// SPDX-License-Identifier: MIT

//! The client against hostile and broken servers.

#![expect(clippy::cast_possible_truncation, reason = "small or false lengths are what is tested")]

mod nbd_common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::thread;

use nbd_common::speak::string;
use nbd_common::Random;
use rwsnap::nbd::client::{Client, ClientError};
use rwsnap::nbd::wire::{
    chunk, opt, rep, Chunk, OptionReply, SimpleReply, BASE_ALLOCATION, CHUNK_MAGIC,
    OPTION_REPLY_MAGIC, SIMPLE_REPLY_MAGIC,
};
use rwsnap::nbd::{Address, NbdError};
use zerocopy::IntoBytes;

const SIZE: usize = 1 << 20;

/// A server that says `replies` behind a sound handshake, whatever it is asked.
fn fake(structured: bool, replies: Vec<u8>) -> (tempfile::TempDir, Address) {
    let ack = |option: u32| reply(option, rep::ACK, &[]);
    let size = [&[0, 0][..], &(SIZE as u64).to_be_bytes(), &[0, 1]].concat();
    let context = [&[0, 0, 0, 1][..], BASE_ALLOCATION].concat();
    let mut said = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    if structured {
        said.extend(ack(opt::STRUCTURED_REPLY));
        said.extend(reply(opt::SET_META_CONTEXT, rep::META_CONTEXT, &context));
        said.extend(ack(opt::SET_META_CONTEXT));
    } else {
        said.extend(reply(opt::STRUCTURED_REPLY, rep::ERR_UNSUP, &[]));
    }
    said.extend(reply(opt::GO, rep::INFO, &size));
    said.extend(ack(opt::GO));
    said.extend(replies);
    raw(said)
}

/// A server that says just this.
fn raw(said: Vec<u8>) -> (tempfile::TempDir, Address) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fake.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(&said);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (dir, Address::Unix(path))
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let head = OptionReply {
        magic: OPTION_REPLY_MAGIC.into(),
        option: option.into(),
        kind: kind.into(),
        len: (data.len() as u32).into(),
    };
    [head.as_bytes(), data].concat()
}

fn piece(flags: u16, kind: u16, claimed: u32, data: &[u8]) -> Vec<u8> {
    let head = Chunk {
        magic: CHUNK_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: 1.into(),
        len: claimed.into(),
    };
    [head.as_bytes(), data].concat()
}

fn data(flags: u16, at: u64, len: usize) -> Vec<u8> {
    let data = [&at.to_be_bytes()[..], &vec![9; len]].concat();
    piece(flags, chunk::OFFSET_DATA, data.len() as u32, &data)
}

fn hole(flags: u16, at: u64, len: u32) -> Vec<u8> {
    let data = [&at.to_be_bytes()[..], &len.to_be_bytes()].concat();
    piece(flags, chunk::OFFSET_HOLE, 12, &data)
}

/// What a client makes of such a reply to a read of 4096 bytes at 8192.
fn reads(replies: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    let (_dir, address) = fake(true, replies);
    let mut client = Client::connect(&address, "x").unwrap();
    let mut data = vec![1; 4096];
    client.read(8192, &mut data).map(|()| data)
}

#[test]
fn a_read_in_pieces_in_any_order() {
    let pieces = [data(0, 10240, 1024), hole(0, 8192, 2048), data(1, 11264, 1024)].concat();
    let expected = [vec![0; 2048], vec![9; 2048]].concat();
    assert_eq!(reads(pieces).unwrap(), expected);
    let none_last = [data(0, 8192, 4096), piece(1, chunk::NONE, 0, &[])].concat();
    assert_eq!(reads(none_last).unwrap(), [9; 4096]);
}

#[test]
fn cve_2019_14842_chunks_outside_of_the_request() {
    for (at, len) in
        [(0, 4096), (8191, 1), (8192, 4097), (12288, 1), (u64::MAX, 1), (u64::MAX - 8, 16)]
    {
        assert!(matches!(reads(data(1, at, len)), Err(ClientError::Protocol(_))), "{at} {len}");
        let result = reads(hole(1, at, len as u32));
        assert!(matches!(result, Err(ClientError::Protocol(_))), "{at} {len}");
    }
}

#[test]
fn cve_2022_0485_no_read_succeeds_without_all_its_data() {
    for pieces in [
        data(1, 8192, 4095),
        [data(0, 8192, 2048), data(1, 8192, 2048)].concat(),
        [data(0, 8192, 2048), data(1, 9216, 2048)].concat(),
        hole(1, 8192, 0),
        piece(1, chunk::NONE, 0, &[]),
        data(0, 8192, 4096),
        piece(1, chunk::OFFSET_DATA, 8, &[0; 8]),
        piece(1, chunk::BLOCK_STATUS, 12, &[0; 12]),
        piece(1, 77, 4, &[0; 4]),
    ] {
        assert!(reads(pieces).is_err());
    }
    let error = piece(0, chunk::ERROR, 6, b"\0\0\0\x05\0\0");
    let late = [data(0, 8192, 4096), error, piece(1, chunk::NONE, 0, &[])].concat();
    assert_eq!(reads(late).unwrap_err().nbd(), Some(NbdError::Io));
}

#[test]
fn cve_2023_5871_nonsense_in_a_block_status() {
    let status = |data: &[u8]| {
        let (_dir, address) = fake(true, piece(1, chunk::BLOCK_STATUS, data.len() as u32, data));
        Client::connect(&address, "x").unwrap().block_status(0, 4096, false)
    };
    let whole = [[0, 0, 0, 1], [0xff; 4], [0; 4]].concat();
    assert_eq!(status(&whole).unwrap()[0].len, u64::from(u32::MAX));
    for bad in [
        &[][..],
        &[0, 0, 0, 1],
        &[[0, 0, 0, 1], [0; 4], [0; 4]].concat(),
        &[[0, 0, 0, 2], [0, 0, 16, 0], [0; 4]].concat(),
        &[whole.as_slice(), &[0]].concat(),
    ] {
        assert!(status(bad).is_err());
    }
    let (_dir, address) = fake(true, piece(1, chunk::BLOCK_STATUS, u32::MAX - 7, &[0; 64]));
    assert!(Client::connect(&address, "x").unwrap().block_status(0, 4096, false).is_err());
}

#[test]
fn error_chunks_that_lie_about_their_message() {
    for (claimed, body) in [
        (0, &b""[..]),
        (5, b"\0\0\0\x05\0"),
        (6, b"\0\0\0\x05\xff\xff"),
        (u32::MAX, b"\0\0\0\x05\xff\xff"),
    ] {
        assert!(reads(piece(1, chunk::ERROR, claimed, body)).is_err());
    }
    let said = reads(piece(1, chunk::ERROR, 9, b"\0\0\0\x1c\0\x03why")).unwrap_err();
    assert_eq!(said.to_string(), "NBD request: why (NoSpc)");
}

#[test]
fn replies_to_requests_that_were_never_made() {
    let stale =
        SimpleReply { magic: SIMPLE_REPLY_MAGIC.into(), error: 0.into(), cookie: 77.into() };
    let (_dir, address) = fake(false, stale.as_bytes().to_vec());
    assert!(Client::connect(&address, "x").unwrap().flush().is_err());
    let mut chunk = data(1, 8192, 4096);
    chunk[15] = 9;
    assert!(reads(chunk).is_err());
}

#[test]
fn servers_that_are_none() {
    let huge = [&b"NBDMAGICIHAVEOPT\0\x03"[..], &{
        let mut reply = reply(opt::STRUCTURED_REPLY, rep::ACK, &[]);
        reply[16..20].fill(0xff);
        reply
    }]
    .concat();
    for said in [vec![], b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), vec![0; 100], huge] {
        let (_dir, address) = raw(said);
        assert!(Client::connect(&address, "x").is_err());
    }
    let entry = [string(b"name"), vec![]].concat();
    let mut bad = entry.clone();
    bad[0] = 0xff;
    let list = |entry: &[u8]| {
        let mut said = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
        said.extend(reply(opt::LIST, rep::SERVER, entry));
        said.extend(reply(opt::LIST, rep::ACK, &[]));
        let (_dir, address) = raw(said);
        Client::list(&address)
    };
    assert_eq!(list(&entry).unwrap(), [("name".to_owned(), String::new())]);
    assert!(list(&bad).is_err());
}

#[test]
fn a_client_survives_random_servers() {
    let mut random = Random(11);
    for _ in 0..300 {
        let mut replies = [data(0, 8192, 2048), data(1, 10240, 2048)].concat();
        for _ in 0..=random.below(4) {
            let at = random.below(60);
            replies[at] = random.next() as u8;
        }
        if let Ok(data) = reads(replies) {
            assert_eq!(data.len(), 4096);
        }
    }
}
