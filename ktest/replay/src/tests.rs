// SPDX-License-Identifier: MIT

//! Synthetic logs: what is replayed, where checks run, and what is said of broken ones.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::each::each;
use crate::replay::replay;
use crate::synthetic::Writer;
use crate::{Discards, Error, Flags, Log, Point, Span};

const NONE: Flags = Flags(0);

/// Ten entries on a device of 64 sectors.
fn sample(sector: u32) -> Writer {
    Writer::new(sector)
        .write(0, 4, 1, NONE)
        .write(2, 4, 2, Flags::METADATA)
        .flush()
        .mark("mkfs")
        .write(1, 1, 3, Flags::FUA)
        .discard(0, 3)
        .write(63, 1, 4, NONE)
        .flush()
        .write(0, 1, 5, Flags::FLUSH.and(Flags::FUA))
        .mark("dm-log-writes-end")
}

/// A device of zeros, 64 sectors.
fn device(dir: &Path, sector: u32) -> PathBuf {
    let path = dir.join("device");
    fs::write(&path, vec![0; 64 * sector as usize]).unwrap();
    path
}

/// The value of each sector.
fn values(device: &Path) -> Vec<u8> {
    let bytes = fs::read(device).unwrap();
    let sectors = bytes.chunks(bytes.len() / 64);
    sectors
        .map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
            sector[0]
        })
        .collect()
}

fn span(from: Option<u64>, until: Option<u64>) -> Span {
    Span { from: from.map(Point::Number), until: until.map(Point::Number) }
}

#[test]
fn it_replays_up_to_an_entry_and_on_from_the_next() {
    for sector in [512, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let (path, device) = (sample(sector).store(dir.path()), device(dir.path(), sector));
        let log = Log::open(&path).unwrap();
        assert_eq!((log.len(), log.sector()), (10, sector));
        let run = |from, until| {
            let count = replay(&log, &device, &span(from, until), Discards::Zero).unwrap();
            (count, values(&device)[..7].to_vec(), values(&device)[63])
        };
        assert_eq!(run(None, Some(1)), (2, vec![1, 1, 2, 2, 2, 2, 0], 0));
        assert_eq!(run(Some(2), Some(4)), (3, vec![1, 3, 2, 2, 2, 2, 0], 0));
        assert_eq!(run(Some(5), None), (5, vec![5, 0, 0, 2, 2, 2, 0], 4));
        assert_eq!(run(None, Some(4)), (5, vec![1, 3, 2, 2, 2, 2, 0], 4));
    }
}

#[test]
fn marks_name_entries_and_discards_may_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (sample(512).store(dir.path()), device(dir.path(), 512));
    let log = Log::open(&path).unwrap();
    let mkfs = Some(Point::Mark("mkfs".to_owned()));
    let until = Span { from: None, until: mkfs.clone() };
    assert_eq!(replay(&log, &device, &until, Discards::Skip).unwrap(), 4);
    let from = Span { from: mkfs, until: None };
    assert_eq!(replay(&log, &device, &from, Discards::Skip).unwrap(), 7);
    assert_eq!(values(&device)[..4], [5, 3, 2, 2]);
}

#[test]
fn large_writes_and_discards_go_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let sectors = 64 * 4096 / 512 * 10;
    let writer = Writer::new(512).write(1, sectors, 9, NONE).discard(3, sectors - 4);
    let log = Log::open(&writer.store(dir.path())).unwrap();
    let device = dir.path().join("device");
    let bytes = (usize::try_from(sectors).unwrap() + 2) * 512;
    fs::write(&device, vec![7; bytes]).unwrap();
    replay(&log, &device, &Span::default(), Discards::Zero).unwrap();
    let got = fs::read(&device).unwrap();
    let all = |from: usize, to: usize, value| got[from..to].iter().all(|byte| *byte == value);
    assert!(all(0, 512, 7) && all(512, 1536, 9) && all(1536, bytes - 1536, 0));
    assert!(all(bytes - 1536, bytes - 512, 9) && all(bytes - 512, bytes, 7));
}

/// The shell's command, told where the device is.
fn shell(script: &str) -> Vec<OsString> {
    ["sh", "-c", script].map(OsString::from).to_vec()
}

#[test]
fn a_check_runs_after_each_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (sample(512).store(dir.path()), device(dir.path(), 512));
    let log = Log::open(&path).unwrap();
    let (at, out) = (device.display(), dir.path().join("out"));
    let byte = format!("od -An -tu1 -N1 -j512 {at}");
    let script = format!("echo $REPLAY_ENTRY $({byte}) $REPLAY_MARK >> {}", out.display());
    let run = |span, script: &str| each(&log, &device, &span, Discards::Zero, &shell(script));
    assert_eq!(run(Span::default(), &script).unwrap(), 6);
    let said = fs::read_to_string(&out).unwrap();
    assert_eq!(said, "2 1\n3 1 mkfs\n4 3\n7 0\n8 0\n9 0 dm-log-writes-end\n");
    assert_eq!(run(span(Some(4), Some(8)), "true").unwrap(), 3);
    let error = run(Span::default(), "test $REPLAY_ENTRY -lt 7").unwrap_err();
    assert!(matches!(&error, Error::Check(7, what, _) if what == "FLUSH"), "{error}");
    let none = [OsString::from("/nonexistent")];
    let error = each(&log, &device, &Span::default(), Discards::Zero, &none).unwrap_err();
    assert!(error.to_string().contains("cannot run /nonexistent"), "{error}");
}

