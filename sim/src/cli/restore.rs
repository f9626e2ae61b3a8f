// SPDX-License-Identifier: MIT

//! `rwsnap restore`: production becomes what a clone or a snapshot of it is, at once; the data
//! moves in the background.

use std::time::Duration;

use clap::ValueEnum;
use rwsnap_core::control::rows::KIND_SNAPSHOT;
use rwsnap_core::control::{
    self, EntityRow, Name, RestoreRow, FLAG_FORCE, FLAG_NO_UNDO, FLAG_OLD_FIRST,
};

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::output::{human, print_json, print_pairs};
use super::progress::bar;
use super::view::Restore as View;
use super::Global;

/// How often a restore is asked how it stands.
const GLANCE: Duration = Duration::from_millis(100);
/// How long one that is waited for may stand still before it is said why.
const PATIENCE: Duration = Duration::from_secs(2);

/// Restore a production volume from a clone or snapshot of it, at once
///
/// It reads as the clone or snapshot as soon as the command is done, and can be written; the data
/// is merged in the background. Unless --no-undo is given, a snapshot `before-restore-...` is taken
/// first, from which it can be restored again. A clone goes back with `refresh --to` instead.
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "rwsnap restore VOL --from CLONE|VOL@SNAP [--order ORDER] [--no-undo]
                      [--force] [--rate BYTES/s] [--wait]
       rwsnap restore VOL --status [--json]
       rwsnap restore VOL --rate BYTES/s [--wait] | --wait
       rwsnap restore VOL --cancel [--force] [--rate BYTES/s] [--wait]",
    after_help = "Examples:
  rwsnap restore prod --from prod@monday --wait
  rwsnap restore prod --from dev1 --order old-first --rate 50M/s
  rwsnap restore prod --status
  rwsnap restore prod --rate 0
  rwsnap restore prod --cancel --wait"
)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["from", "status", "rate", "cancel", "wait"])))]
#[command(group(clap::ArgGroup::new("begins").args(["from", "cancel"])))]
pub(super) struct Restore {
    /// The production volume
    #[arg(value_name = "VOL", value_parser = args::name)]
    volume: Name,
    /// The clone or snapshot to restore from
    #[arg(long, value_name = "CLONE|VOL@SNAP", value_parser = args::name)]
    from: Option<Name>,
    /// Which data is merged first: new-first takes the least I/O
    #[arg(long, value_enum, requires = "from")]
    order: Option<Order>,
    /// Take no snapshot before, from which the restore could be undone
    #[arg(long, requires = "from")]
    no_undo: bool,
    /// Cut off clients that have the volume open for writing; go on without room, and from a
    /// damaged source: what it has lost stays as production has it
    #[arg(long, requires = "begins")]
    force: bool,
    /// How fast the merge may be: a size a second, 0 (paused) or none; none unless given
    #[arg(long, value_name = "BYTES/s", value_parser = args::rate)]
    rate: Option<u64>,
    /// Wait until the data is merged, with a progress bar on a terminal
    #[arg(long)]
    wait: bool,
    /// Show how a restore stands
    #[arg(long, conflicts_with_all = ["from", "rate", "cancel", "wait"])]
    status: bool,
    /// Go back at once to what the volume was before the restore; the data is merged back in the
    /// background, also if the restore was paused
    #[arg(long, conflicts_with = "from")]
    cancel: bool,
    /// With --status: as JSON
    #[arg(long, requires = "status")]
    json: bool,
}

/// Which data is merged first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    NewFirst,
    OldFirst,
}

