// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, as small values for control flow. The driver turns them into an errno, an
//! NBD error or a sentence; the sentence for a refused command is made from `control::Refusal`.

/// Why a request, a step or a command did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A device failed a read, a write or a flush.
    Io,
    /// The save volume has no slot left, or the clone is at its quota.
    NoSpace,
    /// Memory was not to be had.
    NoMemory,
    /// The request lies beyond the end of the volume or is not aligned.
    Range,
    /// The volume cannot be written.
    ReadOnly,
    /// The data is known to be lost (it could not be read when it had to be copied).
    Lost,
    /// The snapshot was given up, or the pool is fenced.
    Fenced,
    /// Metadata on the save volume does not match its checksum or contradicts itself.
    Corrupt,
    /// An invariant of the core does not hold. The number is the line that noticed.
    Bug(u32),
}

/// The fault for a broken invariant at this line.
#[macro_export]
macro_rules! bug {
    () => {
        $crate::fault::Fault::Bug(line!())
    };
}
