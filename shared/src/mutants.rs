// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Planted bugs: each breaks one rule, so that the storm can be shown to notice. They exist only
//! under the feature `mutants`, which nothing that ships turns on.

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Rule 1: production is written before the save volume's flush.
    WriteBeforeFlush,
    /// Rule 2: a flush is given out while writes of its batch are under way.
    FlushBeforeWrites,
    /// Rule 3: recovery does not check the chain of hashes.
    NoChain,
    /// Rule 3: recovery does not check the sums of copied data.
    NoSums,
    /// Rule 3: a bad record below a durable position is cut in silence.
    CutDurable,
    /// Rule 4: a snapshot does not flush production.
    SnapshotNoFlush,
    /// Rule 4: a snapshot does not log the fresh records first.
    SnapshotNoPending,
    /// Rule 5: the settled mark does not wait for production's flush.
    SettleNoFlush,
    /// Rule 6: a freed slot is reused at once.
    ReuseAtOnce,
    /// Rule 6: a freed slot is reused while I/O on it is under way.
    ReuseInFlight,
    /// Rule 7: production goes on before the giving up is durable.
    GiveUpNotDurable,
    /// Rule 8: a failed flush is believed.
    BelieveFlush,
    /// Rule 9: a clone's records are logged before their data is durable.
    RecordBeforeData,
    /// Rule 10: the rest of a short chunk is not filled with zeros.
    StaleSlot,
    /// Rule 11: a checkpoint does not wait until its records are durable.
    CheckpointEarly,
    /// Rule 12: the superblock's older copies are overwritten before the newer two are durable.
    SuperblockEarly,
    /// The gate does not wait for readers in place.
    NoGate,
    /// The gate's bits are set before the record is durable.
    BitBeforeRecord,
    /// The merge settles chunks that were written since it read them.
    SettleWritten,
    /// A snapshot does not drain what passed before it.
    NoDrain,
    /// A task whose epoch has passed goes on.
    StaleEpoch,
    /// The opening that finds a production missing or changed forgets what it looked like.
    ForgetOffline,
    /// A production is written before it is durable that its fingerprint is void.
    PrintNotVoid,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::WriteBeforeFlush,
        Self::FlushBeforeWrites,
        Self::NoChain,
        Self::NoSums,
        Self::CutDurable,
        Self::SnapshotNoFlush,
        Self::SnapshotNoPending,
        Self::SettleNoFlush,
        Self::ReuseAtOnce,
        Self::ReuseInFlight,
        Self::GiveUpNotDurable,
        Self::BelieveFlush,
        Self::RecordBeforeData,
        Self::StaleSlot,
        Self::CheckpointEarly,
        Self::SuperblockEarly,
        Self::NoGate,
        Self::BitBeforeRecord,
        Self::SettleWritten,
        Self::NoDrain,
        Self::StaleEpoch,
        Self::ForgetOffline,
        Self::PrintNotVoid,
    ];
}
