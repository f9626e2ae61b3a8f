// SPDX-License-Identifier: MIT

//! Sentences for commands that were refused: what was not done, what is in the way, each blocker
//! by name, and the way out.

use rwsnap_core::control::{NameRow, Refusal, Verb};
use rwsnap_core::engine::{VIEWS, VOLUMES};

/// A refused command, as far as a sentence needs it.
#[derive(Clone, Debug)]
pub struct Refused<'a> {
    /// The command.
    pub verb: Verb,
    /// Its object.
    pub name: &'a str,
    /// Its second object, or empty.
    pub other: &'a str,
    /// Why it was refused.
    pub refusal: Refusal,
    /// What the reply named.
    pub blockers: &'a [Blocker],
    /// The number that the reply carried.
    pub value: u64,
}

/// What is in the way of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Refusal,
}

impl Blocker {
    /// From a reply's row.
    #[must_use]
    pub fn new(row: &NameRow, refusal: Refusal) -> Self {
        let why = u16::try_from(row.frees.get()).ok().and_then(Refusal::from_number);
        let why = why.filter(|why| *why != Refusal::None).unwrap_or(refusal);
        Self { name: row.name.text().to_owned(), why }
    }
}

/// The way out of a refresh that is refused because the snapshot hangs on the clone.
const RING: &str = "Neither could ever be destroyed. Name another snapshot, or make a new clone \
                    of this one.";

