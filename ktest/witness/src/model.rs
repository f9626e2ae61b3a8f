// SPDX-License-Identifier: MIT

//! What is known of a pool: told as events, so that it can be told again after a power cut.
//!
//! Of each sector of a volume there is the value that is durable for sure, the value of the last
//! write that is done, and those that may be there instead after a cut: all since the durable one.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// The value of each sector.
pub(crate) type Table = Vec<u64>;

/// Some sectors that get a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) value: u64,
    pub(crate) at: usize,
    pub(crate) count: usize,
}

impl Piece {
    fn sectors(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.count
    }
}

/// A volume that is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Volume {
    durable: Table,
    landed: Table,
    /// Values since the durable one, of those sectors that have any.
    later: HashMap<usize, Vec<u64>>,
    /// Of them those that are being written.
    flying: HashMap<usize, u64>,
}

impl Volume {
    /// One whose values are all durable.
    pub(crate) fn of(table: Table) -> Self {
        Self { landed: table.clone(), durable: table, ..Self::default() }
    }

    pub(crate) fn sectors(&self) -> usize {
        self.durable.len()
    }

    fn write(&mut self, piece: &Piece) {
        for sector in piece.sectors() {
            self.later.entry(sector).or_default().push(piece.value);
            self.flying.insert(sector, piece.value);
        }
    }

    fn land(&mut self) {
        for (sector, value) in self.flying.drain() {
            if let Some(place) = self.landed.get_mut(sector) {
                *place = value;
            }
        }
    }

    fn flush(&mut self) {
        self.durable.clone_from(&self.landed);
        self.later = self.flying.iter().map(|(sector, value)| (*sector, vec![*value])).collect();
    }

    /// Whether a sector may hold a value after a power cut.
    pub(crate) fn may_hold(&self, sector: usize, value: u64) -> bool {
        self.durable.get(sector) == Some(&value)
            || self.later.get(&sector).is_some_and(|later| later.contains(&value))
    }

    /// Whether a sector's value is the one that is durable for sure.
    pub(crate) fn is_durable(&self, sector: usize, value: u64) -> bool {
        self.durable.get(sector) == Some(&value)
    }

    /// Whether a snapshot that is taken now may show a value.
    pub(crate) fn shows(&self, sector: usize, value: u64) -> bool {
        self.landed.get(sector) == Some(&value) || self.flying.get(&sector) == Some(&value)
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// This is what a volume or a snapshot holds, durably.
    Table(String, Table),
    /// A volume or a snapshot is no more.
    Gone(String),
    /// Writes begin; none of them touches another.
    Write(String, Vec<Piece>),
    /// Those that began are done.
    Landed(String),
    /// What was done before is durable.
    Flushed(String),
    /// A command begins: until the next `Settled` it may have been carried out or not.
    Trying(Vec<String>),
    /// It is known what came of it.
    Settled,
}

impl Event {
    /// As a line of text. Tables are long, and much of them is alike: `value*count`.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Table(name, table) => {
                let mut text = format!("table {name}");
                for run in table.chunk_by(|one, other| one == other) {
                    // Writing to a string does not fail.
                    let _ = write!(text, " {}*{}", run[0], run.len());
                }
                text
            }
            Self::Gone(name) => format!("gone {name}"),
            Self::Write(name, pieces) => {
                let mut text = format!("write {name}");
                for Piece { value, at, count } in pieces {
                    let _ = write!(text, " {value}:{at}:{count}");
                }
                text
            }
            Self::Landed(name) => format!("landed {name}"),
            Self::Flushed(name) => format!("flushed {name}"),
            Self::Trying(words) => format!("trying {}", words.join(" ")),
            Self::Settled => "settled".to_owned(),
        }
    }

    /// Reads what `text` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut words = rest.split_whitespace();
        if verb == "trying" {
            return Some(Self::Trying(words.map(str::to_owned).collect()));
        }
        if verb == "settled" {
            return Some(Self::Settled);
        }
        let name = words.next()?.to_owned();
        Some(match verb {
            "gone" => Self::Gone(name),
            "landed" => Self::Landed(name),
            "flushed" => Self::Flushed(name),
            "write" => Self::Write(name, words.map(piece).collect::<Option<_>>()?),
            "table" => {
                let mut table = Table::new();
                for word in words {
                    let (value, count) = word.split_once('*')?;
                    table.resize(table.len() + count.parse::<usize>().ok()?, value.parse().ok()?);
                }
                Self::Table(name, table)
            }
            _ => return None,
        })
    }
}

