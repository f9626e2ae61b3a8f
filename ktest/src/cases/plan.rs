// SPDX-License-Identifier: MIT

//! Which cases share a boot, and which of its disks each of them gets.
//!
//! A boot takes longer than many cases, so that those run together that want the same memory. The
//! boot has as many disks of each kind as the greediest of its cases; a case finds them wiped.

use std::cmp::Reverse;

use super::Case;
use crate::cases::header::Disk;

/// A boot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// One after another.
    pub(crate) cases: Vec<Case>,
    /// In the order in which the guest sees them.
    pub(crate) disks: Vec<Disk>,
    /// The guest's memory.
    pub(crate) memory_bytes: u64,
}

impl Boot {
    /// A boot for these cases.
    fn of(cases: Vec<Case>) -> Self {
        let mut disks: Vec<Disk> = Vec::new();
        for case in &cases {
            for kind in &case.disks {
                let count = |disks: &[Disk]| disks.iter().filter(|d| *d == kind).count();
                let lacking = count(&case.disks).saturating_sub(count(&disks));
                disks.extend(vec![*kind; lacking]);
            }
        }
        let memory_bytes = cases.iter().map(|case| case.memory_bytes).max().unwrap_or_default();
        Self { cases, disks, memory_bytes }
    }

    /// The devices that a case gets, as the guest names them.
    fn devices(&self, case: &Case) -> Vec<String> {
        let mut free: Vec<_> = self.disks.iter().zip(device_names()).collect();
        let mut take = |wanted: &Disk| {
            let at = free.iter().position(|(disk, _)| *disk == wanted)?;
            Some(free.remove(at).1)
        };
        case.disks.iter().filter_map(&mut take).collect()
    }

    /// What the guest is told to run: `basic:vda,vdb;load:`.
    pub(crate) fn told(&self) -> String {
        let one = |case: &Case| format!("{}:{}", case.name, self.devices(case).join(","));
        self.cases.iter().map(one).collect::<Vec<_>>().join(";")
    }
}

/// `vda` to `vdz`.
fn device_names() -> impl Iterator<Item = String> {
    ('a'..='z').map(|letter| format!("vd{letter}"))
}

/// The boots for these cases: those that share one, what needs no module
/// first; then those that have one alone.
pub(crate) fn boots(mut cases: Vec<Case>) -> Vec<Boot> {
    cases.sort_by_key(|case| {
        (case.alone, Reverse(case.memory_bytes), case.module, case.name.clone())
    });
    let mut groups: Vec<Vec<Case>> = Vec::new();
    for case in cases {
        let fits = |group: &&mut Vec<Case>| {
            let together = |other: &Case| !other.alone && other.memory_bytes == case.memory_bytes;
            !case.alone && group.iter().all(together)
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups.into_iter().map(Boot::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, more: &str) -> Case {
        let text = format!("# SPDX\n#\n# title: t\n# time: 9\n{more}\n");
        Case::parse(name, &text).unwrap()
    }

    #[test]
    fn cases_share_a_boot_and_its_disks() {
        let cases = vec![
            case("b", "# disks: 1M 2M 1M"),
            case("a", "# disks: 2M:4096 1M"),
            case("alone", "# alone"),
            case("first", "# module: no"),
            case("small", "# memory: 512M"),
        ];
        let boots = boots(cases);
        let told: Vec<String> = boots.iter().map(Boot::told).collect();
        assert_eq!(told, ["first:;a:vda,vdb;b:vdb,vdd,vdc", "small:", "alone:"]);
        assert_eq!(boots[0].disks.len(), 4);
        assert_eq!(boots[1].memory_bytes, 512 << 20);
    }
}
