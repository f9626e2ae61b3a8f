// SPDX-License-Identifier: MIT

//! One test per command, and for the stream as a whole.

use zerocopy::IntoBytes;

use super::super::handshake::Export;
use super::*;

const SIZE: u64 = 1 << 20;

fn session(read_only: bool, structured: bool) -> Session {
    let export = Export { size: SIZE, min_block: 512, read_only, ..Export::default() };
    Session { export, structured, allocation: structured }
}

fn header(kind: u16, flags: u16, at: u64, len: u32) -> RequestHeader {
    RequestHeader {
        magic: REQUEST_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: 42.into(),
        at: at.into(),
        len: len.into(),
    }
}

/// The command that comes of a header, or the error.
fn judge(session: &Session, kind: u16, flags: u16, at: u64, len: u32) -> Result<Command, NbdError> {
    match Rules::new(session).judge(&header(kind, flags, at, len)) {
        Verdict::Accept(request) => {
            assert_eq!((request.cookie, request.at, request.len), (42, at, len));
            Ok(request.command)
        }
        Verdict::Refuse { refused, payload } => {
            assert_eq!(payload, if kind == cmd::WRITE { len } else { 0 });
            Err(refused.error)
        }
        Verdict::End(ended) => panic!("{ended:?}"),
    }
}

/// The same, in a session that has all that there is.
fn full(kind: u16, flags: u16, at: u64, len: u32) -> Result<Command, NbdError> {
    judge(&session(false, true), kind, flags, at, len)
}

#[test]
fn read() {
    assert_eq!(full(cmd::READ, 0, 512, 1024), Ok(Command::Read));
    assert_eq!(full(cmd::READ, flag::FUA | flag::DF, 0, 512), Ok(Command::Read));
    assert_eq!(full(cmd::READ, 0, SIZE - 512, 1024), Err(NbdError::Inval));
    assert_eq!(full(cmd::READ, flag::NO_HOLE, 0, 512), Err(NbdError::Inval));
    let simple = session(true, false);
    assert_eq!(judge(&simple, cmd::READ, 0, 0, 512), Ok(Command::Read));
    assert_eq!(judge(&simple, cmd::READ, flag::DF, 0, 512), Err(NbdError::Inval));
}

#[test]
fn write() {
    assert_eq!(full(cmd::WRITE, 0, 0, 512), Ok(Command::Write { fua: false }));
    assert_eq!(full(cmd::WRITE, flag::FUA, 0, 512), Ok(Command::Write { fua: true }));
    assert_eq!(full(cmd::WRITE, 0, SIZE, 512), Err(NbdError::NoSpc));
    assert_eq!(full(cmd::WRITE, flag::DF, 0, 512), Err(NbdError::Inval));
    assert_eq!(judge(&session(true, true), cmd::WRITE, 0, SIZE, 512), Err(NbdError::Perm));
}

#[test]
fn flush() {
    for read_only in [false, true] {
        let session = session(read_only, false);
        assert_eq!(judge(&session, cmd::FLUSH, 0, 0, 0), Ok(Command::Flush));
        assert_eq!(judge(&session, cmd::FLUSH, flag::FUA, 0, 0), Ok(Command::Flush));
        assert_eq!(judge(&session, cmd::FLUSH, 0, 512, 0), Err(NbdError::Inval));
        assert_eq!(judge(&session, cmd::FLUSH, 0, 0, 512), Err(NbdError::Inval));
    }
}

#[test]
fn trim() {
    assert_eq!(full(cmd::TRIM, 0, 0, 512), Ok(Command::Trim { fua: false }));
    assert_eq!(full(cmd::TRIM, flag::FUA, 0, 512), Ok(Command::Trim { fua: true }));
    assert_eq!(full(cmd::TRIM, 0, SIZE, 512), Err(NbdError::Inval));
    assert_eq!(judge(&session(true, true), cmd::TRIM, 0, 0, 512), Err(NbdError::Perm));
}

