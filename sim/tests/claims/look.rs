// SPDX-License-Identifier: MIT

//! Steps that write and read volumes, and those that look at bit maps, block maps and slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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
    world.door()?.write(name, at, &data)?;
    world.door()?.flush(name)?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, pattern, chunk);
    Ok(())
}

/// `zero VOLUME AT LENGTH`
pub(crate) fn zero(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    world.door()?.zero(name, at, bytes)?;
    cleared(world, name, at, bytes)
}

/// `discard VOLUME AT LENGTH`: on a clone, which reads as zeros from then on.
pub(crate) fn discard(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    world.door()?.discard(name, at, bytes)?;
    cleared(world, name, at, bytes)
}

fn cleared(world: &mut World, name: &str, at: u64, bytes: u64) -> Result<(), String> {
    world.door()?.flush(name)?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, 0, chunk);
    Ok(())
}

/// `flush VOLUME`
pub(crate) fn flush(world: &mut World, words: &[String]) -> Result<(), String> {
    world.door()?.flush(word(words, 1, "a volume")?)
}

/// `close VOLUME`: the client lets go of it.
pub(crate) fn close(world: &mut World, words: &[String]) -> Result<(), String> {
    world.door()?.close(word(words, 1, "a volume")?)
}

/// `expect VOLUME AT LENGTH PATTERN`: it reads so; the model agrees.
pub(crate) fn expect(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let pattern = pattern(word(words, 4, "a pattern")?)?;
    let wanted = fill(pattern, at, bytes);
    let model = world.model.get(name)?.compare(at, &wanted);
    model.map_err(|e| format!("the scenario contradicts its own model: {e}"))?;
    let data = world.door()?.read(name, at, bytes)?;
    world.model.get(name)?.compare(at, &data)
}

/// `verify [NAME...]`: these, or all there are, hold what they should, read whole by another
/// client.
pub(crate) fn verify(world: &mut World, words: &[String]) -> Result<(), String> {
    let named = words.get(1..).unwrap_or(&[]);
    let all: Vec<_> = world.model.names().into_iter().collect();
    for name in if named.is_empty() { &all } else { named } {
        let data = world.door()?.whole(name)?;
        let wanted = world.model.get(name)?;
        if data.len() != length(wanted.bytes()) {
            return Err(format!("{name} has {} bytes, not {}", data.len(), wanted.bytes()));
        }
        wanted.compare(0, &data).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// `same A B`: another client finds the two alike.
pub(crate) fn same(world: &mut World, words: &[String]) -> Result<(), String> {
    world.door()?.alike(word(words, 1, "a name")?, word(words, 2, "a name")?)
}

/// `qemu-io VOLUME AT LENGTH BYTE`: another client writes the byte, and reads it back: qemu-io, or
/// one that goes through the page cache of the module's device.
pub(crate) fn qemu_io(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, at, bytes) = place(world, words)?;
    let byte = pattern(word(words, 4, "a byte")?)?;
    let byte = u8::try_from(byte).map_err(|e| format!("{byte} is no byte: {e}"))?;
    world.door()?.visit(name, at, bytes, byte)?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, BYTE + u32::from(byte), chunk);
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

/// `identity VOLUME mark|same`: its name, UUID, export and size are what they were; and, for as
/// long as it is served, where it is found.
pub(crate) fn identity(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let (export, node) = (world.door()?.info(name)?, world.door()?.node(name)?);
    let public = report::identity(world.program()?, name)?;
    let now = format!("{public} {export}");
    let (key, node_key) = (format!("identity of {name}"), format!("node of {name}"));
    if word(words, 2, "mark or same")? == "mark" {
        world.marks.extend([(key, now), (node_key, node)]);
        return Ok(());
    }
    let before = world.marks.get(&key).ok_or("it was not marked")?;
    let found = world.marks.get(&node_key).unwrap_or(&node);
    let is_same = *before == now && *found == node;
    is_same.then_some(()).ok_or_else(|| format!("{before} at {found} is {now} at {node}"))
}
