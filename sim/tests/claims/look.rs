// SPDX-License-Identifier: MIT

//! Steps that write and read volumes, and those that look at bit maps, block maps and slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::client;
use super::model::{fill, length, pattern, BYTE};
use super::report::{self, Run};
use super::script::{size, word};
use super::world::World;

/// How long a sweep in the background may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The volume, the place and the length that a step names. The place may be `@WORD` or
/// `@WORD+WORD...`: the first chunks of the map of which all the words hold.
fn place<'a>(world: &World, words: &'a [String]) -> Result<(&'a str, u64, u64), String> {
    let name = word(words, 1, "a volume")?;
    let (at, bytes) = (word(words, 2, "a place")?, size(word(words, 3, "a length")?)?);
    let Some(wanted) = at.strip_prefix('@') else { return Ok((name, size(at)?, bytes)) };
    let runs = report::map(world.program()?, name, world.chunk)?;
    let fits =
        |run: &&Run| wanted.split('+').all(|w| run.is(w)) && run.count * world.chunk >= bytes;
    let run = runs.iter().find(fits).ok_or_else(|| format!("nothing is {wanted} in {runs:?}"))?;
    Ok((name, run.chunk * world.chunk, bytes))
}

/// `write VOLUME AT LENGTH PATTERN`, durable when it is done.
pub(crate) fn write(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let pattern = pattern(word(words, 4, "a pattern")?)?;
    let data = fill(pattern, at, bytes);
    world.ask(&format!("write {name} {at} {bytes} 0"), &data)?;
    world.ask(&format!("flush {name}"), &[])?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, pattern, chunk);
    Ok(())
}

/// `zero VOLUME AT LENGTH`
pub(crate) fn zero(world: &mut World, words: &[String]) -> Result<(), String> {
    clear(world, words, "zero", " 0")
}

/// `discard VOLUME AT LENGTH`: on a clone, which reads as zeros from then on.
pub(crate) fn discard(world: &mut World, words: &[String]) -> Result<(), String> {
    clear(world, words, "trim", "")
}

fn clear(world: &mut World, words: &[String], verb: &str, flags: &str) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    world.ask(&format!("{verb} {name} {at} {bytes}{flags}"), &[])?;
    world.ask(&format!("flush {name}"), &[])?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, 0, chunk);
    Ok(())
}

/// `flush VOLUME`
pub(crate) fn flush(world: &mut World, words: &[String]) -> Result<(), String> {
    world.ask(&format!("flush {}", word(words, 1, "a volume")?), &[]).map(|_| ())
}

/// `close VOLUME`: the client lets go of it.
pub(crate) fn close(world: &mut World, words: &[String]) -> Result<(), String> {
    world.ask(&format!("drop {}", word(words, 1, "a volume")?), &[]).map(|_| ())
}

/// `expect VOLUME AT LENGTH PATTERN`: it reads so; the model agrees.
pub(crate) fn expect(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let pattern = pattern(word(words, 4, "a pattern")?)?;
    let wanted = fill(pattern, at, bytes);
    let model = world.model.get(name)?.compare(at, &wanted);
    model.map_err(|e| format!("the scenario contradicts its own model: {e}"))?;
    let data = world.ask(&format!("read {name} {at} {bytes}"), &[])?;
    world.model.get(name)?.compare(at, &data)
}

/// `verify [NAME...]`: these, or all there are, hold what they should, read whole by nbdcopy.
pub(crate) fn verify(world: &mut World, words: &[String]) -> Result<(), String> {
    let named = words.get(1..).unwrap_or(&[]);
    let all: Vec<_> = world.model.names().into_iter().collect();
    for name in if named.is_empty() { &all } else { named } {
        let data = client::run("nbdcopy", &[&world.uri(name), "-"])?;
        let wanted = world.model.get(name)?;
        if data.len() != length(wanted.bytes()) {
            return Err(format!("{name} has {} bytes, not {}", data.len(), wanted.bytes()));
        }
        wanted.compare(0, &data).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// `same A B`: qemu-img finds the two alike.
pub(crate) fn same(world: &mut World, words: &[String]) -> Result<(), String> {
    let (a, b) = (world.uri(word(words, 1, "a name")?), world.uri(word(words, 2, "a name")?));
    client::run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &a, &b]).map(|_| ())
}

