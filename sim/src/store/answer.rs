// SPDX-License-Identifier: MIT

//! The replies to commands, taken apart.

use rwsnap_core::control::{NameRow, Refusal, Reply, MAGIC, NAMES_MAX, VERSION};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A reply, taken apart.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub reply: Reply,
    rows: Vec<u8>,
}

impl Answer {
    /// Takes the bytes of a reply apart; `None` if they make no sense.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (reply, rows) = Reply::read_from_prefix(bytes).ok()?;
        let wanted = reply.count.get().checked_mul(reply.row_bytes.get())?;
        let fits = rows.len() >= usize::try_from(wanted).ok()?;
        let known = reply.magic.get() == MAGIC && reply.version.get() == VERSION;
        (fits && known).then(|| Self { reply, rows: rows.to_vec() })
    }

    /// The rows. Those of a later version may be longer: what is not known is left out.
    pub fn rows<T: FromBytes + KnownLayout + Immutable>(&self) -> Vec<T> {
        let count = usize::try_from(self.reply.count.get()).unwrap_or(0);
        let width = usize::try_from(self.reply.row_bytes.get()).unwrap_or(0).max(1);
        let each = self.rows.chunks(width).take(count);
        each.filter_map(|row| T::read_from_prefix(row).ok().map(|(row, _)| row)).collect()
    }

    /// Of the names of a refusal or dry run: how many there was no room for.
    #[must_use]
    pub fn more_names(&self) -> u64 {
        let full = usize::try_from(self.reply.count.get()).is_ok_and(|n| n >= NAMES_MAX);
        let names = usize::try_from(self.reply.row_bytes.get()) == Ok(size_of::<NameRow>());
        if full && names {
            self.reply.value.get()
        } else {
            0
        }
    }

    /// The rows as bytes, if that is what they are.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.rows
    }

    /// Why it was refused; `Refusal::None` if it was done.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::from_number(self.reply.refusal.get()).unwrap_or(Refusal::Malformed)
    }
}
