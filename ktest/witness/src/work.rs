// SPDX-License-Identifier: MIT

//! The workload: writes and flushes on all volumes; snapshots, clones, refresh and restore, under
//! writes that are under way. It ends when its time is over or the power is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::device::{self, Buffer};
use crate::journal::Journal;
use crate::model::{Event, Piece};
use crate::pool::{self, rwsnap};
use crate::sector::mix;
use crate::verify::{is_of_a_restore, unlike};

const PROD: &str = "prod";
const SNAPSHOTS_MAX: usize = 6;
const CLONES_MAX: usize = 3;
/// Writes at once, and the most sectors of one.
const WRITES_MAX: u64 = 8;
const SECTORS_MAX: u64 = 96;

/// Why it ends.
pub(crate) enum End {
    /// It is over: the time, or the power.
    Over(String),
    /// Something is wrong.
    Wrong(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Wrong(format!("the record: {error}"))
    }
}

type Step = Result<(), End>;

/// The workload.
pub(crate) struct Work {
    pub(crate) journal: Journal,
    files: BTreeMap<String, File>,
    random: u64,
    value: u64,
    /// A disk that can be read as long as there is power.
    probe: PathBuf,
    /// The device-mapper device to leave marks on.
    mark: Option<String>,
    /// What was done, for people.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Work {
    pub(crate) fn new(journal: Journal, seed: u64, probe: &Path, mark: Option<String>) -> Self {
        let (value, random) = (journal.generation << 32, mix(seed));
        let (files, counts) = (BTreeMap::new(), BTreeMap::new());
        Self { journal, files, random, value, probe: probe.to_owned(), mark, counts }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = mix(self.random);
        self.random % bound.max(1)
    }