#[test]
fn entries_that_are_not_there_are_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&sample(512).store(dir.path())).unwrap();
    let device = device(dir.path(), 512);
    let fails = |span: &Span| replay(&log, &device, span, Discards::Zero).unwrap_err().to_string();
    assert_eq!(fails(&span(None, Some(10))), "the log has no entry 10 among its 10 entries");
    assert_eq!(fails(&span(Some(11), None)), "the log has no entry 11 among its 10 entries");
    assert_eq!(fails(&span(Some(5), Some(2))), "the log has no entry 2 from entry 5 on");
    let mark = Span { from: None, until: Some(Point::Mark("x".to_owned())) };
    assert_eq!(fails(&mark), "the log has no mark `x` among its 10 entries");
}

#[test]
fn a_device_that_is_too_small_or_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = sample(512).store(dir.path());
    let log = Log::open(&path).unwrap();
    let device = device(dir.path(), 512);
    fs::File::options().write(true).open(&device).unwrap().set_len(63 * 512).unwrap();
    let error = replay(&log, &device, &Span::default(), Discards::Zero).unwrap_err();
    assert!(matches!(error, Error::Beyond { entry: 6, end: 32768, size: 32256 }), "{error}");
    let error = replay(&log, &path, &Span::default(), Discards::Zero).unwrap_err();
    assert!(error.to_string().contains("the log itself"), "{error}");
}

/// What is said of these bytes as a log: the first error, if there is one.
fn said(bytes: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, bytes).unwrap();
    match Log::open(&path) {
        Ok(log) => log.entries().find_map(Result::err).map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn broken_logs_say_where_they_are_broken() {
    let head = |numbers: [u64; 4]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let magic = crate::format::MAGIC;
    let huge = u64::MAX / 512;
    let one = |numbers| Writer::new(512).raw(numbers, b"", b"").bytes();
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "it has 0 bytes"),
        (vec![0; 512], "it begins with 0x0"),
        (head([magic, 2, 0, 512]), "version is 2"),
        (head([magic, 1, 0, 0]), "sectors of 0 bytes"),
        (head([magic, 1, 0, 520]), "sectors of 520 bytes"),
        (head([magic, 1, 0, 1 << 31]), "sectors of 2147483648 bytes"),
        (head([magic, 1, u64::MAX, 512]), "no room for 18446744073709551615 entries"),
        (one([0, 0, 0, 0]), "entry 0 (byte 512): it writes nothing"),
        (one([0, 1, 0x20, 0]), "flags 0x20 have no meaning"),
        (one([huge, 1, 0, 0]), "beyond any device"),
        (one([u64::MAX, 2, 0, 0]), "beyond any device"),
        (one([0, 0, Flags::MARK.0, 481]), "a mark of 481 bytes"),
        (one([0, 9, Flags::MARK.0, 4]), "a mark of 4 bytes and 9 sectors"),
        (one([0, 2, 0, 0]), "its data ends at byte 2048, the log at 1024"),
        (one([0, 1, Flags::DISCARD.0, 513]), "513 bytes are not within 1 sectors"),
    ];
    for (bytes, why) in cases {
        let said = said(bytes).unwrap_or_default();
        assert!(said.contains(why), "{said}, not: {why}");
    }
    assert_eq!(said(&sample(512).bytes()), None);
}

#[test]
fn cut_off_anywhere_it_gives_the_entries_before_and_an_error() {
    let whole = sample(512).bytes();
    for len in (0..whole.len()).step_by(256) {
        let said = said(&whole[..len]).unwrap_or_default();
        let right = ["no room for", "the log ends", "its data ends", "it has"];
        assert!(right.iter().any(|why| said.contains(why)), "{len} bytes: {said}");
    }
}

#[test]
fn no_garbage_is_too_odd() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (dir.path().join("log"), device(dir.path(), 512));
    let mut seed = 1_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    let whole = sample(512).bytes();
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=next() % 4 {
            // Of the numbers of a head more often than of data.
            let at = next() % bytes.len() / 512 * 512 + next() % 32;
            bytes[at] = (next() & 0xff).try_into().unwrap();
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(log) = Log::open(&path) {
            let _ = replay(&log, &device, &Span::default(), Discards::Zero);
        }
    }
    assert_eq!(fs::metadata(&device).unwrap().len(), 64 * 512);
}