#[test]
fn cache() {
    assert_eq!(full(cmd::CACHE, 0, 0, 512), Ok(Command::Cache));
    assert_eq!(full(cmd::CACHE, 1 << 9, 0, 512), Err(NbdError::Inval));
    assert_eq!(judge(&session(true, false), cmd::CACHE, 0, 0, 512), Ok(Command::Cache));
}

#[test]
fn write_zeroes() {
    let zero = |fua, no_hole, fast| Ok(Command::Zero { fua, no_hole, fast });
    assert_eq!(full(cmd::WRITE_ZEROES, 0, 0, 512), zero(false, false, false));
    assert_eq!(full(cmd::WRITE_ZEROES, flag::NO_HOLE, 0, 512), zero(false, true, false));
    assert_eq!(
        full(cmd::WRITE_ZEROES, flag::FAST_ZERO | flag::FUA, 0, 512),
        zero(true, false, true)
    );
    assert_eq!(full(cmd::WRITE_ZEROES, flag::REQ_ONE, 0, 512), Err(NbdError::Inval));
    assert_eq!(full(cmd::WRITE_ZEROES, 0, SIZE, 512), Err(NbdError::NoSpc));
    assert_eq!(judge(&session(true, true), cmd::WRITE_ZEROES, 0, 0, 512), Err(NbdError::Perm));
}

#[test]
fn block_status() {
    assert_eq!(full(cmd::BLOCK_STATUS, 0, 0, 512), Ok(Command::BlockStatus { one: false }));
    assert_eq!(
        full(cmd::BLOCK_STATUS, flag::REQ_ONE, 0, 512),
        Ok(Command::BlockStatus { one: true })
    );
    assert_eq!(full(cmd::BLOCK_STATUS, 0, 0, u32::MAX - 511), Err(NbdError::Inval));
    let without = Session { allocation: false, ..session(false, true) };
    assert_eq!(judge(&without, cmd::BLOCK_STATUS, 0, 0, 512), Err(NbdError::Inval));
}

#[test]
fn unknown_commands_and_flags() {
    for kind in [8, 9, 0x100, u16::MAX] {
        assert_eq!(full(kind, 0, 0, 512), Err(NbdError::Inval));
    }
    for kind in 0..8 {
        if kind != cmd::DISC {
            assert_eq!(full(kind, 1 << 15, 0, 512), Err(NbdError::Inval));
        }
    }
}

#[test]
fn bounds_and_alignment() {
    for kind in [cmd::READ, cmd::WRITE, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS]
    {
        assert!(full(kind, 0, SIZE - 512, 512).is_ok());
        assert!(full(kind, 0, 0, 1 << 20).is_ok());
        for (at, len) in [(0, 0), (1, 512), (0, 511), (256, 256)] {
            assert_eq!(full(kind, 0, at, len), Err(NbdError::Inval), "{kind} {at} {len}");
        }
        for (at, len) in [(SIZE, 512), (u64::MAX - 511, 512), (u64::MAX, 1), (0, u32::MAX - 511)] {
            assert!(full(kind, 0, at, len).is_err(), "{kind} {at} {len}");
        }
    }
}

#[test]
fn payloads_have_a_limit_and_the_rest_does_not() {
    let mut large = session(false, true);
    large.export.size = 1 << 40;
    let longest = u32::MAX - 511;
    for kind in [cmd::READ, cmd::WRITE] {
        assert!(judge(&large, kind, 0, 0, PAYLOAD_MAX).is_ok());
        assert_eq!(judge(&large, kind, 0, 0, PAYLOAD_MAX + 512), Err(NbdError::Inval));
    }
    for kind in [cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS] {
        assert!(judge(&large, kind, 0, 0, longest).is_ok());
    }
}

