// SPDX-License-Identifier: MIT

//! The columns of `list`: title, text and order of each.

use std::cmp::Ordering;

use clap::ValueEnum;
use rwsnap_core::control::rows::KIND_PRODUCTION;
use rwsnap_core::control::{DeviceRow, EntityRow};

use crate::cli::output::{bytes, moment};
use crate::cli::{ties, view};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Column {
    /// Name
    Name,
    /// production, clone or snapshot
    Type,
    /// Bytes of the save volume that it alone holds
    Used,
    /// Bytes of it that lie in the save volume, shared or not
    Refer,
    /// Bytes
    Size,
    /// The snapshot that a clone is based on
    Origin,
    /// The snapshots that it is based on, the nearest first
    Bases,
    /// What cannot be without it: snapshots of a volume, what is based on a snapshot
    NeededBy,
    /// When it was made
    Created,
    /// held, deferred, given-up, damaged, restoring, offline
    Flags,
    /// UUID
    Uuid,
    /// Its number in the catalogue
    Id,
    /// Bytes that a clone may use
    Quota,
    /// Bytes that are kept for a clone
    Reservation,
    /// Epoch of a snapshot
    Epoch,
    /// The map that its data belongs to
    Map,
    /// Clients that have it open
    Opens,
    /// Of them those that write
    Writers,
    /// Reads served
    Reads,
    /// Writes served
    Writes,
    /// The moment it was taken at together with others
    Group,
    /// Device number of a production
    Device,
    /// Its block device, if the kernel module has the pool
    Node,
}

/// What a row is seen among.
#[derive(Clone, Copy, Default)]
pub(super) struct Among<'a> {
    /// All volumes and snapshots of the pool.
    pub(super) rows: &'a [EntityRow],
    /// Its block devices.
    pub(super) devices: &'a [DeviceRow],
}

/// What stands in a cell.
enum Cell {
    Text(String),
    Bytes(u64),
    /// Bytes of which 0 means none.
    Limit(u64),
    Count(u64),
    Moment(u64),
}

impl Column {
    fn cell(self, row: &EntityRow, all: Among<'_>) -> Cell {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (opens, writers) = view::opens(row);
        match self {
            Self::Name => text(row.name.text()),
            Self::Type => text(view::kind(row)),
            Self::Used => Cell::Bytes(row.used.get()),
            Self::Refer => Cell::Bytes(row.refer.get()),
            Self::Size => Cell::Bytes(row.size.get()),
            Self::Origin => text(row.origin.text()),
            Self::Bases => text(&ties::bases(row, all.rows).join(",")),
            Self::NeededBy => text(&ties::needed_by(row, all.rows).join(",")),
            Self::Created => Cell::Moment(row.created_ns.get()),
            Self::Flags => text(&view::flags(row).join(",")),
            Self::Uuid => text(&uuid::Uuid::from_bytes(row.uuid).to_string()),
            Self::Id => Cell::Count(row.id.get().into()),
            Self::Quota => Cell::Limit(row.quota.get()),
            Self::Reservation => Cell::Limit(row.reservation.get()),
            Self::Epoch => Cell::Count(row.epoch.get().into()),
            Self::Map => Cell::Count(row.map.get().into()),
            Self::Opens => Cell::Count(opens.into()),
            Self::Writers => Cell::Count(writers.into()),
            Self::Reads => Cell::Count(row.reads.get()),
            Self::Writes => Cell::Count(row.writes.get()),
            Self::Group => Cell::Limit(row.group.get()),
            Self::Device if row.kind.get() == KIND_PRODUCTION => Cell::Count(row.device.get()),
            Self::Device => text(""),
            Self::Node => text(&view::node_of(row.name.text(), all.devices).unwrap_or_default()),
        }
    }

    /// The title; `>` before those of numbers.
    pub(super) fn title(self) -> String {
        let name = self.to_possible_value().map(|v| v.get_name().to_uppercase());
        let is_text = matches!(
            self.cell(&EntityRow::default(), Among::default()),
            Cell::Text(_) | Cell::Moment(_)
        );
        format!("{}{}", if is_text { "" } else { ">" }, name.unwrap_or_default())
    }

    /// What stands in a row.
    pub(super) fn text(self, row: &EntityRow, all: Among<'_>, exact: bool) -> String {
        match self.cell(row, all) {
            Cell::Text(text) if text.is_empty() => "-".to_owned(),
            Cell::Text(text) => text,
            Cell::Bytes(n) => bytes(n, exact),
            Cell::Limit(0) if !exact => "-".to_owned(),
            Cell::Limit(n) if self == Self::Group => n.to_string(),
            Cell::Limit(n) => bytes(n, exact),
            Cell::Count(n) => n.to_string(),
            Cell::Moment(ns) if exact => (ns / 1_000_000_000).to_string(),
            Cell::Moment(ns) => moment(ns),
        }
    }

    /// Which of two rows comes first.
    pub(super) fn compare(self, a: &EntityRow, b: &EntityRow, all: Among<'_>) -> Ordering {
        let number = |cell: Cell| match cell {
            Cell::Text(_) => 0,
            Cell::Bytes(n) | Cell::Limit(n) | Cell::Count(n) | Cell::Moment(n) => n,
        };
        match (self.cell(a, all), self.cell(b, all)) {
            (Cell::Text(a), Cell::Text(b)) => a.cmp(&b),
            (a, b) => number(a).cmp(&number(b)),
        }
    }
}
