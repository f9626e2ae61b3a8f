// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The rows that replies carry.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Name;

macro_rules! row {
    ($(#[$doc:meta])* $name:ident, $bytes:literal {
        $($(#[$fdoc:meta])* $field:ident: $ty:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
        #[repr(C)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);

        impl $name {
            /// All zero.
            pub const ZERO: Self = zerocopy::transmute!([0u8; $bytes]);
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }
    };
}

/// `EntityRow::kind`: a production volume.
pub const KIND_PRODUCTION: u32 = 1;
/// `EntityRow::kind`: a clone.
pub const KIND_CLONE: u32 = 2;
/// `EntityRow::kind`: a snapshot.
pub const KIND_SNAPSHOT: u32 = 3;

/// `EntityRow::flags`: kept for others' sake alone, under a name that cannot be given.
pub const FLAG_HIDDEN: u32 = 1;
/// `EntityRow::flags`: held.
pub const FLAG_HELD: u32 = 2;
/// `EntityRow::flags`: goes when its last user is gone.
pub const FLAG_DEFERRED: u32 = 4;
/// `EntityRow::flags`: given up for want of space; it cannot be read.
pub const FLAG_GIVEN_UP: u32 = 8;
/// `EntityRow::flags`: some of its data could not be read when it had to be copied.
pub const FLAG_DAMAGED: u32 = 16;
/// `EntityRow::flags`: being restored.
pub const FLAG_RESTORING: u32 = 32;
/// `EntityRow::flags`: its device is missing or was changed behind rwsnap's back.
pub const FLAG_OFFLINE: u32 = 64;

row!(
    /// A volume or snapshot.
    EntityRow, 464 {
        /// Its number.
        id: U32,
        /// For a snapshot, the volume it is named after.
        owner: U32,
        /// For a clone, the snapshot it is based on; else 0.
        base: U32,
        /// `KIND_*`.
        kind: U32,
        /// `FLAG_*`.
        flags: U32,
        /// For a snapshot, its epoch; else the epoch of the newest snapshot.
        epoch: U32,
        /// The map its data belongs to.
        map: U32,
        /// Clients that have it open; those that write in the high 16 bits.
        opens: U32,
        /// UUID.
        uuid: [u8; 16],
        /// Full name.
        name: Name,
        /// Full name of the base (clones), else empty.
        origin: Name,
        /// Bytes.
        size: U64,
        /// Bytes of the save volume: of a snapshot, those that it alone holds and that its end
        /// would free; of a volume, all that its map holds, for its snapshots too.
        used: U64,
        /// Bytes of it that lie in the save volume, shared or not. For snapshots both are those of
        /// the last count (`FLAG_COUNT`) and what was copied since.
        refer: U64,
        /// When it was made: ns since 1970.
        created_ns: U64,
        /// Bytes, 0 for none (clones).
        quota: U64,
        /// Bytes, 0 for none (clones).
        reservation: U64,
        /// Number of the moment it was taken at together with others, else 0.
        group: U64,
        /// Reads and writes served since the pool was opened.
        reads: U64,
        /// As `reads`.
        writes: U64,
        /// For production: the driver's device number.
        device: U64,
        /// Zero.
        reserved: [u8; 80],
    }
);

/// `NameRow::frees` of a dry run: it would not go now, but with its last user.
pub const FREES_LATER: u64 = u64::MAX;

row!(
    /// A name: a blocker, or an object that a dry run would destroy.
    NameRow, 136 {
        /// Full name.
        name: Name,
        /// Dry run: bytes that its end would free, or `FREES_LATER`. Refusal: the number of the one
        /// that it is the reason for, or 0 for that of the reply.
        frees: U64,
    }
);

row!(
    /// A property.
    PropertyRow, 320 {
        /// Key.
        key: Name,
        /// Value, padded with zeros.
        value: [u8; 192],
    }
);

/// `RunRow::place`: in place, on the production device at `at`.
pub const PLACE_IN_PLACE: u32 = 1;
/// `RunRow::place`: in slots of the save volume from `at` on.
pub const PLACE_SLOT: u32 = 2;
/// `RunRow::place`: reads as zeros.
pub const PLACE_ZERO: u32 = 3;
/// `RunRow::place`: lost.
pub const PLACE_LOST: u32 = 4;

/// `RunRow::flags`: the volume's own bit is set: new data of a clone, copied old data of
/// production.
pub const RUN_BIT: u32 = 1;
/// `RunRow::flags`: what is read comes from the base (clones).
pub const RUN_BASE: u32 = 2;
/// `RunRow::flags`: settled (restoring production).
pub const RUN_SETTLED: u32 = 4;
/// `RunRow::flags`: written since the restore began: M's bit (restoring production).
pub const RUN_RESTORE_NEW: u32 = 8;
/// `RunRow::flags`: still to be merged home (restoring production).
pub const RUN_UNSETTLED: u32 = 16;

row!(
    /// A run of consecutive chunks that are alike.
    RunRow, 48 {
        /// First chunk.
        chunk: U64,
        /// How many.
        count: U64,
        /// First slot, or first byte in place.
        at: U64,
        /// Production: the first slot of the old data that the newest snapshot reads; `u64::MAX`
        /// for none.
        old: U64,
        /// `PLACE_*`.
        place: U32,
        /// `RUN_*`.
        flags: U32,
        /// The epoch of the record found, or 0.
        epoch: U32,
        /// The map of the record found, or of production.
        map: U32,
    }
);

row!(
    /// A restore.
    RestoreRow, 384 {
        /// Production.
        name: Name,
        /// What it is restored from.
        from: Name,
        /// Bytes that are to be merged, as far as known.
        total: U64,
        /// Bytes merged.
        done: U64,
        /// Bytes a second; `u64::MAX` for no limit, 0 for paused.
        rate: U64,
        /// When it began: ns since 1970.
        started_ns: U64,
        /// Foreground reads served since then.
        reads: U64,
        /// Foreground writes served since then.
        writes: U64,
        /// 1 if old data goes first.
        old_first: U32,
        /// Chunks that had to go round again.
        retried: U32,
        /// 0 merging, 1 paused, 2 waiting for space, 3 finished.
        state: U32,
        /// Zero.
        reserved: [u8; 68],
    }
);

row!(
    /// The pool.
    PoolRow, 384 {
        /// UUID.
        uuid: [u8; 16],
        /// Name, padded with zeros.
        label: [u8; 64],
        /// Bytes in a chunk.
        chunk: U32,
        /// Bytes in a logical block.
        block: U32,
        /// 0 grow, 1 oldest, 2 stall, 3 fail.
        when_full: U32,
        /// Bytes that a first write copies.
        copy_span: U32,
        /// Slots in the save volume.
        slots: U64,
        /// Of them in use.
        slots_used: U64,
        /// Of them reserved for clones and restores.
        slots_reserved: U64,
        /// Metadata pages.
        pages: U64,
        /// Of them in use.
        pages_used: U64,
        /// Records in the map on disk.
        records: U64,
        /// Records in memory, not yet in the map.
        delta: U64,
        /// Blocks of the log.
        log_blocks: U64,
        /// Of them in use.
        log_used: U64,
        /// Generation of the superblock.
        generation: U64,
        /// Bytes of the save volume.
        save_bytes: U64,
        /// Bytes it may grow to.
        save_limit: U64,
        /// Volumes and snapshots.
        entities: U32,
        /// 0 sound, else a fault: the pool is fenced.
        fenced: U32,
        /// 1 if a sweep is freeing slots in the background.
        sweeping: U32,
        /// 1 if a checkpoint is being written.
        checkpointing: U32,
        /// First writes (chunks copied) since the pool was opened.
        copied: U64,
        /// Steps given out since then: reads, writes and flushes of the save volume, then of
        /// production; without those of notes.
        io: [U64; 6],
        /// Log records written since then.
        log_records: U64,
        /// Checkpoints finished since then.
        checkpoints: U64,
        /// Number of the last event.
        events: U64,
        /// Discards of production chunks not copied yet: 0 ignored, 1 copied first.
        discard: U32,
        /// Percent of slots below which room is made; 0 for never.
        low_water: U32,
        /// 1 if the save volume is full, and writes or a restore's merge wait for slots.
        full: U32,
        /// Steps given out for notes: when nothing happens, a record of the log names what is
        /// durable. That takes a write and a flush, whenever the clock wants it.
        notes: U64,
        /// Zero.
        reserved: [u8; 76],
    }
);

row!(
    /// An event.
    EventRow, 168 {
        /// Its number; they have no gaps unless events were lost.
        number: U64,
        /// When: ns since 1970.
        time_ns: U64,
        /// 1 low water, 2 full, 3 grown, 4 given up, 5 fenced, 6 damaged, 7 restored, 8 swept.
        kind: U32,
        /// What the kind says: a fault, a line.
        detail: U32,
        /// The object, or empty for the pool.
        name: Name,
        /// What the kind says: bytes.
        value: U64,
        /// Zero.
        reserved: [u8; 8],
    }
);

row!(
    /// A pool that the module has attached.
    PoolAtRow, 464 {
        /// Its UUID.
        uuid: [u8; 16],
        /// Its name; may be empty.
        label: Name,
        /// The save volume's device number, major and minor.
        device: [U32; 2],
        /// The path that the save volume was attached by, padded with zeros and cut if longer.
        path: [u8; 256],
        /// Block devices that are open.
        open: U32,
        /// Block devices.
        devices: U32,
        /// Zero.
        reserved: [u8; 48],
    }
);

row!(
    /// A block device of the module.
    DeviceRow, 192 {
        /// The volume or snapshot.
        name: Name,
        /// The name in `/dev`, padded with zeros.
        device: [u8; 32],
        /// Device number, major and minor.
        number: [U32; 2],
        /// Openers.
        open: U32,
        /// 1 if it cannot be written.
        read_only: U32,
        /// `KIND_*`.
        kind: U32,
        /// Zero.
        reserved: [u8; 12],
    }
);
