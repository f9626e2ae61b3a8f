// SPDX-License-Identifier: MIT

//! A pool that is served by this program, driven through its control socket.

use std::ops::{Add, Sub};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rwsnap_core::control::rows::{FLAG_HIDDEN, KIND_SNAPSHOT};
use rwsnap_core::control::{EntityRow, Item, Name, PoolRow, RestoreRow, Verb, FLAG_NO_UNDO};

use crate::cli::connect::{command, item, Connection};
use crate::cli::error::{Failure, Outcome};
use crate::nbd::client::Client;
use crate::nbd::Address;

use super::child::{output, Server};
use super::load::{uri, Whom};
use super::place::Place;

/// How long background work may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a pool is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// Bytes of the cache of metadata; the usual if none.
    pub cache: Option<u64>,
    /// What each flush of a device takes longer.
    pub flush_delay_ms: u32,
    /// Production was written meanwhile by others.
    pub trust: bool,
}

/// As a person would serve it.
pub const USUAL: How = How { cache: None, flush_delay_ms: 0, trust: false };

/// I/Os that the core had carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Reads of the save volume.
    pub save_reads: u64,
    /// Writes to it.
    pub save_writes: u64,
    /// Flushes of it.
    pub save_flushes: u64,
    /// Reads of production.
    pub reads: u64,
    /// Writes to it.
    pub writes: u64,
    /// Flushes of it.
    pub flushes: u64,
    /// Chunks that were copied.
    pub copied: u64,
    /// Checkpoints that ended.
    pub checkpoints: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        self.with(more, u64::saturating_add)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }
}

impl Counts {
    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            save_reads: f(self.save_reads, other.save_reads),
            save_writes: f(self.save_writes, other.save_writes),
            save_flushes: f(self.save_flushes, other.save_flushes),
            reads: f(self.reads, other.reads),
            writes: f(self.writes, other.writes),
            flushes: f(self.flushes, other.flushes),
            copied: f(self.copied, other.copied),
            checkpoints: f(self.checkpoints, other.checkpoints),
        }
    }

    fn of(row: &PoolRow) -> Self {
        let [save_reads, save_writes, save_flushes, reads, writes, flushes] =
            row.io.map(zerocopy::U64::get);
        let (copied, checkpoints) = (row.copied.get(), row.checkpoints.get());
        Self { save_reads, save_writes, save_flushes, reads, writes, flushes, copied, checkpoints }
    }

    /// All I/Os but the flushes.
    #[must_use]
    pub fn ios(self) -> u64 {
        self.save_reads + self.save_writes + self.reads + self.writes
    }

    /// All flushes.
    #[must_use]
    pub fn all_flushes(self) -> u64 {
        self.save_flushes + self.flushes
    }
}

/// Where a pool is.
#[derive(Clone, Debug)]
pub struct Files {
    /// The program.
    pub program: PathBuf,
    /// The save volume.
    pub save: PathBuf,
    /// The NBD socket.
    pub socket: PathBuf,
    /// The control socket.
    pub control: PathBuf,
}

/// A pool that is served.
pub struct Pool {
    files: Files,
    server: Server,
    link: Connection,
    /// From the start of the server to its ready line.
    pub started_in: Duration,
}

impl Files {
    /// Makes a pool with the production `prod`.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn create(
        program: &Path,
        place: &Place,
        name: &str,
        production: &Path,
        save_bytes: u64,
    ) -> Outcome<Self> {
        let files = Self {
            program: program.to_path_buf(),
            save: place.path(&format!("{name}.save")),
            socket: place.path(&format!("{name}.nbd")),
            control: place.path(&format!("{name}.control")),
        };
        // Full of data like all images: what a disk does with blocks that were never written is
        // not what is measured.
        place.filled(&format!("{name}.save"), save_bytes)?;
        let mut create = Command::new(program);
        create.args(["-q", "create", "--force", "--size"]).arg(save_bytes.to_string());
        output(create.arg("--production").arg(production).arg(&files.save))?;
        Ok(files)
    }

    /// Serves it.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn serve(&self, how: How) -> Outcome<Pool> {
        let mut serve = Command::new(&self.program);
        serve.arg("-q").arg("serve").arg(&self.save);
        serve.arg("--nbd").arg(format!("unix:{}", self.socket.display()));
        serve.arg("--control").arg(&self.control);
        if let Some(bytes) = how.cache {
            serve.arg("--cache").arg(bytes.to_string());
        }
        if how.trust {
            serve.args(["--trust", "prod"]);
        }
        if how.flush_delay_ms > 0 {
            serve.arg("--flush-delay").arg(how.flush_delay_ms.to_string());
        }
        let begun = Instant::now();
        let server = Server::with_line(serve, "rwsnap: ready")?;
        let started_in = begun.elapsed();
        let stream = UnixStream::connect(&self.control)
            .map_err(Failure::io(format!("connect to {}", self.control.display())))?;
        let link = Connection::server(stream, self.control.clone());
        Ok(Pool { files: self.clone(), server, link, started_in })
    }
}

/// A name that is known to be one.
fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap_or_default()
}

fn items(names: &[&str]) -> Outcome<Vec<Item>> {
    names.iter().map(|text| item(name(text), b"")).collect()
}

impl Pool {
    /// For the load.
    #[must_use]
    pub fn whom(&self, volume: &str) -> Whom {
        Whom::Server(uri(&self.files.socket, volume))
    }