    fn one_of<'a>(&mut self, names: &'a [String]) -> Option<&'a String> {
        let at = self.below(names.len() as u64);
        names.get(usize::try_from(at).unwrap_or_default())
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn has_power(&self) -> bool {
        let mut buffer = Buffer::new(4096);
        let read = device::open(&self.probe, false)
            .and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, buffer.get(), 0));
        read.is_ok()
    }

    /// Something failed: it is over if there is no power.
    fn failed(&self, why: String) -> End {
        if self.has_power() {
            End::Wrong(format!("there is power, and still: {why}"))
        } else {
            End::Over(why)
        }
    }

    fn tell(&mut self, event: &Event) -> Step {
        Ok(self.journal.tell(event)?)
    }

    /// Goes on for so long.
    pub(crate) fn run(&mut self, time: Duration) -> End {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if let Err(end) = self.step() {
                return end;
            }
        }
        End::Over("the time".to_owned())
    }

    fn step(&mut self) -> Step {
        let volumes: Vec<String> = self.journal.state.volumes.keys().cloned().collect();
        let Some(volume) = self.one_of(&volumes).cloned() else { return Ok(()) };
        let pieces = self.pieces(&volume);
        let command = if self.below(5) == 0 { self.command(&volume) } else { None };
        if !self.files.contains_key(&volume) {
            let file = pool::open(&volume).map_err(|why| self.failed(why))?;
            self.files.insert(volume.clone(), file);
        }
        self.tell(&Event::Write(volume.clone(), pieces.clone()))?;
        let file = self.files[&volume].try_clone()?;
        let (written, commanded) = std::thread::scope(|scope| {
            let write = |piece| {
                scope.spawn({
                    let file = &file;
                    move || device::write(file, piece)
                })
            };
            let writers: Vec<_> = pieces.iter().map(write).collect();
            let commanded = command.map_or(Ok(()), |words| self.carry_out(&words));
            let join = |writer: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
                writer.join().unwrap_or_else(|_| Err(io::Error::other("a writer panicked")))
            };
            (writers.into_iter().map(join).collect::<Vec<_>>(), commanded)
        });
        commanded?;
        for result in written {
            result.map_err(|error| self.failed(format!("{volume}: {error}")))?;
        }
        self.tell(&Event::Landed(volume.clone()))?;
        self.count("writes");
        if self.below(3) == 0 {
            self.flush(&volume)?;
        }
        Ok(())
    }

    fn flush(&mut self, volume: &str) -> Step {
        let flushed = self.files[volume].sync_data();
        flushed.map_err(|error| self.failed(format!("{volume}: {error}")))?;
        self.tell(&Event::Flushed(volume.to_owned()))?;
        self.count("flushes");
        self.leave_mark()
    }

    /// Says in the log of dm-log-writes how far the record has come.
    fn leave_mark(&mut self) -> Step {
        let Some(device) = &self.mark else { return Ok(()) };
        let text = format!("event{}", self.journal.count);
        let mut dmsetup = Command::new("dmsetup");
        match dmsetup.args(["message", device, "0", "mark", &text]).status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(End::Wrong(format!("dmsetup leaves no mark: {other:?}"))),
        }
    }

    /// Writes that do not touch each other: whole chunks, parts of them, and across their borders.
    fn pieces(&mut self, volume: &str) -> Vec<Piece> {
        let sectors = self.journal.state.volumes[volume].sectors() as u64;
        let mut pieces: Vec<Piece> = Vec::new();
        // Few places are written often, others hardly ever.
        let range = if self.below(3) == 0 { sectors } else { sectors / 16 };
        for _ in 0..=self.below(WRITES_MAX) {
            let grain = [1, 8, 8, 128][usize::try_from(self.below(4)).unwrap_or_default()];
            let at = self.below(range) / grain * grain;
            let count = (1 + self.below(SECTORS_MAX)).next_multiple_of(grain.min(8));
            let count = count.min(sectors - at);
            let apart = |other: &Piece| {
                let (from, to) = (other.at as u64, (other.at + other.count) as u64);
                at + count <= from || to <= at
            };
            if pieces.iter().all(apart) {
                self.value += 1;
                let [at, count] = [at, count].map(|n| usize::try_from(n).unwrap_or_default());
                pieces.push(Piece { value: self.value, at, count });
            }
        }
        pieces
    }

    /// A command to carry out while a volume is written.
    fn command(&mut self, written: &str) -> Option<Vec<String>> {
        let state = &self.journal.state;
        let snapshots: Vec<String> = state.snapshots.keys().cloned().collect();
        let of_prod: Vec<String> =
            snapshots.iter().filter(|name| name.starts_with("prod@")).cloned().collect();
        let clones: Vec<String> = state.volumes.keys().filter(|n| *n != PROD).cloned().collect();
        let others: Vec<String> = clones.iter().filter(|n| *n != written).cloned().collect();
        let number = self.value;
        let words = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
        let kind = self.below(10);
        if kind < 4 && snapshots.len() < SNAPSHOTS_MAX {
            return words(&["snapshot", &format!("{written}@s{number:x}")]);
        }
        if kind < 6 {
            let both = [snapshots, others.clone()].concat();
            return words(&["destroy", self.one_of(&both)?]);
        }
        let from = self.one_of(&of_prod)?;
        match kind {
            6 | 7 if clones.len() < CLONES_MAX => words(&["clone", from, &format!("c{number:x}")]),
            6..=8 => words(&["refresh", self.one_of(&others)?, "--to", from]),
            _ if written == PROD => None,
            _ if number % 2 == 0 => words(&["restore", PROD, "--from", from, "--no-undo"]),
            _ => words(&["restore", PROD, "--from", from]),
        }
    }

    fn carry_out(&mut self, words: &[String]) -> Step {
        let (verb, name) = (words[0].as_str(), &words[words.len().min(2) - 1]);
        if verb != "snapshot" {
            self.files.remove(name);
        }
        self.tell(&Event::Trying(words.to_vec()))?;
        if let Err(why) = rwsnap(words) {
            let end = self.failed(why);
            return match end {
                End::Over(_) => Err(end),
                // Others need it, or a restore goes on.
                End::Wrong(why) if verb == "snapshot" => Err(End::Wrong(why)),
                End::Wrong(why) => {
                    println!("refused: {}: {why}", words.join(" "));
                    self.count("refused");
                    self.tell(&Event::Settled)
                }
            };
        }
        match verb {
            "snapshot" => self.snapshot_is_there(name)?,
            "destroy" => self.tell(&Event::Gone(name.clone()))?,
            "clone" => self.is_as(&words[2], &words[1])?,
            _ => self.is_as(name, &words[3])?,
        }
        self.tell(&Event::Settled)?;
        self.count(match verb {
            "snapshot" => "snapshots",
            "clone" => "clones",
            "refresh" => "refreshes",
            "restore" => "restores",
            _ => "destroyed",
        });
        self.leave_mark()
    }

    fn table(&self, name: &str) -> Result<Vec<u64>, End> {
        let table = pool::table(name).map_err(|why| self.failed(why))?;
        table.map_err(|why| End::Wrong(format!("{name}: {why}")))
    }

    /// A snapshot was taken: all that was done before is in it, and durable.
    fn snapshot_is_there(&mut self, name: &str) -> Step {
        let volume = name.split('@').next().unwrap_or_default().to_owned();
        self.tell(&Event::Flushed(volume.clone()))?;
        let table = self.table(name)?;
        let of = &self.journal.state.volumes[&volume];
        if let Some((sector, value)) = unlike(&table, |s, value| of.shows(s, value)).first() {
            let what = format!("{name} has {value:#x} in sector {sector}, which {volume} had not");
            return Err(End::Wrong(what));
        }
        self.tell(&Event::Table(name.to_owned(), table))
    }

    /// A volume has got what a snapshot holds.
    fn is_as(&mut self, name: &str, snapshot: &str) -> Step {
        let table = self.table(name)?;
        if self.journal.state.snapshots.get(snapshot) != Some(&table) {
            return Err(End::Wrong(format!("{name} is not as {snapshot}")));
        }
        self.tell(&Event::Table(name.to_owned(), table))
    }
}

/// Gives up what restores have kept to be undone.
pub(crate) fn tidy() -> Result<(), String> {
    for (name, _) in pool::list()?.iter().filter(|(name, _)| is_of_a_restore(name)) {
        if let Err(why) = rwsnap(&["destroy", "--defer", name]) {
            println!("{name} stays: {why}");
        }
    }
    Ok(())
}
