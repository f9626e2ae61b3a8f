// SPDX-License-Identifier: MIT

//! Random and mutated clients against the machines. For each stream: no panic; the output and the
//! memory stay within their bounds; requests keep to the rules; and however the stream is cut
//! into pieces, the outcome is the same. `RWSNAP_FUZZ` sets the number of streams, a seed names
//! each of them.

#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut on purpose")]

mod nbd_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;

use nbd_common::speak::{go, header, option, queries, request, FLAGS};
use nbd_common::{Random, Volumes};
use rwsnap::nbd::handshake::OUTPUT_MAX;
use rwsnap::nbd::reply::{status_bytes, Extent, REPLY_MAX};
use rwsnap::nbd::wire::{opt, BASE_ALLOCATION};
use rwsnap::nbd::{
    Command, Event, Handshake, Inlet, Progress, Refused, Replies, Request, Session, OPTION_MAX,
    PAYLOAD_MAX,
};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all calls go to the system's allocator with their arguments unchanged; the counters are
// plain cells of the thread, whose access does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(NOW.get()));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.set(NOW.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Memory that a handshake may take: its two buffers, and some names.
const HANDSHAKE_BYTES: usize = OPTION_MAX + OUTPUT_MAX + 4096;

const SIZE: u64 = 1 << 20;

fn volumes() -> Volumes {
    let mut volumes = Volumes::default();
    for n in 0..40 {
        volumes.add(&format!("v{n:02}{}", "n".repeat(n * 6)), Vec::new(), n % 2 == 1, 512);
    }
    for (name, read_only) in [("prod", false), ("prod@monday", true)] {
        volumes.add(name, Vec::new(), read_only, 4096).export.size = SIZE;
    }
    volumes
}

/// What came of a stream.
#[derive(PartialEq, Eq, Debug, Default)]
struct Outcome {
    output: Vec<u8>,
    handshake: Option<Progress>,
    requests: Vec<(Request, usize)>,
    refused: Vec<Refused>,
    ended: bool,
}

/// Feeds a stream in pieces, and checks what must hold at each.
fn run(stream: &[u8], volumes: &Volumes, mut piece: impl FnMut() -> usize) -> Outcome {
    let mut outcome = Outcome { output: Vec::with_capacity(1 << 20), ..Outcome::default() };
    PEAK.set(NOW.get());
    let before = NOW.get();
    let mut shake = Handshake::new();
    let (mut at, mut end) = (0, 0);
    let session = loop {
        let (consumed, progress) = shake.feed(&stream[at..end], volumes);
        assert!(consumed <= end - at && shake.output().len() <= OUTPUT_MAX);
        at += consumed;
        let sent = shake.output().len().min(piece().max(1) * 64);
        outcome.output.extend(&shake.output()[..sent]);
        shake.sent(sent);
        match progress {
            Progress::Receive => assert_eq!(at, end, "it takes all, or says what else it wants"),
            Progress::Send => continue,
            progress => break finish(&mut outcome, shake.output(), progress),
        }
        if end == stream.len() {
            break finish(&mut outcome, shake.output(), Progress::Receive);
        }
        end = (end + piece()).min(stream.len());
    };
    assert!(PEAK.get() - before <= HANDSHAKE_BYTES, "{} bytes", PEAK.get() - before);
    if let Some(session) = session {
        transmit(&session, &stream[at..], end - at, &mut piece, &mut outcome);
    }
    outcome
}

fn finish(outcome: &mut Outcome, output: &[u8], progress: Progress) -> Option<Session> {
    outcome.output.extend(output);
    outcome.handshake = Some(progress.clone());
    match progress {
        Progress::Ready(session) => Some(session),
        _ => None,
    }
}

fn transmit(
    session: &Session,
    stream: &[u8],
    mut end: usize,
    piece: &mut impl FnMut() -> usize,
    outcome: &mut Outcome,
) {
    let (mut inlet, replies) = (Inlet::new(session), Replies::new(session));
    outcome.requests.reserve(stream.len() / 28 + 1);
    outcome.refused.reserve(stream.len() / 28 + 1);
    let (mut at, calls) = (0, CALLS.get());
    loop {
        let before = inlet.payload();
        let (consumed, event) = inlet.next(&stream[at..end]);
        assert!(consumed <= end - at);
        at += consumed;
        let mut reply = [0; REPLY_MAX];
        match event {
            Event::Need if end == stream.len() => break,
            Event::Need => end = (end + piece()).min(stream.len()),
            Event::Request(request) => {
                check(session, &request);
                assert_eq!(inlet.payload(), request.payload());
                outcome.requests.push((request, 0));
                answer(&replies, &request, &mut outcome.output);
            }
            Event::Payload { last } => {
                assert_eq!(inlet.payload() as usize, before as usize - consumed);
                assert_eq!(last, inlet.payload() == 0);
                outcome.requests.last_mut().expect("a write").1 += consumed;
            }
            Event::Refused(refused) => {
                outcome.refused.push(refused);
                let n = replies.failed(refused.cookie, refused.error, refused.why, &mut reply);
                outcome.output.extend(&reply[..n]);
            }
            Event::Ended(_) => {
                outcome.ended = true;
                assert_eq!(inlet.next(&stream[at..]).0, 0);
                break;
            }
        }
    }
    assert_eq!(CALLS.get(), calls, "a request allocates nothing");
}

