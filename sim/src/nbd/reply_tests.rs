// SPDX-License-Identifier: MIT

//! The bytes of each reply.

use zerocopy::FromBytes;

use super::super::wire::state;
use super::super::Command;
use super::*;

const SIMPLE: Replies = Replies { structured: false };
const STRUCTURED: Replies = Replies { structured: true };

fn request(command: Command, len: u32) -> Request {
    Request { cookie: 0x0102_0304_0506_0708, command, at: 0x1000, len }
}

fn bytes(encode: impl FnOnce(&mut [u8; REPLY_MAX]) -> usize) -> Vec<u8> {
    let mut out = [0xee; REPLY_MAX];
    let len = encode(&mut out);
    out[..len].to_vec()
}

#[test]
fn simple_replies() {
    let ok = b"\x67\x44\x66\x98\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
    let read = request(Command::Read, 512);
    assert_eq!(bytes(|out| SIMPLE.data(&read, out)), ok);
    assert_eq!(bytes(|out| SIMPLE.done(read.cookie, out)), ok);
    let failed = bytes(|out| SIMPLE.failed(read.cookie, NbdError::NoSpc, "why", out));
    assert_eq!(failed, b"\x67\x44\x66\x98\0\0\0\x1c\x01\x02\x03\x04\x05\x06\x07\x08");
}

#[test]
fn structured_replies() {
    let read = request(Command::Read, 512);
    let data = b"\x66\x8e\x33\xef\0\x01\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x02\x08";
    assert_eq!(
        bytes(|out| STRUCTURED.data(&read, out)),
        [&data[..], b"\0\0\0\0\0\0\x10\0"].concat()
    );
    let done = b"\x66\x8e\x33\xef\0\x01\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0";
    assert_eq!(bytes(|out| STRUCTURED.done(read.cookie, out)), done);
    let failed = bytes(|out| STRUCTURED.failed(read.cookie, NbdError::Io, "why", out));
    let head = b"\x66\x8e\x33\xef\0\x01\x80\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x09";
    assert_eq!(failed, [&head[..], b"\0\0\0\x05\0\x03why"].concat());
}

#[test]
fn long_messages_are_cut() {
    for why in ["x".repeat(5000), "\u{e4}".repeat(5000)] {
        let failed = bytes(|out| STRUCTURED.failed(1, NbdError::Inval, &why, out));
        assert!(failed.len() <= REPLY_MAX && failed.len() > REPLY_MAX - 2);
        let head = Chunk::read_from_prefix(&failed).unwrap().0;
        assert_eq!(head.len.get() as usize, failed.len() - 20);
        assert!(std::str::from_utf8(&failed[26..]).is_ok());
    }
}

/// The descriptors of a reply with room for `room` of them.
fn status(len: u32, one: bool, room: usize, extents: &[(u64, u32)]) -> Option<Vec<(u32, u32)>> {
    let mut out = vec![0xee; status_bytes(room)];
    let asked = request(Command::BlockStatus { one }, len);
    let extents = extents.iter().map(|&(len, flags)| Extent { len, flags });
    let used = STRUCTURED.block_status(&asked, one, extents, &mut out)?;
    let (head, rest) = Chunk::read_from_prefix(&out[..used]).unwrap();
    assert_eq!((head.magic.get(), head.kind.get()), (CHUNK_MAGIC, chunk::BLOCK_STATUS));
    assert_eq!((head.flags.get(), head.len.get() as usize), (chunk::DONE, rest.len()));
    assert_eq!(rest[..4], ALLOCATION_ID.to_be_bytes());
    let list = rest[4..].chunks(8).map(|bytes| Descriptor::read_from_bytes(bytes).unwrap());
    Some(list.map(|extent| (extent.len.get(), extent.flags.get())).collect())
}

#[test]
fn extents_are_joined_and_cut() {
    const HOLE: u32 = state::HOLE | state::ZERO;
    let extents = [(512, 0), (512, 0), (0, HOLE), (512, 0), (1024, HOLE), (u64::MAX, 0)];
    let all = [(1536, 0), (1024, HOLE), (4096 - 2560, 0)];
    assert_eq!(status(4096, false, 16, &extents).unwrap(), all);
    assert_eq!(status(4096, false, 2, &extents).unwrap(), all[..2]);
    assert_eq!(status(4096, true, 16, &extents).unwrap(), all[..1]);
    assert_eq!(status(1024, false, 16, &extents).unwrap(), [(1024, 0)]);
    assert_eq!(status(4096, false, 0, &extents), None);
}

#[test]
fn missing_extents_are_data() {
    assert_eq!(status(4096, false, 4, &[]).unwrap(), [(4096, 0)]);
    assert_eq!(status(4096, true, 4, &[(0, 3), (0, 2)]).unwrap(), [(4096, 0)]);
    assert_eq!(status(4096, false, 4, &[(512, 3)]).unwrap(), [(512, 3)], "an answer may be short");
}

#[test]
fn no_length_overflows() {
    let huge = [(u64::MAX, 1), (u64::MAX, 1), (u64::MAX, 0)];
    assert_eq!(status(u32::MAX, false, 4, &huge).unwrap(), [(u32::MAX, 1)]);
    let halves = [(1 << 31, 1), (1 << 31, 1), (1 << 31, 0)];
    assert_eq!(status(u32::MAX, false, 4, &halves).unwrap(), [(u32::MAX, 1)]);
}
