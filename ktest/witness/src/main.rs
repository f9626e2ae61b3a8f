// SPDX-License-Identifier: MIT

//! `witness`: writes to a pool's volumes, keeps a record of what is durable, and says after a
//! power cut whether it is there.
//!
//! ```text
//! witness begin JOURNAL                        the pool, as it is, begins the record
//! witness work JOURNAL --seconds N --seed N --probe DISK [--mark DM]
//! witness verify JOURNAL [--until EVENT]       after a cut; without --until a new record begins
//! witness random BOUND SEED                    a number, for scripts
//! witness sum [FILE...]                        XXH64 of files or standard input, for scripts
//! ```
//!
//! The journal is a disk whose power stays on. `work` ends with 0 if the time or the power is
//! gone (`--probe` tells them apart from what is wrong), else with 1.

mod device;
mod journal;
mod model;
mod pool;
mod sector;
mod sum;
mod verify;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use journal::Journal;
use model::Event;
use work::{End, Work};

/// The command line: words, and options with their values.
struct Asked {
    words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Asked {
    fn take(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self { words: Vec::new(), options: Vec::new() };
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.strip_prefix("--") {
                Some(name) => {
                    let value = args.next().ok_or(format!("{arg} wants a value"))?;
                    asked.options.push((name.to_owned(), value));
                }
                None => asked.words.push(arg),
            }
        }
        Ok(asked)
    }

    fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(option, _)| option == name);
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        let text = self.option(name).ok_or(format!("--{name} is not given"))?;
        text.parse().map_err(|_| format!("--{name} {text} is no number"))
    }
}

fn begin(journal: &Path) -> Result<(), String> {
    let mut events = Vec::new();
    for (name, _) in pool::list()? {
        let table = pool::table(&name)??;
        events.push(Event::Table(name, table));
    }
    Journal::create(journal, 1, &events).map_err(|error| error.to_string())?;
    Ok(())
}

fn work(journal: &Path, asked: &Asked) -> Result<(), String> {
    let journal = Journal::open(journal, None).map_err(|error| error.to_string())?;
    let probe = PathBuf::from(asked.option("probe").ok_or("--probe is not given")?);
    let mark = asked.option("mark").map(str::to_owned);
    let mut work = Work::new(journal, asked.number("seed")?, &probe, mark);
    let end = work.run(Duration::from_secs(asked.number("seconds")?));
    println!("{} events; {:?}", work.journal.count, work.counts);
    match end {
        End::Over(why) => {
            println!("over: {why}");
            Ok(())
        }
        End::Wrong(why) => Err(why),
    }
}

fn verify(path: &Path, asked: &Asked) -> Result<(), String> {
    let until = asked.option("until").map(|_| asked.number("until")).transpose()?;
    let journal = Journal::open(path, until).map_err(|error| error.to_string())?;
    let found = verify::verify(&journal.state)?;
    let (tables, count) = (found.tables.len(), journal.count);
    println!("{tables} tables, {count} events, {} sectors not flushed and there", found.later);
    if !found.wrong.is_empty() {
        let trying = journal.state.trying.map_or(String::new(), |words| words.join(" "));
        return Err(format!("{} (trying: {trying})", found.wrong.join("\n")));
    }
    if until.is_none() {
        work::tidy()?;
        let generation = journal.generation + 1;
        Journal::create(path, generation, &verify::events(&found))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn carry_out() -> Result<(), String> {
    let asked = Asked::take(std::env::args().skip(1))?;
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    match words[..] {
        ["begin", journal] => begin(Path::new(journal)),
        ["work", journal] => work(Path::new(journal), &asked),
        ["verify", journal] => verify(Path::new(journal), &asked),
        ["random", bound, seed] => {
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text}: no number"));
            println!("{}", sector::mix(number(seed)?) % number(bound)?.max(1));
            Ok(())
        }
        ["sum", ref files @ ..] => sum::print(files).map_err(|error| error.to_string()),
        _ => Err("begin, work, verify, random or sum is expected".to_owned()),
    }
}

fn main() -> ExitCode {
    match carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("witness: {why}");
            ExitCode::FAILURE
        }
    }
}