/// `value:at:count`.
fn piece(word: &str) -> Option<Piece> {
    let mut numbers = word.split(':');
    let value = numbers.next()?.parse().ok()?;
    let mut next = || numbers.next()?.parse().ok();
    Some(Piece { value, at: next()?, count: next()? })
}

/// A pool.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) snapshots: BTreeMap<String, Table>,
    /// A command of which nobody knows whether it was carried out.
    pub(crate) trying: Option<Vec<String>>,
}

impl State {
    /// Takes in what happened.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Table(name, table) if name.contains('@') => {
                self.snapshots.insert(name.clone(), table.clone());
            }
            Event::Table(name, table) => {
                self.volumes.insert(name.clone(), Volume::of(table.clone()));
            }
            Event::Gone(name) => {
                self.snapshots.remove(name);
                self.volumes.remove(name);
            }
            Event::Trying(words) => self.trying = Some(words.clone()),
            Event::Settled => self.trying = None,
            Event::Write(name, _) | Event::Landed(name) | Event::Flushed(name) => {
                let Some(volume) = self.volumes.get_mut(name) else { return };
                match event {
                    Event::Write(_, pieces) => pieces.iter().for_each(|piece| volume.write(piece)),
                    Event::Landed(_) => volume.land(),
                    _ => volume.flush(),
                }
            }
        }
    }

    /// The command that may have been carried out, if it is this one.
    pub(crate) fn tries(&self, verb: &str) -> Option<&[String]> {
        let words = self.trying.as_deref()?;
        (words.first()? == verb).then(|| &words[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> State {
        let mut state = State::default();
        for event in events {
            assert_eq!(Event::parse(&event.text()).as_ref(), Some(event));
            state.apply(event);
        }
        state
    }

    #[test]
    fn what_may_be_there_after_a_cut() {
        let prod = || "prod".to_owned();
        let write = |value| Event::Write(prod(), vec![Piece { value, at: 1, count: 2 }]);
        let mut events = vec![Event::Table(prod(), vec![0, 0, 0, 0]), write(7)];
        let may = |events: &[Event]| -> Vec<u64> {
            let state = after(events);
            (0..10).filter(|value| state.volumes["prod"].may_hold(2, *value)).collect()
        };
        assert_eq!(may(&events), [0, 7]);
        events.push(Event::Landed(prod()));
        assert_eq!(may(&events), [0, 7]);
        events.push(write(8));
        events.push(Event::Flushed(prod()));
        assert_eq!(may(&events), [7, 8]);
        assert!(after(&events).volumes["prod"].shows(1, 8));
        events.push(Event::Landed(prod()));
        assert!(!after(&events).volumes["prod"].shows(1, 7));
        events.push(Event::Flushed(prod()));
        assert_eq!(may(&events), [8]);
        assert!(after(&events).volumes["prod"].may_hold(3, 0));
    }

    #[test]
    fn commands_and_snapshots() {
        let words: Vec<String> = ["destroy", "prod@a"].map(str::to_owned).into();
        let mut events =
            vec![Event::Table("prod@a".into(), vec![3, 3, 1]), Event::Trying(words.clone())];
        assert_eq!(after(&events).tries("destroy"), Some(&words[1..]));
        assert_eq!(after(&events).tries("clone"), None);
        events.extend([Event::Gone("prod@a".into()), Event::Settled]);
        assert_eq!(after(&events), State::default());
        assert_eq!(Event::parse("write prod 1:2"), None);
    }
}
