// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The verbs and the reasons for refusing them.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }

        impl $name {
            /// The one that bears this number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered!(
    /// What a command does. Numbers never change their meaning.
    Verb {
        /// The pool: one `PoolRow`.
        Status = 1,
        /// All volumes and snapshots, from entity `value` on: `EntityRow`s.
        List = 2,
        /// One volume or snapshot, `name`: one `EntityRow`.
        Info = 3,
        /// Properties of `name`: `PropertyRow`s.
        Properties = 4,
        /// Takes the snapshots named by the items, all at one moment.
        Snapshot = 5,
        /// Makes the clone `other` of the snapshot `name`.
        Clone = 6,
        /// Refreshes the clone `name` to the snapshot `other`, or to a new one of its base's volume
        /// if `other` is empty; the one item, if there, names a clone that keeps the former state.
        Refresh = 7,
        /// Restores the production `name` from the clone or snapshot `other`; `value` is the rate
        /// in bytes a second, `u64::MAX` for none set.
        Restore = 8,
        /// How the restore of `name` stands: one `RestoreRow`, none if there is none.
        RestoreStatus = 9,
        /// Sets the rate of the restore of `name` to `value` bytes a second (0: paused).
        RestoreRate = 10,
        /// Cancels the restore of `name`: what it was before is merged back, at the rate `value` as
        /// for `Restore`.
        RestoreCancel = 11,
        /// Destroys the objects named by the items; with DRY_RUN, `NameRow`s of what would go.
        Destroy = 12,
        /// Gives `name` the name `other`.
        Rename = 13,
        /// Holds the snapshot `name`: it cannot be destroyed.
        Hold = 14,
        /// Ends a hold.
        Release = 15,
        /// Sets properties of `name` (the pool if empty) to the items' values; empty removes.
        Set = 16,
        /// Adds a production volume `name`; `value` is the driver's device number, `limit` bytes.
        Add = 17,
        /// Removes the production volume `name` from the pool; its data stays.
        Remove = 18,
        /// The chunks of `name` from chunk `value` on: `RunRow`s.
        Map = 19,
        /// The chunks in which `name` and `other` may differ, from chunk `value` on: `RunRow`s.
        Diff = 20,
        /// Events since number `value`: `EventRow`s.
        Events = 21,
        /// Server: ends it cleanly.
        Stop = 256,
        /// Server: the URIs it serves: `PropertyRow`s of export and URI.
        Exports = 257,
        /// Server: reads `limit` bytes of `name` from byte `value`: rows are bytes.
        Read = 258,
        /// Server: writes the bytes behind the command (`limit` of them) to `name` at byte `value`.
        Write = 259,
        /// Server: flushes the volume `name`.
        Flush = 260,
        /// Module: attaches a pool. Behind the command stand `limit` bytes, strings that each end
        /// with a zero byte: the path of the save volume, then pairs of the name of a production
        /// (empty for the only one) and its path, for those that moved; with an empty path, it is
        /// used although it was changed. One `PoolAtRow`.
        AttachPool = 512,
        /// Module: detaches the pool. Refused as long as a device of it is open.
        DetachPool = 513,
        /// Module: the pools that are attached, from the `value`th on: `PoolAtRow`s. Needs no pool.
        Pools = 514,
        /// Module: makes a block device of the snapshot `name`: one `DeviceRow`.
        Expose = 515,
        /// Module: takes the block device of the snapshot `name` away.
        Hide = 516,
        /// Module: the block devices of the pool, from entity `value` on: `DeviceRow`s.
        Devices = 517,
    }
);

numbered!(
    /// Why a command was not done. Nothing was changed.
    Refusal {
        /// It was done.
        None = 0,
        /// The command's bytes, version, flags or numbers make no sense.
        Malformed = 1,
        /// There is no volume or snapshot of that name.
        NotFound = 2,
        /// The name is taken; the row names who has it.
        Exists = 3,
        /// The name has characters that names must not have, or is too long.
        BadName = 4,
        /// The verb does not work on an object of this kind.
        WrongKind = 5,
        /// It has clones, snapshots or a restore that need it; the rows name them.
        Needed = 6,
        /// It is held.
        Held = 7,
        /// Clients have it open for writing; the rows name it. FORCE cuts them off.
        OpenForWriting = 8,
        /// A restore is under way.
        Restoring = 9,
        /// No restore is under way.
        NotRestoring = 10,
        /// The restore cannot be cancelled: later snapshots exist; the rows name them.
        LaterSnapshots = 11,
        /// The two objects have no production volume in common.
        Unrelated = 12,
        /// The save volume has no room for it.
        NoSpace = 13,
        /// Memory was not to be had.
        NoMemory = 14,
        /// The pool is fenced after an I/O error or corruption.
        Fenced = 15,
        /// A device failed; nothing is known to be lost.
        Io = 16,
        /// No such property, or a value that it cannot take; `Reply::value` is the largest one of a
        /// limit, else 0.
        BadProperty = 17,
        /// The core's own invariant failed; `Reply::value` is the line.
        Bug = 18,
        /// The clients that must be cut off are still doing I/O: try again.
        Busy = 19,
        /// The data of the snapshot is lost: it was given up or damaged.
        Lost = 20,
        /// It is more at once than the pool's log has room for.
        TooMany = 21,
        /// The pool has as many volumes, or as many are opened, as there can be, 2048 of each; or
        /// all that its catalogue can list, 63,488 volumes and snapshots.
        TableFull = 22,
        /// The production's device is missing, or was changed behind rwsnap's back; the row names
        /// it.
        Offline = 23,
        /// So many clones of clones lie between the snapshot and production that no more can stand
        /// on it.
        TooDeep = 24,
    }
);