    /// A client of a volume.
    ///
    /// # Errors
    ///
    /// It cannot connect.
    pub fn client(&self, volume: &str) -> Outcome<Client> {
        let address = Address::Unix(self.files.socket.clone());
        Client::connect(&address, volume).map_err(|e| Failure::new(e.to_string()))
    }

    /// Its server's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// What it says of itself.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn status(&mut self) -> Outcome<PoolRow> {
        self.link.pool()
    }

    /// I/Os until now.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn counts(&mut self) -> Outcome<Counts> {
        self.status().map(|row| Counts::of(&row))
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn snapshot(&mut self, snapshot: &str) -> Outcome {
        let verb = command(Verb::Snapshot, Name::default());
        self.link.call(&verb, &items(&[snapshot])?).map(drop)
    }

    /// Destroys a snapshot or clone.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn destroy(&mut self, gone: &str) -> Outcome {
        let verb = command(Verb::Destroy, Name::default());
        self.link.call(&verb, &items(&[gone])?).map(drop)
    }

    /// The names of all snapshots, newest first.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn snapshots(&mut self) -> Outcome<Vec<String>> {
        let mut rows = self.link.all::<EntityRow>(command(Verb::List, Name::default()))?;
        rows.retain(|row| row.kind.get() == KIND_SNAPSHOT && row.flags.get() & FLAG_HIDDEN == 0);
        rows.sort_by_key(|row| std::cmp::Reverse(row.epoch.get()));
        Ok(rows.iter().map(|row| row.name.text().to_owned()).collect())
    }

    /// Makes a clone.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn clone_of(&mut self, snapshot: &str, clone: &str) -> Outcome {
        let mut verb = command(Verb::Clone, name(snapshot));
        verb.other = name(clone);
        self.link.call(&verb, &[]).map(drop)
    }

    /// Refreshes a clone from a new snapshot, and keeps what it was under another name.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn refresh(&mut self, clone: &str, keep: &str) -> Outcome {
        self.link.call(&command(Verb::Refresh, name(clone)), &items(&[keep])?).map(drop)
    }

    /// Bytes of a volume.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub fn size(&mut self, volume: &str) -> Outcome<u64> {
        let rows = self.link.all::<EntityRow>(command(Verb::List, Name::default()))?;
        let mine = rows.iter().find(|row| row.name.text() == volume);
        mine.map(|row| row.size.get()).ok_or_else(|| Failure::new(format!("no {volume}")))
    }

    /// Writes to a volume, through the control socket.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn write(&mut self, volume: &str, at: u64, bytes: &[u8]) -> Outcome {
        self.link.write(name(volume), bytes, at)
    }

    /// Begins a restore of `prod`; a rate of 0 leaves the merge for later.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn restore(&mut self, from: &str, rate: u64, undo: bool) -> Outcome {
        let mut verb = command(Verb::Restore, name("prod"));
        verb.other = name(from);
        verb.value = rate.into();
        verb.flags = if undo { 0 } else { FLAG_NO_UNDO }.into();
        self.link.call(&verb, &[]).map(drop)
    }

    /// Lets the merge run at this rate.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn rate(&mut self, rate: u64) -> Outcome {
        let mut verb = command(Verb::RestoreRate, name("prod"));
        verb.value = rate.into();
        self.link.call(&verb, &[]).map(drop)
    }

    /// Takes the restore back; the way back is paused.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn cancel(&mut self) -> Outcome {
        let mut verb = command(Verb::RestoreCancel, name("prod"));
        verb.value = 0.into();
        self.link.call(&verb, &[]).map(drop)
    }

    /// How the restore stands; none if there is none.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn restoring(&mut self) -> Outcome<Option<RestoreRow>> {
        let answer = self.link.call(&command(Verb::RestoreStatus, name("prod")), &[])?;
        Ok(answer.rows::<RestoreRow>().pop())
    }

    /// Waits until the merge is over; the last that was seen of it.
    ///
    /// # Errors
    ///
    /// It is not over in time.
    pub fn merged(&mut self) -> Outcome<Option<RestoreRow>> {
        let (begun, mut last) = (Instant::now(), None);
        while let Some(row) = self.restoring()?.filter(|row| row.state.get() != 3) {
            last = Some(row);
            self.patience(begun, "the merge")?;
        }
        Ok(last)
    }

    /// Waits until nothing is swept and no checkpoint is written.
    ///
    /// # Errors
    ///
    /// That does not come in time.
    pub fn quiet(&mut self) -> Outcome {
        let begun = Instant::now();
        let mut calm = 0;
        while calm < 3 {
            let row = self.status()?;
            let busy = row.sweeping.get() != 0 || row.checkpointing.get() != 0;
            calm = if busy { 0 } else { calm + 1 };
            self.patience(begun, "background work")?;
        }
        Ok(())
    }

    fn patience(&self, begun: Instant, what: &str) -> Outcome {
        if begun.elapsed() > PATIENCE {
            let place = self.files.save.display();
            return Err(Failure::new(format!("{what} of {place} does not end")));
        }
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    /// Ends the server in order.
    ///
    /// # Errors
    ///
    /// It ends badly.
    pub fn stop(self) -> Outcome {
        let _ = self.link.close();
        self.server.stop()
    }

    /// Ends the server as a crash would.
    pub fn kill(self) {
        self.server.kill();
    }
}