/// The rules that a request keeps to.
fn check(session: &Session, request: &Request) {
    let Request { command, at, len, .. } = *request;
    let min = u64::from(session.export.blocks().0);
    assert!(at.checked_add(u64::from(len)).is_some_and(|end| end <= session.export.size));
    assert!(at % min == 0 && u64::from(len) % min == 0);
    assert_eq!(len == 0, command == Command::Flush);
    assert!(request.memory() <= PAYLOAD_MAX && request.payload() <= request.memory());
    let changes =
        matches!(command, Command::Write { .. } | Command::Trim { .. } | Command::Zero { .. });
    assert!(!changes || !session.export.read_only);
    assert!(!matches!(command, Command::BlockStatus { .. }) || session.allocation);
}

fn answer(replies: &Replies, request: &Request, output: &mut Vec<u8>) {
    let mut reply = [0; REPLY_MAX];
    let n = match request.command {
        Command::BlockStatus { one } => {
            let extent = Extent { len: u64::from(request.len) / 3, flags: 0 };
            replies.block_status(request, one, [extent], &mut reply).expect("room")
        }
        Command::Read => replies.data(request, &mut reply),
        _ => replies.done(request.cookie, &mut reply),
    };
    output.extend(&reply[..n]);
}

/// Numbers on the brink.
const LENGTHS: [u32; 14] = [
    0,
    1,
    4,
    511,
    512,
    4096,
    8192,
    8193,
    65536,
    PAYLOAD_MAX,
    PAYLOAD_MAX + 1,
    1 << 31,
    u32::MAX - 1,
    u32::MAX,
];

/// A stream that looks like a client's, up to some point.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut stream = match random.below(16) {
        0 => random.bytes(4),
        1 => vec![0, 0, 0, 1],
        _ => FLAGS.to_vec(),
    };
    for _ in 0..random.below(5) {
        stream.extend(random_option(random));
    }
    if random.below(8) > 0 {
        let name = random_name(random);
        if random.below(2) == 0 {
            stream.extend(option(opt::STRUCTURED_REPLY, &[]));
            stream.extend(option(opt::SET_META_CONTEXT, &queries(name, &[BASE_ALLOCATION])));
        }
        let export_name = random.below(8) == 0;
        stream.extend(match export_name {
            true => option(opt::EXPORT_NAME, name),
            false => option(opt::GO, &go(name, &[random.below(5) as u16])),
        });
        for _ in 0..random.below(8) {
            stream.extend(random_request(random));
        }
    }
    mutate(&mut stream, random);
    stream
}

fn random_name(random: &mut Random) -> &'static [u8] {
    match random.below(16) {
        0 => random.pick(&[b"", b"v01", b"\xff\xfe", b"prod\0", &[b'n'; 300]]),
        1..6 => b"prod@monday",
        _ => b"prod",
    }
}

fn random_option(random: &mut Random) -> Vec<u8> {
    let ends = random.below(16) == 0; // EXPORT_NAME, ABORT
    let which = if ends { 1 + random.below(2) } else { 3 + random.below(10) } as u32;
    let name = random_name(random);
    let asked: [&[u8]; 4] = [b"base:", BASE_ALLOCATION, b"x-y:z", b""];
    match random.below(24) {
        0 => header(which, random.pick(&LENGTHS)),
        1..4 => option(which, &vec![7; random.pick(&[1, 100, OPTION_MAX, OPTION_MAX + 1])]),
        4..9 => {
            let number = random.below(4);
            option(random.pick(&[9, 10]), &queries(name, &asked[..number]))
        }
        9..12 => option(6, &go(name, &[0, 1, 2, 3, 9])),
        12..15 => option(opt::LIST, &[]),
        15..18 => {
            let len = random.below(64);
            option(which, &random.bytes(len))
        }
        _ => option(which, &[]),
    }
}

