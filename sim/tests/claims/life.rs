// SPDX-License-Identifier: MIT

//! Steps of the life of pools, servers, snapshots and clones.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::host::Host;
use super::model::Contents;
use super::program::Program;
use super::report;
use super::script::{size, word};
use super::world::World;

/// `production NAME SIZE`: a volume that holds pattern 1, for the pool that is made next.
pub(crate) fn production(world: &mut World, words: &[String]) -> Result<(), String> {
    let (name, bytes) = (word(words, 1, "a name")?, size(word(words, 2, "a size")?)?);
    let path = world.media.production(name, bytes)?;
    world.productions.push(format!("{name}={}", path.display()));
    world.model.put(name, Contents::new(bytes));
    Ok(())
}

/// `create [OPTION...]`: makes the pool of these productions.
pub(crate) fn create(world: &mut World, words: &[String]) -> Result<(), String> {
    let save = world.media.save()?;
    let program = Program::new(save, world.media.folder());
    let mut options: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    for production in &world.productions {
        options.extend(["--production", production]);
    }
    program.create(&options)?;
    world.program = Some(program);
    Ok(())
}

/// `serve`: serves the pool, or goes on serving it after a crash.
pub(crate) fn serve(world: &mut World, _: &[String]) -> Result<(), String> {
    let program = world.program()?;
    let host = Host::begin(world.media.driver(), program, &world.socket())?;
    world.chunk = report::chunk(program)?;
    world.host = Some(host);
    Ok(())
}

/// `stop`: ends the server as an operator does.
pub(crate) fn stop(world: &mut World, _: &[String]) -> Result<(), String> {
    leave(world)?.stop(world.program()?)
}

/// `kill9`: ends the server at once. Everything that was written before was flushed by then.
pub(crate) fn kill9(world: &mut World, _: &[String]) -> Result<(), String> {
    leave(world)?.kill()
}

/// Lets go of all volumes, and forgets where they were found; gives who served them.
fn leave(world: &mut World) -> Result<Host, String> {
    world.door = None;
    world.marks.retain(|mark, _| !mark.starts_with("node of "));
    world.host.take().ok_or_else(|| "the pool is not served".to_owned())
}

/// `check`: the pool at rest is sound.
pub(crate) fn check(world: &mut World, _: &[String]) -> Result<(), String> {
    world.program()?.check().map(|_| ())
}

/// `snapshot NAME...`: one moment for all of them.
pub(crate) fn snapshot(world: &mut World, words: &[String]) -> Result<(), String> {
    let command: Vec<_> = words.iter().map(String::as_str).collect();
    world.program()?.ok(&command)?;
    words.iter().skip(1).try_for_each(|name| world.model.snapshot(name))
}

/// `clone SNAPSHOT NAME`
pub(crate) fn clone(world: &mut World, words: &[String]) -> Result<(), String> {
    let (from, name) = (word(words, 1, "a snapshot")?, word(words, 2, "a name")?);
    world.program()?.ok(&["clone", from, name])?;
    let copy = world.model.get(from)?.copy();
    world.model.put(name, copy);
    Ok(())
}

/// `refresh CLONE [to SNAPSHOT | of VOLUME] [keep NAME]`: `of` says whose new snapshot it takes.
pub(crate) fn refresh(world: &mut World, words: &[String]) -> Result<(), String> {
    let name = word(words, 1, "a clone")?;
    let option = |key: &str| {
        let at = words.iter().position(|w| w == key)?;
        words.get(at + 1).map(String::as_str)
    };
    let mut command = vec!["refresh", name];
    option("to").into_iter().for_each(|to| command.extend(["--to", to]));
    option("keep").into_iter().for_each(|keep| command.extend(["--keep", keep]));
    let_go(world, name)?;
    world.change(&command)?;
    let from = match (option("to"), option("of")) {
        (Some(snapshot), None) => snapshot.to_owned(),
        (None, Some(volume)) => {
            // The one that the refresh before made goes with its last user.
            forget(world, &format!("{volume}@{name}-"))?;
            adopt(world, &format!("{volume}@{name}-"), volume)?
        }
        _ => return Err("to SNAPSHOT, or of VOLUME, is missing".to_owned()),
    };
    let fresh = world.model.get(&from)?.copy();
    if let Some(keep) = option("keep") {
        let former = world.model.get(name)?.clone();
        world.model.put(keep, former);
    }
    world.model.put(name, fresh);
    Ok(())
}

/// Takes the one snapshot that the program made by itself, with a name that begins so, into the
/// model; it holds what `volume` holds now.
pub(crate) fn adopt(world: &mut World, head: &str, volume: &str) -> Result<String, String> {
    let there: BTreeSet<_> = report::names(world.program()?)?.into_iter().collect();
    let known = world.model.names();
    let fresh: Vec<_> = there.difference(&known).filter(|n| n.starts_with(head)).collect();
    let [name] = fresh[..] else {
        return Err(format!("one new snapshot {head}... expected, found {fresh:?} in {there:?}"));
    };
    let contents = world.model.get_mut(volume)?;
    contents.written.clear();
    let copy = contents.copy();
    world.model.put(name, copy);
    Ok(name.clone())
}

/// Takes what the program has removed by itself out of the model: names that begin so.
pub(crate) fn forget(world: &mut World, head: &str) -> Result<(), String> {
    let there = report::names(world.program()?)?;
    let is_gone = |n: &String| n.starts_with(head) && !there.contains(n);
    for name in world.model.names().into_iter().filter(is_gone) {
        world.model.remove(&name)?;
    }
    Ok(())
}

/// Lets go of a volume; the server may take a moment to notice.
pub(crate) fn let_go(world: &mut World, name: &str) -> Result<(), String> {
    world.door()?.close(name)?;
    let begun = Instant::now();
    while report::opens(world.program()?, name)? > 0 {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err(format!("the server does not let go of {name}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// `destroy NAME...`
pub(crate) fn destroy(world: &mut World, words: &[String]) -> Result<(), String> {
    for name in &words[1..] {
        let_go(world, name)?;
    }
    let command: Vec<_> = words.iter().map(String::as_str).collect();
    world.change(&command)?;
    words.iter().skip(1).try_for_each(|name| world.model.remove(name).map(|_| ()))
}

/// `rename OLD NEW`
pub(crate) fn rename(world: &mut World, words: &[String]) -> Result<(), String> {
    let (old, new) = (word(words, 1, "a name")?, word(words, 2, "a new name")?);
    let_go(world, old)?;
    world.change(&["rename", old, new])?;
    let contents = world.model.remove(old)?;
    world.model.put(new, contents);
    Ok(())
}

/// `refuse WORD COMMAND...`: the command is refused, and what it says names the word.
pub(crate) fn refuse(world: &mut World, words: &[String]) -> Result<(), String> {
    let named = word(words, 1, "a word")?;
    let command: Vec<_> = words.iter().skip(2).map(String::as_str).collect();
    let said = world.program()?.refused(&command)?;
    said.contains(named).then_some(()).ok_or_else(|| format!("it does not name {named}: {said}"))
}
