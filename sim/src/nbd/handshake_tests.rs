// SPDX-License-Identifier: MIT

//! One test per option, and for what the handshake as a whole has to withstand.

use std::collections::BTreeMap;
use std::ops::Bound;

use zerocopy::FromBytes;

use super::super::wire::{export, info, ExportReply, InfoBlockSize, InfoExport, OptionReply};
use super::super::wire::{ALLOCATION_ID, BASE_ALLOCATION, OPTION_REPLY_MAGIC, ZEROES};
use super::super::PAYLOAD_MAX;
use super::*;

struct Table(BTreeMap<String, Export>);

impl Table {
    fn new() -> Self {
        let mut table = Self(BTreeMap::new());
        table.add("prod", false);
        table.add("prod@monday", true);
        table
    }

    fn add(&mut self, name: &str, read_only: bool) {
        let export = Export {
            id: self.0.len() as u64,
            name: name.into(),
            description: format!("about {name}"),
            size: 1 << 20,
            read_only,
            min_block: 512,
            preferred_block: 4096,
        };
        self.0.insert(name.into(), export);
    }
}

impl Exports for Table {
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, export) in self.0.range::<str, _>((from, Bound::Unbounded)) {
            if !visit(name, &export.description) {
                return;
            }
        }
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        match name {
            "busy" => Err(Refusal::Policy("in use by another")),
            _ => self.0.get(name).cloned().ok_or(Refusal::Unknown),
        }
    }
}

const FLAGS: [u8; 4] = [0, 0, 0, 3];

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let header = OptionHeader {
        magic: OPTION_MAGIC.into(),
        option: option.into(),
        len: u32::try_from(data.len()).unwrap().into(),
    };
    [header.as_bytes(), data].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn go(name: &[u8], infos: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u16::try_from(infos.len()).unwrap().to_be_bytes());
    data.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    data
}

fn queries(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    data.extend(queries.iter().flat_map(|query| string(query)));
    data
}

/// Feeds everything, `piece` bytes at a time, and gives what came out.
fn run(input: &[u8], piece: usize) -> (Vec<u8>, Progress, usize) {
    let (table, mut shake) = (Table::new(), Handshake::new());
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let end = input.len().min(at + piece);
        let (consumed, progress) = shake.feed(&input[at..end], &table);
        at += consumed;
        assert!(shake.output().len() <= OUTPUT_MAX);
        out.extend(shake.output());
        shake.sent(shake.output().len());
        match progress {
            Progress::Receive if at < input.len() => assert!(consumed > 0, "no way forward"),
            Progress::Send => {}
            progress => return (out, progress, at),
        }
    }
}

/// The replies to `options`, as (option, type, data), and how it ended.
fn replies(options: &[Vec<u8>]) -> (Vec<(u32, u32, Vec<u8>)>, Progress) {
    let (out, progress, _) = run(&[&FLAGS[..], &options.concat()].concat(), usize::MAX >> 1);
    let mut rest = &out[size_of::<Greeting>()..];
    let mut list = Vec::new();
    while !rest.is_empty() {
        let (head, behind) = OptionReply::read_from_prefix(rest).unwrap();
        assert_eq!(head.magic, OPTION_REPLY_MAGIC);
        let (data, behind) = behind.split_at(head.len.get() as usize);
        list.push((head.option.get(), head.kind.get(), data.to_vec()));
        rest = behind;
    }
    (list, progress)
}

fn kinds(options: &[Vec<u8>]) -> Vec<u32> {
    replies(options).0.into_iter().map(|(_, kind, _)| kind).collect()
}

fn ready(options: &[Vec<u8>]) -> Session {
    match replies(options).1 {
        Progress::Ready(session) => session,
        other => panic!("not ready: {other:?}"),
    }
}

#[test]
fn the_server_greets() {
    let (out, progress, _) = run(&[], 1);
    assert_eq!(out, b"NBDMAGICIHAVEOPT\0\x03");
    assert_eq!(progress, Progress::Receive);
}

#[test]
fn unknown_client_flags_end_it() {
    for flags in [0_u32, 2, 4, 7, u32::MAX] {
        let (_, progress, _) = run(&flags.to_be_bytes(), 4);
        assert_eq!(progress, Progress::Close(Closing::BadFlags), "{flags}");
    }
}