fn random_request(random: &mut Random) -> Vec<u8> {
    let kind = random.below(9) as u16;
    let flags = if random.below(3) == 0 { random.next() as u16 & 0x3f } else { 0 };
    let at = match random.below(5) {
        0 => random.next(),
        1 => u64::MAX - random.below(8192) as u64,
        2 => SIZE - 4096,
        _ => random.below(256) as u64 * 4096,
    };
    let len = if random.below(3) == 0 { random.pick(&LENGTHS) } else { 4096 };
    let (at, len) = if kind == 3 && random.below(4) > 0 { (0, 0) } else { (at, len) };
    let mut bytes = request(kind, flags, random.next(), at, len);
    if kind == 1 {
        bytes.resize(bytes.len() + (len as usize).min(9000), 0x25);
    }
    bytes
}

/// Flips, cuts, doubles and drops bytes, sometimes.
fn mutate(stream: &mut Vec<u8>, random: &mut Random) {
    if random.below(2) == 0 {
        return;
    }
    for _ in 0..=random.below(4) {
        let at = random.below(stream.len());
        match random.below(6) {
            0 => stream.truncate(at.max(1)),
            1 => drop(stream.remove(at)),
            2 => stream.insert(at, random.next() as u8),
            3 => stream[at] ^= 1 << random.below(8),
            4 => stream[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
            _ => stream[at] = random.next() as u8,
        }
        if stream.is_empty() {
            return;
        }
    }
}

fn one(seed: u64, volumes: &Volumes) -> bool {
    let mut random = Random(seed);
    let stream = stream(&mut random);
    let whole = run(&stream, volumes, || usize::MAX >> 8);
    let most = random.pick(&[1, 2, 7, 30, 500]);
    let pieces = run(&stream, volumes, || 1 + random.below(most));
    assert!(whole == pieces, "seed {seed}: pieces make a difference\n{whole:?}\n{pieces:?}");
    !whole.requests.is_empty()
}

fn streams() -> u64 {
    std::env::var("RWSNAP_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

#[test]
fn random_clients() {
    let streams = streams();
    let halves = [0, 1].map(|half| {
        thread::spawn(move || {
            let volumes = volumes();
            (0..streams).filter(|seed| seed % 2 == half && one(*seed, &volumes)).count() as u64
        })
    });
    let deep: u64 = halves.map(|half| half.join().expect("a seed failed")).iter().sum();
    assert!(deep > streams / 8, "only {deep} of {streams} streams made a request");
}

#[test]
fn pure_noise() {
    let volumes = volumes();
    let mut random = Random(99);
    for _ in 0..streams() / 10 {
        let len = random.below(200);
        let stream = [&FLAGS[..], &random.bytes(len)].concat();
        assert!(run(&stream, &volumes, || 16).requests.is_empty());
    }
}

/// The naive answer to block status: a list of single blocks.
fn naive(len: u32, one: bool, room: usize, extents: &[Extent]) -> Vec<(u32, u32)> {
    let mut list: Vec<(u64, u32)> = Vec::new();
    let mut left = u64::from(len);
    for extent in extents {
        let len = extent.len.min(left);
        left -= len;
        match list.last_mut() {
            _ if len == 0 => {}
            Some(last) if last.1 == extent.flags => last.0 += len,
            _ => list.push((len, extent.flags)),
        }
    }
    if list.is_empty() {
        list.push((left, 0));
    }
    list.truncate(if one { 1 } else { room });
    list.into_iter().map(|(len, flags)| (len as u32, flags)).collect()
}

#[test]
fn block_status_matches_the_naive_list() {
    let volumes = volumes();
    let options = [
        option(opt::STRUCTURED_REPLY, &[]),
        option(opt::SET_META_CONTEXT, &queries(b"prod", &[BASE_ALLOCATION])),
        option(opt::GO, &go(b"prod", &[])),
    ];
    let input = [&FLAGS[..], &options.concat()].concat();
    let Progress::Ready(session) = Handshake::new().feed(&input, &volumes).1 else {
        panic!("not ready")
    };
    let replies = Replies::new(&session);
    let mut random = Random(5);
    for _ in 0..streams() / 10 {
        let len = 1 + random.pick(&LENGTHS).min(u32::MAX - 1);
        let (one, room) = (random.below(4) == 0, 1 + random.below(9));
        let extents: Vec<_> = (0..random.below(12))
            .map(|_| Extent {
                len: match random.below(4) {
                    0 => random.next(),
                    1 => 0,
                    _ => random.below(1 << 14) as u64,
                },
                flags: random.below(3) as u32,
            })
            .collect();
        let request = Request { cookie: 1, command: Command::BlockStatus { one }, at: 0, len };
        let mut out = vec![0xee; status_bytes(room)];
        let n = replies.block_status(&request, one, extents.iter().copied(), &mut out).unwrap();
        let seen: Vec<_> = out[24..n]
            .chunks(8)
            .map(|pair| {
                let (len, flags) = pair.split_at(4);
                let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
                (number(len), number(flags))
            })
            .collect();
        assert_eq!(seen, naive(len, one, room, &extents), "{len} {one} {room} {extents:?}");
    }
}