#[test]
fn shutting_down() {
    let mut inlet = Inlet::new(&session(false, true));
    inlet.shut_down();
    let input = header(cmd::READ, 0, 0, 512);
    match inlet.next(input.as_bytes()) {
        (REQUEST_BYTES, Event::Refused(refused)) => assert_eq!(refused.error, NbdError::Shutdown),
        other => panic!("{other:?}"),
    }
    let goodbye = header(cmd::DISC, 0, 0, 0);
    assert_eq!(inlet.next(goodbye.as_bytes()).1, Event::Ended(Ended::Disconnect));
}

#[test]
fn disconnect_and_garbage_end_it_for_good() {
    let mut bad = header(cmd::READ, 0, 0, 512);
    bad.magic = 7.into();
    let goodbye = header(cmd::DISC, 0xffff, 7, 7);
    for (last, ended) in [(goodbye, Ended::Disconnect), (bad, Ended::BadMagic)] {
        let mut inlet = Inlet::new(&session(false, true));
        assert_eq!(inlet.next(last.as_bytes()), (REQUEST_BYTES, Event::Ended(ended)));
        let more = header(cmd::READ, 0, 0, 512);
        assert_eq!(inlet.next(more.as_bytes()), (0, Event::Ended(ended)));
    }
}

#[test]
fn a_payload_comes_in_pieces_or_directly() {
    let mut inlet = Inlet::new(&session(false, true));
    let mut input = header(cmd::WRITE, 0, 0, 1024).as_bytes().to_vec();
    input.extend([1; 100]);
    assert!(matches!(inlet.next(&input), (REQUEST_BYTES, Event::Request(_))));
    assert_eq!(inlet.payload(), 1024);
    assert_eq!(inlet.next(&input[28..]), (100, Event::Payload { last: false }));
    assert_eq!(inlet.next(&[]), (0, Event::Need));
    assert_eq!(inlet.received(900), 900);
    assert_eq!(inlet.payload(), 24);
    assert_eq!(inlet.next(&[1; 50]), (24, Event::Payload { last: true }));
    assert_eq!(inlet.payload(), 0);
    assert_eq!(inlet.received(10), 0);
    assert_eq!(inlet.next(&[1; 27]), (0, Event::Need));
    let next = header(cmd::FLUSH, 0, 0, 0);
    assert!(matches!(inlet.next(next.as_bytes()), (REQUEST_BYTES, Event::Request(_))));
}

#[test]
fn the_payload_of_a_refused_write_is_thrown_away() {
    let mut inlet = Inlet::new(&session(true, true));
    let mut input = header(cmd::WRITE, 0, 0, u32::MAX).as_bytes().to_vec();
    input.extend([1; 72]);
    assert_eq!(inlet.next(&input), (100, Event::Need));
    assert_eq!(inlet.payload(), 0, "nothing of it is wanted");
    let mut left = u32::MAX as usize - 72;
    let junk = vec![0x25; 1 << 20];
    loop {
        let (taken, event) = inlet.next(&junk);
        assert_eq!(taken, left.min(junk.len()));
        left -= taken;
        match event {
            Event::Need => assert!(left > 0),
            Event::Refused(refused) => {
                assert_eq!((refused.error, left), (NbdError::Perm, 0));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        inlet.next(header(cmd::READ, 0, 0, 512).as_bytes()),
        (REQUEST_BYTES, Event::Request(_))
    ));
}

#[test]
fn many_requests_in_one_buffer() {
    let mut inlet = Inlet::new(&session(false, true));
    let input: Vec<u8> =
        (0..100).flat_map(|n| header(cmd::READ, 0, n * 512, 512).as_bytes().to_vec()).collect();
    let (mut at, mut seen) = (0, 0);
    while let (taken, Event::Request(request)) = inlet.next(&input[at..]) {
        assert_eq!(request.at, seen * 512);
        at += taken;
        seen += 1;
    }
    assert_eq!((seen, at), (100, input.len()));
}
