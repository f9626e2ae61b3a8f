// SPDX-License-Identifier: MIT

//! Watches a boot: takes in what the guest reports, and ends a guest that hangs.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use super::power::Power;
use super::{disk, Life, Machine, Traces};
use crate::cases::plan::Boot;
use crate::command::{say, tail, text};
use crate::failure::{Context, Result};
use crate::report::ktap::{self, Lines, Order, Told};
use crate::report::{Ending, Outcome};

/// How long the guest may take to its first case, and from its last one to its end, on the plain
/// kernel.
const START: Duration = Duration::from_secs(90);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines of the console that are shown when a case went wrong.
const CONSOLE_LINES: usize = 60;

/// A guest that runs; it ends with this value.
struct Guest(Child);

impl Guest {
    fn start(qemu: &mut Command, folder: &Path) -> Result<Self> {
        let said = folder.join("qemu.log");
        let said = File::options().create(true).append(true).open(&said).about(&said)?;
        let child =
            qemu.stdout(Stdio::null()).stderr(said).spawn().context("qemu-system-x86_64")?;
        Ok(Self(child))
    }

    fn is_over(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a boot without cases reports in time.
pub(super) fn reports_within(qemu: &mut Command, traces: &Traces, time: Duration) -> Result<bool> {
    let mut guest = Guest::start(qemu, traces.ktap.parent().unwrap_or(Path::new(".")))?;
    let began = Instant::now();
    while began.elapsed() < time && !guest.is_over()? {
        sleep(PAUSE);
    }
    Ok(text(&traces.ktap)?.lines().any(|line| line.trim() == "1..0"))
}

/// The case that is under way.
struct Current {
    outcome: Outcome,
    began: Instant,
}

/// What has become of a boot so far.
struct Watch<'a> {
    machine: &'a Machine,
    boot: &'a Boot,
    current: Option<Current>,
    outcomes: Vec<Outcome>,
    /// When the guest started, or the last case ended.
    idle_since: Instant,
    /// What the guest asked for and did not get yet.
    orders: Vec<Order>,
}

impl Watch<'_> {
    fn take(&mut self, told: Told) {
        match (told, &mut self.current) {
            // The guest lives again, and so does the case.
            (Told::Begins(name), Some(current)) if current.outcome.name == name => {}
            (Told::Power(order), _) => self.orders.push(order),
            (Told::Begins(name), _) => {
                self.current = Some(Current { outcome: self.fresh(&name), began: Instant::now() });
            }
            (Told::Step { ok, title }, Some(current)) => {
                current.outcome.steps += 1;
                if !ok {
                    current.outcome.wrong.push(title);
                }
            }
            (Told::Remark(remark), Some(Current { outcome, .. })) => {
                if let Some(wrong) = outcome.wrong.last_mut() {
                    wrong.push_str(&format!("\n    {remark}"));
                }
            }
            (Told::Ends { name, ok, skipped }, _) => self.ends(&name, ok, skipped),
            _ => {}
        }
    }

    fn fresh(&self, name: &str) -> Outcome {
        Outcome {
            name: name.to_owned(),
            kernel: self.machine.kernel.kind.name(),
            ending: Ending::Passed,
            steps: 0,
            wrong: Vec::new(),
            took: Duration::ZERO,
        }
    }

    fn ends(&mut self, name: &str, ok: bool, skipped: Option<String>) {
        let ending = match (ok, skipped) {
            (_, Some(why)) => Ending::Skipped(why),
            (true, None) => Ending::Passed,
            (false, None) => Ending::Failed,
        };
        self.settle(name, ending);
    }

    /// The case under way, or one that never began, has ended so.
    fn settle(&mut self, name: &str, ending: Ending) {
        let current = self.current.take();
        let mut outcome = match current {
            Some(Current { mut outcome, began }) => {
                outcome.took = began.elapsed();
                outcome
            }
            None => self.fresh(name),
        };
        let silent = outcome.wrong.is_empty() && ending == Ending::Passed;
        outcome.ending = if silent || ending != Ending::Passed { ending } else { Ending::Failed };
        self.idle_since = Instant::now();
        outcome.tell();
        self.outcomes.push(outcome);
    }