impl Restore {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if self.wait && self.rate == Some(0) {
            return Err(Failure::usage("--rate 0 pauses the merge: --wait would wait for ever"));
        }
        global.with(|pool| match (self.from, self.rate) {
            _ if self.status => self.status(pool),
            _ if self.cancel => self.cancel(global, pool),
            (Some(from), _) => self.begin(global, pool, from),
            (None, rate) => {
                if let Some(rate) = rate {
                    let mut set = command(control::Verb::RestoreRate, self.volume);
                    set.value = rate.into();
                    pool.call(&set, &[])?;
                }
                if self.wait {
                    self.wait(global, pool)?;
                }
                Ok(())
            }
        })
    }

    fn begin(&self, global: &Global, pool: &mut Connection, from: Name) -> Outcome {
        let before = self.snapshots(pool)?;
        let mut restore = command(control::Verb::Restore, self.volume);
        restore.other = from;
        restore.value = self.rate.unwrap_or(u64::MAX).into();
        let flag = |on: bool, flag| if on { flag } else { 0 };
        restore.flags = (flag(self.force, FLAG_FORCE)
            | flag(self.no_undo, FLAG_NO_UNDO)
            | flag(self.order == Some(Order::OldFirst), FLAG_OLD_FIRST))
        .into();
        pool.call(&restore, &[])?;
        for made in self.snapshots(pool)?.iter().filter(|name| !before.contains(name)) {
            let snapshot = made.text();
            if snapshot.contains("@before-restore") {
                let volume = self.volume.text();
                global.say(&format!("to undo: rwsnap restore {volume} --from {snapshot}"));
            }
        }
        self.merge(global, pool)
    }

    /// Begins the way back.
    fn cancel(&self, global: &Global, pool: &mut Connection) -> Outcome {
        let mut cancel = command(control::Verb::RestoreCancel, self.volume);
        cancel.value = self.rate.unwrap_or(u64::MAX).into();
        cancel.flags = if self.force { FLAG_FORCE } else { 0 }.into();
        pool.call(&cancel, &[])?;
        let volume = self.volume.text();
        global.say(&format!("`{volume}` is as it was before the restore"));
        self.merge(global, pool)
    }

    /// A merge has begun: waits for its end if asked to, else says what becomes of it.
    fn merge(&self, global: &Global, pool: &mut Connection) -> Outcome {
        let volume = self.volume.text();
        if self.wait {
            return self.wait(global, pool);
        }
        if self.rate == Some(0) {
            global.say(&format!("paused; it goes on with: rwsnap restore {volume} --rate none"));
        } else if !pool.is_driven() {
            global.say(
                "the data is merged when the pool is served or attached, or with restore --wait",
            );
        }
        Ok(())
    }

    /// The snapshots of the volume.
    fn snapshots(&self, pool: &mut Connection) -> Outcome<Vec<Name>> {
        let rows = pool.all::<EntityRow>(command(control::Verb::List, Name::default()))?;
        let own = rows.iter().filter(|row| {
            row.kind.get() == KIND_SNAPSHOT && row.name.split().0 == self.volume.bytes()
        });
        Ok(own.map(|row| row.name).collect())
    }

    /// Waits until the merge is over. If it stands still, says why: a pool at rest is left then,
    /// since nobody else can do anything about it meanwhile.
    fn wait(&self, global: &Global, pool: &mut Connection) -> Outcome {
        let Some(first) = status(pool, self.volume)? else { return Ok(()) };
        let bar = bar(global, self.volume.text(), first.total.get());
        let (mut done, mut still, mut told) = (0, Duration::ZERO, None);
        loop {
            pool.work(GLANCE)?;
            let Some(row) = status(pool, self.volume)? else { break };
            bar.set_length(row.total.get());
            bar.set_position(row.done.get());
            still = if row.done.get() == done { still + GLANCE } else { Duration::ZERO };
            done = row.done.get();
            let view = View::from(&row);
            if view.state == "finished" {
                break;
            }
            if still < PATIENCE || told == Some(view.state) {
                continue;
            }
            told = Some(view.state);
            let Some(why) = view.waits_for(&pool.pool()?) else { continue };
            let text = format!("the restore of `{}` waits for {why}", view.name);
            if !pool.is_driven() {
                return Err(Failure::new(text));
            }
            bar.suspend(|| global.say(&text));
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn status(&self, pool: &mut Connection) -> Outcome {
        let row = status(pool, self.volume)?;
        if self.json {
            return print_json(&row.as_ref().map(View::from));
        }
        let Some(row) = row else {
            let volume = self.volume.text();
            return super::output::print(&format!("no restore of `{volume}` is under way\n"));
        };
        let view = View::from(&row);
        let rate = match view.rate {
            None => "no limit".to_owned(),
            Some(0) => "paused".to_owned(),
            Some(rate) => format!("{}/s", human(rate)),
        };
        let waits = view.waits_for(&pool.pool()?);
        let mut pairs = vec![
            ("volume", view.name),
            ("from", view.from),
            ("state", view.state.to_owned()),
            ("merged", format!("{} of {}", human(view.done), human(view.total))),
            ("rate", rate),
            ("served since", format!("{} reads, {} writes", view.reads, view.writes)),
        ];
        pairs.extend(waits.map(|why| ("waits for", why)));
        print_pairs(&pairs)
    }
}

/// How the restore of a volume stands; none if there is none.
fn status(pool: &mut Connection, volume: Name) -> Outcome<Option<RestoreRow>> {
    let answer = pool.call(&command(control::Verb::RestoreStatus, volume), &[])?;
    Ok(answer.rows::<RestoreRow>().pop())
}
