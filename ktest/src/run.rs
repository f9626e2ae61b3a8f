// SPDX-License-Identifier: MIT

//! A run: kernel, module, initramfs, then boot after boot until each case has its outcome.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::cases::plan::{boots, Boot};
use crate::cases::{self, Case, Disk, Medium};
use crate::command::{command, output, quietly, say};
use crate::failure::{fail, Context, Result};
use crate::initramfs::{self, Built};
use crate::kernel::Kind;
use crate::machine;
use crate::module;
use crate::places;
use crate::qemu::accel::{self, Accel};
use crate::qemu::{watch, Machine};
use crate::report::{self, Ending, Outcome};

/// The project's programs for the guest, built for release, and their places there.
fn programs() -> Result<Vec<(PathBuf, &'static str)>> {
    let claims = claims()?;
    let mut build = command("cargo")?;
    build.args(["build", "--release", "--locked", "--quiet"]);
    build.args(["-p", "rwsnap-replay", "-p", "rwsnap-witness"]);
    quietly(build.current_dir(places::project()))?;
    let built = |name: &str| places::target().join("release").join(name);
    Ok(vec![
        (built("rwsnap"), "usr/bin/rwsnap"),
        (built("replay-log"), "usr/bin/replay-log"),
        (built("witness"), "usr/bin/witness"),
        (claims, "claims"),
    ])
}

/// The binary that carries out the scenarios of the claims; Cargo gives it a name of its own. The
/// `rwsnap` program is built along.
fn claims() -> Result<PathBuf> {
    let mut build = command("cargo")?;
    build.args(["test", "--release", "--locked", "--quiet", "-p", "rwsnap", "--test", "claims"]);
    build.args(["--no-run", "--message-format", "json"]);
    let said = output(build.current_dir(places::project()))?;
    let named = |line: &&str| line.contains(r#""name":"claims""#);
    let file = said.lines().rev().filter(named).find_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        rest.split_once('"').map(|(path, _)| PathBuf::from(path))
    });
    match file {
        Some(file) => Ok(file),
        None => fail("Cargo does not say where the test `claims` lies"),
    }
}

/// Builds all that a boot needs.
pub(crate) fn ready(kind: Kind, with_module: bool) -> Result<Machine> {
    let kernel = machine::setup(kind)?;
    let module = if with_module { Some(module::build(&kernel)?) } else { None };
    let built = Built { programs: programs()?, module: module.clone() };
    let initramfs = places::work(kind, "")?.join("initramfs");
    initramfs::pack(&kernel, &built, &initramfs)?;
    let words = String::new();
    let mut machine = Machine { kernel, module, initramfs, accel: Accel::Tcg, words };
    accel::choose(&mut machine)?;
    let (release, accel) = (&machine.kernel.release, machine.accel.name());
    say(format!("Linux {release} ({}), {accel}", kind.name()));
    Ok(machine)
}

/// Runs cases, and says how they went; true if all is well.
pub(crate) fn cases(kinds: &[Kind], named: &[String], full: bool, jobs: usize) -> Result<bool> {
    let mut outcomes = Vec::new();
    for kind in kinds {
        let chosen = cases::chosen(*kind, named, full)?;
        if chosen.is_empty() {
            continue;
        }
        let machine = ready(*kind, chosen.iter().any(|case| case.module))?;
        if let Some(module) = machine.module.as_ref().filter(|_| named.is_empty()) {
            outcomes.push(examined(&machine, module));
        }
        outcomes.extend(all(&machine, chosen, jobs)?);
    }
    if outcomes.is_empty() {
        return fail("none of these cases is for this kernel");
    }
    println!("{}", report::table(&outcomes));
    Ok(outcomes.iter().all(Outcome::is_well))
}

/// What the module's file tells, as a case of its own.
fn examined(machine: &Machine, module: &Path) -> Outcome {
    let wrong = module::examine(&machine.kernel, module);
    let outcome = Outcome {
        name: "(module)".to_owned(),
        kernel: machine.kernel.kind.name(),
        ending: if wrong.is_empty() { Ending::Passed } else { Ending::Failed },
        steps: module::CHECKS,
        wrong,
        took: Duration::ZERO,
    };
    outcome.tell();
    outcome
}

/// Boots that wait, the next one last, and how many folders they have had.
struct Queue {
    waiting: Vec<Boot>,
    number: u32,
}

impl Queue {
    fn next(&mut self) -> Option<(Boot, u32)> {
        let boot = self.waiting.pop()?;
        self.number += 1;
        Some((boot, self.number))
    }
}

/// Boots until there is an outcome of each, `jobs` guests at a time; a guest that is lost costs one
/// case at most.
fn all(machine: &Machine, chosen: Vec<Case>, jobs: usize) -> Result<Vec<Outcome>> {
    let mut waiting = boots(chosen, jobs);
    waiting.reverse();
    let queue = Mutex::new(Queue { waiting, number: 0 });
    thread::scope(|scope| {
        let guests: Vec<_> = (0..jobs).map(|_| scope.spawn(|| some(machine, &queue))).collect();
        let mut outcomes = Vec::new();
        for guest in guests {
            match guest.join() {
                Ok(had) => outcomes.extend(had?),
                Err(_) => return fail("a thread that watches a guest panicked"),
            }
        }
        outcomes.sort_by(|a: &Outcome, b| a.name.cmp(&b.name));
        Ok(outcomes)
    })
}

/// Boots one after another, as long as some wait.
fn some(machine: &Machine, queue: &Mutex<Queue>) -> Result<Vec<Outcome>> {
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outcomes: Vec<Outcome> = Vec::new();
    loop {
        let Some((boot, number)) = lock().next() else { return Ok(outcomes) };
        let folder = places::work(machine.kernel.kind, &format!("boot{number}"))?;
        let had = watch::run(machine, &boot, &folder)?;
        let lost = had.last().is_some_and(|o| matches!(o.ending, Ending::Hung | Ending::Died));
        let rest = |case: &Case| had.iter().all(|outcome| outcome.name != case.name);
        let rest: Vec<Case> = boot.cases.into_iter().filter(rest).collect();
        if had.is_empty() || (!rest.is_empty() && !lost) {
            return fail(format!("the guest reported nothing; see {}", folder.display()));
        }
        outcomes.extend(had);
        if !rest.is_empty() {
            lock().waiting.extend(boots(rest, 1));
        }
    }
}

/// A prompt in the guest; the module is there if it can be built.
pub(crate) fn shell(kind: Kind) -> Result<bool> {
    let machine = ready(kind, module::is_there())?;
    let disks = vec![Disk { medium: Medium::File, bytes: 1 << 30, block_bytes: 512 }; 4];
    let boot = Boot { cases: Vec::new(), disks, memory_bytes: 2 << 30 };
    let mut qemu = machine.shell(&boot, &places::work(kind, "shell")?)?;
    say("disks are vda to vdd; `poweroff -f` or Ctrl-A X ends it");
    Ok(qemu.stdin(Stdio::inherit()).status().context("qemu-system-x86_64")?.success())
}

/// The cases with what they show.
pub(crate) fn list() -> Result<bool> {
    for case in cases::all()? {
        let kinds: Vec<_> = case.kinds.iter().map(|kind| kind.name()).collect();
        let full = if case.full { ", full run" } else { "" };
        println!("{:12} {} ({}{full})", case.name, case.title, kinds.join(", "));
    }
    Ok(true)
}