impl Refused<'_> {
    /// The sentences: all reasons with all that they are about, then the ways out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut kinds = Vec::new();
        if self.blockers.is_empty() || self.blockers.iter().any(|b| b.why == self.refusal) {
            kinds.push(self.refusal);
        }
        for blocker in self.blockers {
            if !kinds.contains(&blocker.why) {
                kinds.push(blocker.why);
            }
        }
        let (mut reasons, mut ways): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for refusal in kinds {
            let mut blockers: Vec<Blocker> = Vec::new();
            for blocker in self.blockers.iter().filter(|b| b.why == refusal) {
                if !blocker.name.is_empty() && !blockers.contains(blocker) {
                    blockers.push(blocker.clone());
                }
            }
            let one = Refused { refusal, blockers: &blockers, ..self.clone() };
            reasons.push(one.reason());
            let way = one.way_out();
            if !way.is_empty() && !ways.contains(&way) {
                ways.push(way);
            }
        }
        let end: String = ways.iter().map(|way| format!("\n{way}")).collect();
        format!("{}: {}{end}", self.failed(), reasons.join("; "))
    }

    /// What was not done.
    #[must_use]
    pub fn failed(&self) -> String {
        format!("cannot {}", self.attempt())
    }

    /// What was tried.
    fn attempt(&self) -> String {
        let (name, other) = (self.name, self.other);
        match self.verb {
            Verb::Status => "read the status of the pool".to_owned(),
            Verb::List => "list the volumes of the pool".to_owned(),
            Verb::Info => format!("find `{name}`"),
            Verb::Properties => format!("read the properties of {}", self.object()),
            Verb::Snapshot => format!("take {}", quoted(name)),
            Verb::Clone => format!("make the clone `{other}` of `{name}`"),
            Verb::Refresh if other.is_empty() => format!("refresh `{name}`"),
            Verb::Refresh => format!("refresh `{name}` to `{other}`"),
            Verb::Restore => format!("restore `{name}` from `{other}`"),
            Verb::RestoreStatus => format!("tell how the restore of `{name}` stands"),
            Verb::RestoreRate => format!("set the rate of the restore of `{name}`"),
            Verb::RestoreCancel => format!("cancel the restore of `{name}`"),
            Verb::Destroy => format!("destroy {}", quoted(name)),
            Verb::Rename => format!("rename `{name}` to `{other}`"),
            Verb::Hold => format!("hold `{name}`"),
            Verb::Release => format!("release `{name}`"),
            Verb::Set => format!("set properties of {}", self.object()),
            Verb::Add => format!("add `{name}`"),
            Verb::Remove => format!("remove `{name}`"),
            Verb::Map => format!("read the map of `{name}`"),
            Verb::Diff => format!("compare `{name}` with `{other}`"),
            Verb::Events => "read the events of the pool".to_owned(),
            Verb::Stop => "stop the server".to_owned(),
            Verb::Exports => "list the exports".to_owned(),
            Verb::Read => format!("read `{name}`"),
            Verb::Write => format!("write to `{name}`"),
            Verb::Flush => format!("flush `{name}`"),
            Verb::AttachPool => "attach the pool".to_owned(),
            Verb::DetachPool => "detach the pool".to_owned(),
            Verb::Pools => "list the pools that are attached".to_owned(),
            Verb::Expose => format!("expose `{name}`"),
            Verb::Hide => format!("hide `{name}`"),
            Verb::Devices => "list the block devices of the pool".to_owned(),
        }
    }

    /// The object, which may be the pool itself.
    fn object(&self) -> String {
        if self.name.is_empty() {
            "the pool".to_owned()
        } else {
            format!("`{}`", self.name)
        }
    }

    /// The blockers by name, or what stands for them if the reply named none.
    fn who(&self, none: &str) -> String {
        if self.blockers.is_empty() {
            none.to_owned()
        } else {
            self.blockers.iter().map(|b| format!("`{}`", b.name)).collect::<Vec<_>>().join(", ")
        }
    }

    /// Why not.
    fn reason(&self) -> String {
        let name = self.name;
        match self.refusal {
            Refusal::None => "no reason was given".to_owned(),
            Refusal::Malformed => "the pool does not understand the command".to_owned(),
            Refusal::NotFound => self.not_found(),
            Refusal::Exists => format!("the name is taken by {}", self.who("another volume")),
            Refusal::BadName if self.verb == Verb::Rename => self.bad_rename(),
            Refusal::BadName => format!("a name is not one that can be given ({})", self.names()),
            Refusal::WrongKind => self.wrong_kind(),
            Refusal::Needed => self.needed(),
            Refusal::Held => format!("held: {}", self.who(&quoted(name))),
            Refusal::OpenForWriting => {
                use Verb::{Destroy, DetachPool, Hide, Remove};
                let any = matches!(self.verb, Destroy | Remove | DetachPool | Hide)
                    || self.blockers.iter().any(|b| b.name.contains('@'));
                let what = if any { "open" } else { "open for writing" };
                format!("clients have {} {what}", self.who(&quoted(name)))
            }
            Refusal::Restoring if self.verb == Verb::Destroy => {
                format!("needed by the restore that is under way: {}", self.who(&quoted(name)))
            }
            Refusal::Restoring => format!("{} is being restored", self.who("a volume")),
            Refusal::NotRestoring => format!("no restore of `{name}` is under way"),
            Refusal::LaterSnapshots => {
                format!("snapshots were taken since it began: {}", self.who("(not named)"))
            }
            Refusal::Unrelated if self.verb == Verb::Refresh => {
                format!("`{}` has another size than `{name}`", self.other)
            }
            Refusal::TooDeep => format!(
                "between {} and production lie as many clones of clones as there can be",
                self.who(&quoted(name))
            ),
            Refusal::Unrelated => {
                format!("`{name}` and `{}` do not go back to the same production", self.other)
            }
            Refusal::NoSpace if self.value != 0 => {
                format!("the save volume has no room for it: {} bytes are missing", self.value)
            }
            Refusal::NoSpace => "the save volume has no room for it".to_owned(),
            Refusal::NoMemory => "memory was not to be had".to_owned(),
            Refusal::TableFull => format!(
                "a pool has at most {VOLUMES} volumes, and at most {VIEWS} volumes and snapshots \
                 opened at once"
            ),
            Refusal::Fenced => "the pool is fenced after an I/O error or corruption".to_owned(),
            Refusal::Io => "a device failed or is missing; nothing is known to be lost".to_owned(),
            Refusal::BadProperty => self.bad_properties(),
            Refusal::Bug => format!("a mistake in rwsnap (line {})", self.value),
            Refusal::Busy => "what must be cut off is still doing I/O".to_owned(),
            Refusal::TooMany => "it is more at once than the pool's log has room for".to_owned(),
            Refusal::Lost if self.verb == Verb::RestoreCancel => format!(
                "what {} was before is not kept: the restore was begun with --no-undo, or the \
                 snapshot from before was given up for want of space",
                quoted(name)
            ),
            Refusal::Lost => {
                format!("the data of {} is lost: given up or damaged", self.who(&quoted(name)))
            }
            Refusal::Offline => format!(
                "{} is offline: its device is missing, or was changed while rwsnap did not look",
                self.who(&quoted(name))
            ),
        }
    }

    /// What is not there.
    fn not_found(&self) -> String {
        let name = self.name;
        match self.who("").as_str() {
            "" if self.verb == Verb::Hide => format!("{} has no block device", quoted(name)),
            "" if self.other.is_empty() => format!("there is no {}", quoted(name)),
            "" => format!("there is no `{name}`, or no `{}`", self.other),
            // A snapshot to be taken is named; what is missing is its volume.
            who if self.verb == Verb::Snapshot => {
                format!("there is no volume for {who}")
            }
            who => format!("there is no {who}"),
        }
    }

    /// Why properties cannot be set.
    fn bad_properties(&self) -> String {
        let why = |key: &str| match key {
            "save-limit" if self.value != 0 => {
                format!("this pool was made to grow to {} bytes at most", self.value)
            }
            "quota" | "reservation" => "no reservation is larger than the quota".to_owned(),
            "when-full" | "copy-span" | "save-limit" | "discard" | "low-water" => {
                "it cannot take that value".to_owned()
            }
            _ => "all properties of one object take 512 bytes at most".to_owned(),
        };
        match self.blockers {
            [] => "there is no such property, or it cannot take that value".to_owned(),
            all => {
                let one = |b: &Blocker| format!("`{}`: {}", b.name, why(&b.name));
                all.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// Why objects of this kind do not have the properties.
    fn misplaced(&self) -> String {
        let one = |b: &Blocker| match b.name.as_str() {
            "quota" | "reservation" => format!("`{}`: only clones have it", b.name),
            _ => format!("`{}`: only the pool has it", b.name),
        };
        self.blockers.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn names(&self) -> String {
        match self.other {
            "" => quoted(self.name),
            other => format!("`{}`, `{other}`", self.name),
        }
    }

    /// Why a name is not one for what bears the other.
    fn bad_rename(&self) -> String {
        match (self.name.split_once('@'), self.other.contains('@')) {
            (Some((volume, _)), _) => {
                format!("a snapshot stays with its volume: its name begins with `{volume}@`")
            }
            (None, true) => format!("`{}` is a volume, and cannot become a snapshot", self.name),
            (None, false) => format!("`{}` is not a name that can be given", self.other),
        }
    }

    fn needed(&self) -> String {
        if self.verb == Verb::Refresh {
            return format!("{} hangs on the clone itself", self.who("it"));
        }
        if self.verb == Verb::RestoreCancel {
            return format!("{} stands on the snapshot that would go with it", self.who("a clone"));
        }
        format!("needed by {}", self.who("others"))
    }

    /// What is to be restored, or from what, or both, are of the wrong kind.
    fn not_restored(&self) -> String {
        let is_blamed = |name| self.blockers.iter().any(|b| b.name == name);
        let mut reasons = Vec::new();
        if is_blamed(self.name) || !is_blamed(self.other) {
            reasons.push(format!(
                "`{}` is not a production volume; a clone goes back with `refresh --to`",
                self.name
            ));
        }
        if is_blamed(self.other) {
            reasons.push(format!("`{}` is neither a snapshot nor a clone", self.other));
        }
        reasons.join("; ")
    }

    /// What the verb works on.
    fn wrong_kind(&self) -> String {
        let name = quoted(self.name);
        match self.verb {
            Verb::Snapshot => "snapshots are taken of production volumes and clones".to_owned(),
            Verb::Clone => format!("{name} is not a snapshot; clones are made of snapshots"),
            Verb::Refresh => format!("{name} is not a clone; only clones are refreshed"),
            Verb::Restore if self.name == self.other => {
                format!("{name} cannot be restored from itself")
            }
            Verb::Restore => self.not_restored(),
            Verb::RestoreStatus | Verb::RestoreRate | Verb::RestoreCancel => {
                format!("{name} is not a production volume; only those are restored")
            }
            Verb::Destroy => {
                format!("not a snapshot or clone, but production: {}", self.who(&name))
            }
            Verb::Set if !self.blockers.is_empty() => self.misplaced(),
            Verb::Rename => "a volume cannot become a snapshot, nor the other way round".to_owned(),
            Verb::Hold | Verb::Release => format!("{name} is not a snapshot; those alone are held"),
            Verb::Remove => format!("{name} is not a production volume; `destroy` ends it"),
            Verb::Write => {
                format!("{name} is a snapshot and cannot be written; make a clone of it")
            }
            Verb::Expose | Verb::Hide => {
                format!("{name} is not a snapshot; volumes always have their block devices")
            }
            _ => format!("it does not work on {name}"),
        }
    }

    /// What to do.
    fn way_out(&self) -> String {
        let each = |verb: &str| {
            let lines = self.blockers.iter().map(|b| format!("`rwsnap {verb} {}`", b.name));
            lines.collect::<Vec<_>>().join(", ")
        };
        match (self.refusal, self.verb) {
            (Refusal::Held, _) if !self.blockers.is_empty() => {
                let what = if self.blockers.len() == 1 { "ends the hold" } else { "end the holds" };
                format!("{} {what}.", each("release"))
            }
            (Refusal::WrongKind, Verb::Destroy) if !self.blockers.is_empty() => {
                format!("{} takes it out of the pool; its data stays as it is.", each("remove"))
            }
            (Refusal::Needed, Verb::Destroy) if self.name.contains('@') => {
                "Destroy these first, or add -r to destroy them too, or --defer to have a snapshot \
                 go when they are gone."
                    .to_owned()
            }
            _ => self.usual_way_out().to_owned(),
        }
    }

    /// What to do, whatever the names are.
    fn usual_way_out(&self) -> &'static str {
        match (self.refusal, self.verb) {
            (Refusal::Malformed, _) => "Is its server, or module, of another version of rwsnap?",
            (Refusal::NotFound, _) => "`rwsnap list` shows what there is.",
            (Refusal::Exists, _) => "Choose another name, or rename or destroy what bears it.",
            (Refusal::BadName, _) => {
                "A name is 1 to 63 of A-Z a-z 0-9 . _ : - and does not begin with - or a dot; \
                 a snapshot is VOLUME@SNAPSHOT."
            }
            (Refusal::Needed, Verb::Destroy) => {
                "Destroy these first, or add -r to destroy them too."
            }
            (Refusal::LaterSnapshots | Refusal::Needed, Verb::RestoreCancel) => {
                "Destroy them first; or let the restore finish and restore from its \
                 before-restore snapshot."
            }
            (Refusal::TooDeep, _) => {
                "Clone a snapshot nearer to production; or `rwsnap export` it, and make a pool of \
                 the image."
            }
            (Refusal::NotRestoring, _) => "`rwsnap restore VOL --from CLONE|VOL@SNAP` begins one.",
            (Refusal::Unrelated, Verb::Restore) => {
                "Production is restored from its own snapshots, and from clones that go back to \
                 them: `rwsnap info` shows what one is based on."
            }
            (Refusal::Needed, Verb::Refresh) => RING,
            (Refusal::Needed, _) => "Destroy these first.",
            (Refusal::Held, _) => "`rwsnap release` ends a hold.",
            (Refusal::OpenForWriting, Verb::Refresh | Verb::Restore | Verb::RestoreCancel) => {
                "Unmount and disconnect them first, or add --force, which cuts them off."
            }
            (Refusal::OpenForWriting, _) => "Unmount and disconnect them first.",
            (Refusal::Restoring, _) => {
                "`rwsnap restore VOL --status` shows how it stands; let it finish, or --cancel it."
            }
            (Refusal::NoSpace, Verb::Restore) => {
                "Give the save volume more room, or destroy snapshots or clones; with --force it \
                 begins all the same, and gives up its undo if it has to."
            }
            (Refusal::NoSpace, _) => {
                "Destroy snapshots or clones, or give the save volume more room; `rwsnap status` \
                 shows how much there is."
            }
            _ => self.last_way_out(),
        }
    }

    /// What to do when the pool itself, a device or memory is in the way.
    fn last_way_out(&self) -> &'static str {
        match (self.refusal, self.verb) {
            (Refusal::TableFull, _) => "Destroy clones or close what is not needed.",
            (Refusal::NoMemory, _) => "Destroy snapshots or clones that are not needed.",
            (Refusal::Fenced, _) => {
                "Nothing more is written. End its server, or detach it, and run `rwsnap check` on \
                 the save volume."
            }
            (Refusal::Io, _) => "See the kernel's log, and `rwsnap status`.",
            (Refusal::BadProperty, _) if self.value != 0 => {
                "For more, `rwsnap create --grow-limit SIZE` makes a new pool."
            }
            (Refusal::BadProperty, _) => {
                "`rwsnap get NAME` shows the properties; `rwsnap set --help` what they can be."
            }
            (Refusal::Bug, _) => "Nothing was changed. Please report it with the line.",
            (Refusal::Busy, _) => "Try again.",
            (Refusal::TooMany, _) => "Do it in several steps.",
            (Refusal::Lost, Verb::RestoreCancel) => {
                "Let it finish; then restore from another snapshot or clone, if there is one."
            }
            (Refusal::Lost, Verb::Restore) => {
                "`rwsnap info` says which. From a damaged one --force restores all but what is \
                 lost, and `rwsnap export --skip-lost` reads it out. One that was given up can \
                 only be destroyed."
            }
            (Refusal::Lost, _) => {
                "`rwsnap info` says which. `rwsnap export --skip-lost` reads out what a damaged \
                 one still has. One that was given up can only be destroyed."
            }
            (Refusal::Offline, _) => {
                "`rwsnap serve SAVE --production NAME=PATH` (or attach) says where it is; serve's \
                 --trust NAME uses it although it was changed."
            }
            _ => "",
        }
    }
}

/// A name in quotes, or words for none.
fn quoted(name: &str) -> String {
    if name.is_empty() {
        "what was named".to_owned()
    } else {
        name.split(' ').map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