/// `qemu-io VOLUME AT LENGTH BYTE`: qemu-io writes the byte, and reads it back.
pub(crate) fn qemu_io(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let byte = pattern(word(words, 4, "a byte")?)?;
    let write = format!("write -P {byte} {at} {bytes}");
    let read = format!("read -P {byte} {at} {bytes}");
    let commands = ["-f", "raw", "-c", &write, "-c", "flush", "-c", &read];
    let said = client::run("qemu-io", &[&commands[..], &[&world.uri(name)]].concat())?;
    let said = String::from_utf8_lossy(&said);
    if said.contains("failed") || said.contains("error") {
        return Err(said.into_owned());
    }
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, BYTE + byte, chunk);
    Ok(())
}

/// `bits VOLUME [at-least]`: the volume's bits are set for the chunks written since its newest
/// snapshot (production: copied; clone: new), and every chunk with a bit has what the map says.
pub(crate) fn bits(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let more = words.get(2).is_some_and(|w| w == "at-least");
    let runs = report::map(world.program()?, name, world.chunk)?;
    let set = |run: &&Run| run.is("bit");
    let chunks = runs.iter().filter(set).flat_map(|run| run.chunk..run.chunk + run.count);
    let set: BTreeSet<_> = chunks.collect();
    let written = &world.model.get(name)?.written;
    let extra = set.difference(written).count();
    if !written.is_subset(&set) || (extra > 0 && !more) {
        return Err(format!("bits {set:?}, written {written:?}"));
    }
    let end = world.model.get(name)?.bytes().div_ceil(world.chunk);
    let mapped: u64 = runs.iter().map(|run| run.count).sum();
    (mapped == end).then_some(()).ok_or_else(|| format!("the map has {mapped} of {end} chunks"))
}

/// `map VOLUME AT LENGTH WORD...`: all the words hold of every chunk of the range.
pub(crate) fn map(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let (first, end) = (at / world.chunk, (at + bytes).div_ceil(world.chunk));
    let runs = report::map(world.program()?, name, world.chunk)?;
    for run in runs.iter().filter(|r| r.chunk < end && r.chunk + r.count > first) {
        for wanted in &words[4..] {
            if !run.is(wanted) {
                return Err(format!("not {wanted}: {run:?}"));
            }
        }
    }
    Ok(())
}

/// `distinct NAME...`: no slot serves two of them.
pub(crate) fn distinct(world: &mut World, words: &[String]) -> Result<(), String> {
    let mut owners = BTreeMap::new();
    for name in &words[1..] {
        let runs = report::map(world.program()?, name, world.chunk)?;
        for run in runs.iter().filter(|r| r.is("slot") && !r.is("base")) {
            for slot in run.at..run.at + run.count {
                if let Some(other) = owners.insert(slot, name) {
                    return Err(format!("slot {slot} serves {other} and {name}"));
                }
            }
        }
    }
    (!owners.is_empty()).then_some(()).ok_or_else(|| "they have no slots at all".to_owned())
}

/// `slots [eventually] ==|<=|>= NUMBER|MARK[+NUMBER]`, or `slots mark MARK`.
pub(crate) fn slots(world: &mut World, words: &[String]) -> Result<(), String> {
    if words.get(1).is_some_and(|w| w == "mark") {
        let used = report::slots(world.program()?)?.to_string();
        world.marks.insert(word(words, 2, "a mark")?.to_owned(), used);
        return Ok(());
    }
    let patient = words.get(1).is_some_and(|w| w == "eventually");
    let rest = &words[if patient { 2 } else { 1 }..];
    let (sign, wanted) = (word(rest, 0, "a comparison")?, word(rest, 1, "a number")?);
    let (mark, plus) = wanted.split_once('+').unwrap_or((wanted, "0"));
    let base = world.marks.get(mark).map_or(mark, String::as_str);
    let wanted = size(base)? + size(plus)?;
    let begun = Instant::now();
    loop {
        let used = report::slots(world.program()?)?;
        let holds = match sign {
            "==" => used == wanted,
            "<=" => used <= wanted,
            ">=" => used >= wanted,
            _ => return Err(format!("`{sign}` is no comparison")),
        };
        if holds {
            return Ok(());
        }
        if !patient || begun.elapsed() > PATIENCE {
            return Err(format!("{used} slots are in use, not {sign} {wanted}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `identity VOLUME mark|same`: its name, UUID, export and size are what they were.
pub(crate) fn identity(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let export = world.ask(&format!("info {name}"), &[])?;
    let public = report::identity(world.program()?, name)?;
    let now = format!("{public} {}", String::from_utf8_lossy(&export));
    let key = format!("identity of {name}");
    if word(words, 2, "mark or same")? == "mark" {
        world.marks.insert(key, now);
        return Ok(());
    }
    let before = world.marks.get(&key).ok_or("it was not marked")?;
    (*before == now).then_some(()).ok_or_else(|| format!("it was {before}, and is {now}"))
}
