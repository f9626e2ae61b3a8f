// SPDX-License-Identifier: MIT

//! Steps of a restore and its merge, and load in the foreground.

use std::time::{Duration, Instant};

use super::life::{adopt, forget, let_go};
use super::media::Driver;
use super::model::ANY;
use super::report::{self, Progress};
use super::script::{size, word};
use super::world::World;

/// How long a merge of a test's volumes may take, and a step of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes a second while a merge is driven to a part of its way: slow enough for commands that look
/// at it and stop it there, which take long in an emulated machine.
const fn rate(driver: Driver) -> &'static str {
    match driver {
        Driver::Server => "16M",
        Driver::Module => "4M",
    }
}

/// `restore VOLUME from X [old-first] [no-undo] [paused]`: once it returns, the volume reads as X.
/// The snapshots that it makes come into the model under the names they have.
pub(crate) fn restore(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, from) = (word(words, 1, "a volume")?, word(words, 3, "what from")?);
    let has = |option: &str| words.iter().any(|w| w == option);
    let mut command = vec!["restore", name, "--from", from];
    let options = [
        ("old-first", &["--order", "old-first"][..]),
        ("new-first", &["--order", "new-first"]),
        ("no-undo", &["--no-undo"]),
        ("paused", &["--rate", "0"]),
    ];
    for (option, arguments) in options {
        if has(option) {
            command.extend(arguments);
        }
    }
    // A client that holds it open for writing would stand in the way.
    let_go(world, name)?;
    world.change(&command)?;
    if !has("no-undo") {
        adopt(world, &format!("{name}@before-restore"), name)?;
    }
    let restored = world.model.get(from)?.copy();
    world.model.put(name, restored);
    adopt(world, &format!("{name}@restored"), name).map(|_| ())
}

/// How the restore stands; it has to be there.
fn progress(world: &World, name: &str) -> Result<Progress, String> {
    let progress = report::restore(world.program()?, name)?;
    progress.ok_or_else(|| format!("no restore of {name} is under way"))
}

/// `merge VOLUME to PERCENT`: goes on to there, then pauses. `merge VOLUME end`: to the end.
pub(crate) fn merge(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let begun = Instant::now();
    if word(words, 2, "to, or end")? == "end" {
        let hurry = world.program()?.ok(&["restore", name, "--rate", "none"]);
        if let (Err(why), Some(_)) = (hurry, report::restore(world.program()?, name)?) {
            return Err(why);
        }
        while report::restore(world.program()?, name)?.is_some() {
            if begun.elapsed() > PATIENCE {
                return Err("the merge does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        return Ok(());
    }
    let percent = size(word(words, 3, "a percentage")?)?;
    world.program()?.ok(&["restore", name, "--rate", rate(world.media.driver())])?;
    loop {
        let now = progress(world, name)?;
        if now.total > 0 && now.done * 100 >= now.total * percent {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the merge stays at {} of {}", now.done, now.total));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    world.program()?.ok(&["restore", name, "--rate", "0"])?;
    settle_down(world, name)
}

/// Waits until a paused merge has ended the batches that were under way.
fn settle_down(world: &World, name: &str) -> Result<(), String> {
    let mut before = progress(world, name)?.done;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = progress(world, name)?;
        if now.done == before {
            let half_way = now.done > 0 && now.done < now.total;
            let (reads, writes) = now.served;
            let stand = format!("{} of {} bytes are merged", now.done, now.total);
            println!("{stand}; {reads} reads and {writes} writes were served meanwhile");
            return half_way.then_some(()).ok_or(stand);
        }
        before = now.done;
    }
}

/// `cancel VOLUME`: it holds what it held before the restore.
pub(crate) fn cancel(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let_go(world, name)?;
    world.change(&["restore", name, "--cancel"])?;
    let head = format!("{name}@before-restore-");
    let number = |n: &String| n.strip_prefix(&head)?.parse::<u64>().ok();
    let newest = world.model.names().iter().filter_map(number).max();
    let newest = newest.ok_or("there is no snapshot from before")?;
    let contents = world.model.get(&format!("{head}{newest}"))?.copy();
    world.model.put(name, contents);
    forget(world, &format!("{name}@"))
}

/// `settled VOLUME AT LENGTH all|some|any|none`: how many of the range's chunks are settled.
pub(crate) fn settled(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a volume")?;
    let (at, bytes) = (size(word(words, 2, "a place")?)?, size(word(words, 3, "a length")?)?);
    let (first, end) = (at / world.chunk, (at + bytes).div_ceil(world.chunk));
    let runs = report::map(world.program()?, name, world.chunk)?;
    let inside =
        |run: &report::Run| end.min(run.chunk + run.count).saturating_sub(first.max(run.chunk));
    let count: u64 = runs.iter().filter(|r| r.is("settled")).map(inside).sum();
    let holds = match word(words, 4, "how many")? {
        "all" => count == end - first,
        "some" => count > 0 && count < end - first,
        "none" => count == 0,
        "any" => count > 0,
        other => return Err(format!("`{other}` is not all, some, any or none")),
    };
    holds.then_some(()).ok_or_else(|| format!("{count} of {} chunks are settled", end - first))
}

/// `fio VOLUME AT LENGTH SECONDS`: reads and writes with verification in the background, in a range
/// that nobody else looks at; on the module's devices by threads of the test's own. `fio wait`:
/// none of them was wrong, and there were some of each.
pub(crate) fn fio(world: &mut World, words: &[String]) -> Result<(), String> {
    if word(words, 1, "a volume")? == "wait" {
        let load = world.load.take().ok_or("no load is there")?;
        let (reads, writes) = load()?;
        println!("load: {reads} reads and {writes} writes were served, all of them right");
        return if reads > 0 && writes > 0 { Ok(()) } else { Err("load did nothing".to_owned()) };
    }
    let name = word(words, 1, "a volume")?;
    let (at, bytes) = (size(word(words, 2, "a place")?)?, size(word(words, 3, "a length")?)?);
    let seconds = size(word(words, 4, "seconds")?)?;
    let chunk = world.chunk;
    world.model.get_mut(name)?.write(at, bytes, ANY, chunk);
    world.load = Some(world.door()?.load(name, at, bytes, seconds)?);
    Ok(())
}