    /// Whether it takes longer than it may.
    fn is_late(&self) -> bool {
        let slowness = self.machine.kernel.kind.slowness();
        match &self.current {
            None => self.idle_since.elapsed() > START * slowness,
            Some(current) => {
                let named = |c: &&crate::cases::Case| c.name == current.outcome.name;
                let limit_s = self.boot.cases.iter().find(named).map_or(0, |case| case.limit_s);
                current.began.elapsed() > Duration::from_secs(limit_s.into()) * slowness
            }
        }
    }

    /// The guest is gone: what was under way, or should have come next, ended so.
    fn cut(&mut self, ending: &Ending) {
        let done = |name: &str| self.outcomes.iter().any(|outcome| outcome.name == name);
        let next = match &self.current {
            Some(current) => Some(current.outcome.name.clone()),
            None => self.boot.cases.iter().map(|c| c.name.clone()).find(|name| !done(name)),
        };
        if let Some(name) = next {
            self.settle(&name, ending.clone());
        }
    }
}

/// What random numbers are drawn from: `KTEST_SEED`, or the time; guests that start together get
/// numbers of their own. It has nine digits at most: cases put a number of theirs behind it.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(1, |time| u64::from(time.subsec_nanos()));
    env::var("KTEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(now)
}

/// Boots, and returns how the cases ended that the guest came to.
pub(crate) fn run(machine: &Machine, boot: &Boot, folder: &Path) -> Result<Vec<Outcome>> {
    let traces = Machine::prepare(boot, folder)?;
    let mut life = Life { number: 1, seed: seed() };
    let mut power = Power::on(&boot.disks, folder, life.seed)?;
    if power.is_lossy() {
        let names: Vec<_> = boot.cases.iter().map(|case| case.name.as_str()).collect();
        say(format!("KTEST_SEED={} ({})", life.seed, names.join(" ")));
    }
    let mut guest = Guest::start(&mut machine.boot(boot, folder, &traces, life)?, folder)?;
    let mut report = File::open(&traces.ktap).about(&traces.ktap)?;
    let idle_since = Instant::now();
    let (current, outcomes, orders) = (None, Vec::new(), Vec::new());
    let mut watch = Watch { machine, boot, current, outcomes, idle_since, orders };
    let mut lines = Lines::default();
    loop {
        let over = guest.is_over()?;
        let mut bytes = Vec::new();
        report.read_to_end(&mut bytes)?;
        lines.feed(&bytes).iter().for_each(|line| watch.take(ktap::read(line)));
        for order in watch.orders.drain(..) {
            power.take(order)?;
        }
        if power.is_time()? {
            drop(guest);
            power.back()?;
            life.number += 1;
            lines.feed(b"\n");
            guest = Guest::start(&mut machine.boot(boot, folder, &traces, life)?, folder)?;
        } else if over {
            watch.cut(&Ending::Died);
            break;
        } else if watch.is_late() {
            watch.cut(&Ending::Hung);
            break;
        }
        sleep(PAUSE);
    }
    drop((guest, power));
    disk::remove(folder, &boot.disks);
    for outcome in watch.outcomes.iter().filter(|outcome| !outcome.is_well()) {
        show_console(outcome, &traces, folder)?;
    }
    Ok(watch.outcomes)
}

/// The console's last lines of a case that went wrong.
fn show_console(outcome: &Outcome, traces: &Traces, folder: &Path) -> Result {
    let console = text(&traces.console)?;
    let mark = |what: &str| console.find(&format!("ktest: case {} {what}", outcome.name));
    let end = mark("ends").unwrap_or(console.len());
    let part = &console[mark("begins").unwrap_or(0).min(end)..end];
    println!("---- console of {}; all of it: {}", outcome.name, traces.console.display());
    println!("{}", tail(part, CONSOLE_LINES));
    let qemu = text(&folder.join("qemu.log"))?;
    if !qemu.is_empty() {
        println!("---- QEMU said:\n{qemu}");
    }
    println!("----");
    Ok(())
}
