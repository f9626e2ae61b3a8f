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

/// The boots for these cases, of which `jobs` run at a time: those that may take longest first.
/// Cases that share a boot are divided among the guests; what needs no module comes first in each.
pub(crate) fn boots(mut cases: Vec<Case>, jobs: usize) -> Vec<Boot> {
    cases.sort_by_key(|case| (case.alone, Reverse(case.memory_bytes), Reverse(case.limit_s)));
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
    let mut groups: Vec<_> = groups.into_iter().flat_map(|group| divided(group, jobs)).collect();
    for group in &mut groups {
        group.sort_by_key(|case| (case.module, case.name.clone()));
    }
    groups.sort_by_key(|group| Reverse(limit_s(group)));
    groups.into_iter().map(Boot::of).collect()
}

/// Each case, the longest first, goes to the group that has least to do.
fn divided(cases: Vec<Case>, count: usize) -> Vec<Vec<Case>> {
    let mut groups = vec![Vec::new(); count.clamp(1, cases.len().max(1))];
    for case in cases {
        if let Some(group) = groups.iter_mut().min_by_key(|group| limit_s(group)) {
            group.push(case);
        }
    }
    groups
}

/// What all of them may take.
fn limit_s(cases: &[Case]) -> u32 {
    cases.iter().map(|case| case.limit_s).sum()
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
        let boots = boots(cases, 1);
        let told: Vec<String> = boots.iter().map(Boot::told).collect();
        assert_eq!(told, ["first:;a:vda,vdb;b:vdb,vdd,vdc", "small:", "alone:"]);
        assert_eq!(boots[0].disks.len(), 4);
        assert_eq!(boots[1].memory_bytes, 512 << 20);
    }

    #[test]
    fn cases_are_divided_among_guests_by_the_time_that_they_may_take() {
        let cases = vec![
            case("a", "# time: 30"),
            case("b", "# time: 40"),
            case("c", "# time: 60"),
            case("d", "# time: 20"),
            case("long", "# time: 200\n# alone"),
        ];
        let told: Vec<String> = boots(cases, 2).iter().map(Boot::told).collect();
        assert_eq!(told, ["long:", "c:;d:", "a:;b:"]);
    }
}