#[test]
fn go_enters_with_what_was_negotiated() {
    let (list, progress) = replies(&[
        option(opt::STRUCTURED_REPLY, &[]),
        option(opt::SET_META_CONTEXT, &queries(b"prod", &[BASE_ALLOCATION])),
        option(opt::GO, &go(b"prod", &[info::NAME, info::DESCRIPTION, info::BLOCK_SIZE, 77])),
    ]);
    let Progress::Ready(session) = progress else { panic!("{progress:?}") };
    assert!(session.structured && session.allocation);
    assert_eq!(session.export.name, "prod");
    let context = [&ALLOCATION_ID.to_be_bytes()[..], BASE_ALLOCATION].concat();
    assert_eq!(list[1], (opt::SET_META_CONTEXT, rep::META_CONTEXT, context));
    let size = InfoExport::read_from_bytes(&list[3].2).unwrap();
    assert_eq!((size.size.get(), size.flags.get()), (1 << 20, session.transmission_flags()));
    assert_eq!(list[4].2, b"\0\x01prod");
    assert_eq!(list[5].2, b"\0\x02about prod");
    let blocks = InfoBlockSize::read_from_bytes(&list[6].2).unwrap();
    assert_eq!((blocks.min.get(), blocks.preferred.get()), (512, 4096));
    assert_eq!(blocks.max.get(), PAYLOAD_MAX);
    assert_eq!(list[7], (opt::GO, rep::ACK, vec![]));
}

#[test]
fn info_tells_the_same_and_stays() {
    let data = go(b"prod@monday", &[info::NAME, info::NAME, info::NAME]);
    let (list, progress) = replies(&[option(opt::INFO, &data), option(opt::INFO, &data)]);
    assert_eq!(progress, Progress::Receive);
    assert_eq!(list.len(), 8, "asked three times, told once");
    assert_eq!(list[..4], list[4..]);
    let (asked, entered) = (list, replies(&[option(opt::GO, &data)]).0);
    assert_eq!(asked[0].2, entered[0].2);
}

#[test]
fn exports_that_are_not_to_be_had() {
    for (name, kind) in [
        (&b"nothing"[..], rep::ERR_UNKNOWN),
        (b"", rep::ERR_UNKNOWN),
        (b"prod@", rep::ERR_UNKNOWN),
        (b"prod\0", rep::ERR_INVALID),
        (b"\xff", rep::ERR_INVALID),
        (b"busy", rep::ERR_POLICY),
        (&[b'a'; NAME_MAX + 1], rep::ERR_UNKNOWN),
    ] {
        let data = go(name, &[]);
        assert_eq!(kinds(&[option(opt::GO, &data), option(opt::INFO, &data)]), [kind, kind]);
    }
}

#[test]
fn malformed_info_is_refused_and_the_next_option_served() {
    let whole = go(b"prod", &[info::NAME]);
    let mut broken: Vec<_> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
    broken.push([whole.as_slice(), b"x"].concat());
    broken.push([&u32::MAX.to_be_bytes()[..], b"prod\0\0"].concat());
    for data in broken {
        let end = option(opt::STRUCTURED_REPLY, &[]);
        assert_eq!(kinds(&[option(opt::GO, &data), end]), [rep::ERR_INVALID, rep::ACK]);
    }
}

#[test]
fn export_name_with_and_without_zeroes() {
    for (flags, zeroes) in [([0, 0, 0, 3], 0), ([0, 0, 0, 1], ZEROES)] {
        let input = [&flags[..], &option(opt::EXPORT_NAME, b"prod")].concat();
        let (out, progress, _) = run(&input, 100);
        let reply = ExportReply::read_from_bytes(&out[18..28]).unwrap();
        assert_eq!(reply.size, 1 << 20);
        assert_eq!(reply.flags.get() & export::SEND_DF, 0, "not structured");
        assert_eq!(out[28..], vec![0; zeroes]);
        assert!(matches!(progress, Progress::Ready(_)));
    }
    for name in [&b"nothing"[..], &[b'a'; NAME_MAX + 1], b"\xff"] {
        let end = replies(&[option(opt::EXPORT_NAME, name)]);
        assert_eq!(end, (vec![], Progress::Close(Closing::NoExport)));
    }
}

#[test]
fn abort_is_acknowledged() {
    for data in [&b""[..], b"farewell", &[0; OPTION_MAX + 1]] {
        let (list, progress) = replies(&[option(opt::ABORT, data)]);
        assert_eq!(list, [(opt::ABORT, rep::ACK, vec![])]);
        assert_eq!(progress, Progress::Close(Closing::Aborted));
    }
}

