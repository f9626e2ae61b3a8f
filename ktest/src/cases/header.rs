// SPDX-License-Identifier: MIT

//! What a case says about itself, in the first paragraph of comments after the licence:
//!
//! ```text
//! # title: a pool on virtio disks, from making it to taking it apart
//! # disks: 256M 512M:4096      sizes, with the logical block if it is not 512
//! # lossy: 64M 256M            more of them, whose power can be cut (`qemu::power`); implies alone
//! # forgetful: 64M 256M        the same, and flushes make nothing durable
//! # time: 60                   seconds that it may take on the plain kernel
//! # kernel: both               plain, debug or both
//! # memory: 512M               of the guest, if it is not the usual
//! # module: no                 it needs no rwsnap.ko
//! # alone                      it shares its boot with no other case
//! # full                       it runs in the full run only, or when it is named
//! ```

use crate::failure::{fail, Context, Result};
use crate::kernel::Kind;

/// The guest's memory, if a case does not say.
const MEMORY: u64 = 2 << 30;

/// What is behind a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Medium {
    /// A file.
    File,
    /// `rwsnap lossy`.
    Lossy,
    /// The same, and flushes make nothing durable.
    Forgetful,
}

/// A disk that a case wants; an empty one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Disk {
    /// What is behind it.
    pub(crate) medium: Medium,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its logical block.
    pub(crate) block_bytes: u32,
}

/// A case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    /// That of its file.
    pub(crate) name: String,
    /// What it shows, in a line.
    pub(crate) title: String,
    /// In the order in which it is given them.
    pub(crate) disks: Vec<Disk>,
    /// What it may take on the plain kernel.
    pub(crate) limit_s: u32,
    /// The kernels it is for.
    pub(crate) kinds: Vec<Kind>,
    /// The guest's.
    pub(crate) memory_bytes: u64,
    /// Whether it needs the module.
    pub(crate) module: bool,
    /// Whether no other case may run in the same boot.
    pub(crate) alone: bool,
    /// Whether it runs in the full run only.
    pub(crate) full: bool,
}

impl Case {
    /// Reads the header of a case.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut case = Self {
            name: name.to_owned(),
            title: String::new(),
            disks: Vec::new(),
            limit_s: 0,
            kinds: vec![Kind::Plain, Kind::Debug],
            memory_bytes: MEMORY,
            module: true,
            alone: false,
            full: false,
        };
        for line in paragraph(text) {
            case.take(line).context(format!("case {name}: {line:?}"))?;
        }
        match case.title.is_empty() || case.limit_s == 0 {
            true => fail(format!("case {name} does not say its title and its time")),
            false => Ok(case),
        }
    }

    fn take(&mut self, line: &str) -> Result {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match (key, value) {
            ("title", _) => self.title = value.to_owned(),
            ("disks", _) => self.wants(Medium::File, value)?,
            ("lossy", _) => self.wants(Medium::Lossy, value)?,
            ("forgetful", _) => self.wants(Medium::Forgetful, value)?,
            ("time", _) => match value.parse() {
                Ok(seconds) => self.limit_s = seconds,
                Err(_) => return fail("seconds are expected"),
            },
            ("kernel", "plain") => self.kinds = vec![Kind::Plain],
            ("kernel", "debug") => self.kinds = vec![Kind::Debug],
            ("kernel", "both") => {}
            ("memory", _) => self.memory_bytes = size(value)?,
            ("module", "no") => self.module = false,
            ("alone", "") => self.alone = true,
            ("full", "") => self.full = true,
            _ => return fail("this is nothing that a case can say"),
        }
        Ok(())
    }

    fn wants(&mut self, medium: Medium, sizes: &str) -> Result {
        for size in sizes.split_whitespace() {
            self.disks.push(disk(medium, size)?);
        }
        self.alone |= medium != Medium::File;
        Ok(())
    }
}

/// The lines of the first paragraph after the licence, without `# `.
fn paragraph(text: &str) -> impl Iterator<Item = &str> {
    let comments = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let after = comments.skip_while(|line| !line.is_empty()).skip(1);
    after.take_while(|line| !line.is_empty())
}

/// `256M`, `512M:4096`.
fn disk(medium: Medium, text: &str) -> Result<Disk> {
    let (bytes, block) = text.split_once(':').unwrap_or((text, "512"));
    match block.parse() {
        Ok(block_bytes @ (512 | 1024 | 2048 | 4096)) => {
            Ok(Disk { medium, bytes: size(bytes)?, block_bytes })
        }
        _ => fail(format!("{text}: the block is 512 to 4096")),
    }
}

/// `64K`, `512M`, `2G`.
fn size(text: &str) -> Result<u64> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return fail(format!("{text} is no size")),
    };
    match number.parse::<u64>() {
        Ok(number) if number > 0 && number < 1 << 20 => Ok(number << shift),
        _ => fail(format!("{text} is no size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read() {
        let text = "#!/bin/sh\n# SPDX-License-Identifier: MIT\n#\n# title: all: of it\n\
                    # disks: 256M 1G:4096\n# time: 60\n# kernel: debug\n# memory: 512M\n\
                    # module: no\n# alone\n# full\n#\n# prose: is not read\n\necho\n# time: 7\n";
        let case = Case::parse("some", text).unwrap();
        let disks = vec![
            Disk { medium: Medium::File, bytes: 256 << 20, block_bytes: 512 },
            Disk { medium: Medium::File, bytes: 1 << 30, block_bytes: 4096 },
        ];
        let wanted = Case {
            name: "some".into(),
            title: "all: of it".into(),
            disks,
            limit_s: 60,
            kinds: vec![Kind::Debug],
            memory_bytes: 512 << 20,
            module: false,
            alone: true,
            full: true,
        };
        assert_eq!(case, wanted);
    }

    #[test]
    fn disks_that_lose_their_power_are_alone() {
        let text = "# SPDX\n#\n# title: t\n# time: 5\n# lossy: 16M\n# disks: 64M\n";
        let case = Case::parse("some", text).unwrap();
        let media: Vec<_> = case.disks.iter().map(|disk| disk.medium).collect();
        assert_eq!(media, [Medium::Lossy, Medium::File]);
        assert!(case.alone);
    }

    #[test]
    fn what_is_wrong_in_a_header_is_refused() {
        let of = |lines: &str| {
            let text = format!("# SPDX\n#\n# title: t\n# time: 5\n{lines}\n");
            Case::parse("some", &text).map_err(|f| f.to_string())
        };
        assert!(of("").is_ok());
        for bad in ["# tme: 5", "# kernel: odd", "# disks: 5X", "# disks: 1M:7", "# full: yes"] {
            let said = of(bad).unwrap_err();
            assert!(said.contains("some"), "{said}");
        }
        assert!(Case::parse("some", "# SPDX\n#\n# title: t\n").is_err());
    }
}