#[test]
fn list_names_all_and_takes_no_data() {
    let (list, _) = replies(&[option(opt::LIST, &[]), option(opt::LIST, b"x")]);
    assert_eq!(list[0], (opt::LIST, rep::SERVER, b"\0\0\0\x04prodabout prod".to_vec()));
    assert_eq!(list[2], (opt::LIST, rep::ACK, vec![]));
    assert_eq!(list[3].1, rep::ERR_INVALID);
    assert_eq!(list.len(), 4);
}

#[test]
fn a_long_list_comes_in_rounds() {
    let (mut table, mut shake) = (Table::new(), Handshake::new());
    for n in 0..5000 {
        table.add(&format!("v{n:04}"), false);
    }
    let input = [&FLAGS[..], &option(opt::LIST, &[])].concat();
    let (mut at, mut rounds, mut names) = (0, 0, Vec::new());
    let mut out = Vec::new();
    loop {
        let (consumed, progress) = shake.feed(&input[at..], &table);
        at += consumed;
        rounds += 1;
        // A slow client: it takes but 1000 bytes at a time.
        let n = shake.output().len().min(1000);
        out.extend(&shake.output()[..n]);
        shake.sent(n);
        if progress == Progress::Receive && shake.output().is_empty() {
            break;
        }
    }
    let mut rest = &out[18..];
    while let Ok((head, behind)) = OptionReply::read_from_prefix(rest) {
        let (data, behind) = behind.split_at(head.len.get() as usize);
        if head.kind == rep::SERVER {
            let len = u32::from_be_bytes(*data.first_chunk().unwrap()) as usize;
            names.push(String::from_utf8(data[4..4 + len].to_vec()).unwrap());
        }
        rest = behind;
    }
    assert!(rounds > 10);
    assert_eq!(names, table.0.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn structured_reply_takes_no_data() {
    let end = option(opt::GO, &go(b"prod", &[]));
    assert_eq!(kinds(&[option(opt::STRUCTURED_REPLY, b"x")]), [rep::ERR_INVALID]);
    assert!(!ready(&[option(opt::STRUCTURED_REPLY, b"x"), end.clone()]).structured);
    let session = ready(&[option(opt::STRUCTURED_REPLY, &[]), end]);
    assert_ne!(session.transmission_flags() & export::SEND_DF, 0);
}

#[test]
fn contexts_need_structured_replies() {
    for which in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        let data = queries(b"prod", &[BASE_ALLOCATION]);
        assert_eq!(kinds(&[option(which, &data)]), [rep::ERR_INVALID]);
    }
}

#[test]
fn contexts_are_listed() {
    let structured = option(opt::STRUCTURED_REPLY, &[]);
    let listed = |name: &[u8], asked: &[&[u8]]| {
        let list = option(opt::LIST_META_CONTEXT, &queries(name, asked));
        kinds(&[structured.clone(), list])[1..].to_vec()
    };
    let wide: [&[&[u8]]; 4] = [&[], &[b"base:"], &[BASE_ALLOCATION], &[b"x-a:b", b"base:"]];
    for asked in wide {
        assert_eq!(listed(b"prod", asked), [rep::META_CONTEXT, rep::ACK]);
    }
    let strange: [&[&[u8]]; 4] = [&[b"qemu:"], &[b"base:other"], &[b""], &[b"base:allocationx"]];
    for asked in strange {
        assert_eq!(listed(b"prod", asked), [rep::ACK]);
    }
    assert_eq!(listed(b"nothing", &[]), [rep::ERR_UNKNOWN]);
}

#[test]
fn contexts_are_set_for_one_export_by_the_last_option() {
    let set = |name: &[u8], asked: &[&[u8]]| option(opt::SET_META_CONTEXT, &queries(name, asked));
    let chosen = |options: &[Vec<u8>]| {
        let mut all = vec![option(opt::STRUCTURED_REPLY, &[])];
        all.extend_from_slice(options);
        all.push(option(opt::GO, &go(b"prod", &[])));
        ready(&all).allocation
    };
    let good = set(b"prod", &[b"x-y:z", BASE_ALLOCATION, BASE_ALLOCATION]);
    assert!(chosen(std::slice::from_ref(&good)));
    for bad in [
        set(b"prod", &[]),
        set(b"prod", &[b"base:"]),
        set(b"prod@monday", &[BASE_ALLOCATION]),
        set(b"nothing", &[BASE_ALLOCATION]),
        option(opt::SET_META_CONTEXT, b"\0\0\0\x04prod\0\0\0\x01\xff\xff\xff\xff"),
        option(opt::SET_META_CONTEXT, &[0; OPTION_MAX + 1]),
    ] {
        assert!(!chosen(&[good.clone(), bad]));
    }
}

#[test]
fn tls_and_unknown_options_are_refused() {
    assert_eq!(kinds(&[option(opt::STARTTLS, &[])]), [rep::ERR_UNSUP]);
    assert_eq!(kinds(&[option(opt::STARTTLS, b"x")]), [rep::ERR_INVALID]);
    for unknown in [0, 4, opt::EXTENDED_HEADERS, 12, u32::MAX] {
        for data in [vec![], vec![1; 100], vec![1; OPTION_MAX], vec![1; OPTION_MAX + 1]] {
            let options = [option(unknown, &data), option(opt::STRUCTURED_REPLY, &[])];
            assert_eq!(kinds(&options), [rep::ERR_UNSUP, rep::ACK]);
        }
    }
}

#[test]
fn too_much_data_is_thrown_away() {
    let huge = vec![0x5a; 1 << 20];
    for which in [opt::LIST, opt::GO, opt::INFO, opt::SET_META_CONTEXT] {
        let options = [option(which, &huge), option(opt::STRUCTURED_REPLY, &[])];
        assert_eq!(kinds(&options), [rep::ERR_TOO_BIG, rep::ACK]);
    }
}

#[test]
fn the_number_of_options_is_limited() {
    let options = vec![option(opt::STRUCTURED_REPLY, &[]); OPTIONS_MAX as usize + 1];
    let (list, progress) = replies(&options);
    assert_eq!(list.len(), OPTIONS_MAX as usize);
    assert_eq!(progress, Progress::Close(Closing::TooManyOptions));
}

#[test]
fn garbage_instead_of_an_option_ends_it() {
    let (_, progress, _) = run(&[&FLAGS[..], &[0; 16]].concat(), 64);
    assert_eq!(progress, Progress::Close(Closing::BadMagic));
}

#[test]
fn requests_behind_go_are_left_in_the_input() {
    let input = [&FLAGS[..], &option(opt::GO, &go(b"prod", &[]))].concat();
    let (_, progress, at) = run(&[&input[..], b"requests"].concat(), 1000);
    assert!(matches!(progress, Progress::Ready(_)));
    assert_eq!(at, input.len());
}

#[test]
fn it_is_over_once_it_is_over() {
    let (table, mut shake) = (Table::new(), Handshake::new());
    assert_eq!(shake.waits_for(), Waiting::Flags);
    let input = [&FLAGS[..], &option(opt::ABORT, &[])].concat();
    assert_eq!(shake.feed(&input, &table).1, Progress::Close(Closing::Aborted));
    assert_eq!(shake.feed(&input, &table), (0, Progress::Close(Closing::Over)));
    assert_eq!(shake.waits_for(), Waiting::Nothing);
}

#[test]
fn a_server_going_down_refuses_but_abort() {
    let (table, mut shake) = (Table::new(), Handshake::new());
    shake.shut_down();
    let options = [option(opt::GO, &go(b"prod", &[])), option(opt::ABORT, &[])].concat();
    let (_, progress) = shake.feed(&[&FLAGS[..], &options].concat(), &table);
    assert_eq!(progress, Progress::Close(Closing::Aborted));
    let (head, _) = OptionReply::read_from_prefix(&shake.output()[18..]).unwrap();
    assert_eq!(head.kind, rep::ERR_SHUTDOWN);
}

#[test]
fn pieces_make_no_difference() {
    let options = [
        option(opt::STRUCTURED_REPLY, &[]),
        option(99, &vec![7; OPTION_MAX + 100]),
        option(opt::LIST, &[]),
        option(opt::SET_META_CONTEXT, &queries(b"prod", &[BASE_ALLOCATION])),
        option(opt::GO, &go(b"prod", &[info::NAME])),
    ];
    let input = [&FLAGS[..], &options.concat()].concat();
    let whole = run(&input, input.len());
    for piece in [1, 2, 3, 7, 16, 17, 1000] {
        assert_eq!(run(&input, piece), whole);
    }
}

#[test]
fn block_sizes_keep_to_the_rules() {
    for (min, preferred, expected) in [
        (0, 0, (1, 512)),
        (512, 4096, (512, 4096)),
        (4096, 512, (4096, 4096)),
        (3, 5000, (4, 8192)),
        (u32::MAX, u32::MAX, (1 << 16, 1 << 25)),
    ] {
        let export = Export { min_block: min, preferred_block: preferred, ..Export::default() };
        assert_eq!(export.blocks(), expected);
    }
}
