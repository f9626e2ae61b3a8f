// SPDX-License-Identifier: MIT

//! Kernel versions, compared as numbers.

use std::fmt;

/// `7.3.4`; a part that is not named is zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// The oldest that the module is made for.
pub(crate) const OLDEST: Version = Version { major: 7, minor: 3, patch: 0 };

impl Version {
    /// Reads `7.3` or `7.3.4`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.').map(str::parse);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        let patch = parts.next().unwrap_or(Ok(0)).ok()?;
        parts.next().is_none().then_some(Self { major, minor, patch })
    }

    /// Whether the module is made for it.
    pub(crate) fn fits(self) -> bool {
        self.major == OLDEST.major && self >= OLDEST
    }

    /// What the first lines of a kernel's Makefile say.
    pub(crate) fn of_makefile(text: &str) -> Option<Self> {
        let number = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim() == key).and_then(|(_, n)| n.trim().parse().ok())
        };
        let (major, minor) = (number("VERSION")?, number("PATCHLEVEL")?);
        Some(Self { major, minor, patch: number("SUBLEVEL")? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The newest of Debian's packages `linux-source-7.N` that fits.
pub(crate) fn newest(packages: &[String]) -> Option<&String> {
    let version = |p: &String| Version::parse(p.strip_prefix("linux-source-")?);
    let fitting = packages.iter().filter_map(|p| Some((version(p)?, p)));
    fitting.filter(|(v, _)| v.fits()).max().map(|(_, package)| package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let of = |text| Version::parse(text).unwrap();
        assert!(of("7.10") > of("7.9.12"));
        assert!(of("7.3").fits() && of("7.3.4").fits() && of("7.12.1").fits());
        assert!(!of("7.2.9").fits() && !of("6.99").fits() && !of("8.0").fits());
        assert_eq!(Version::parse("7"), None);
        assert_eq!(Version::parse("7.3-rc1"), None);
        assert_eq!(of("7.3").to_string(), "7.3.0");
    }

    #[test]
    fn a_makefile_names_its_version() {
        let text = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n";
        assert_eq!(Version::of_makefile(text), Version::parse("7.3.4"));
        assert_eq!(Version::of_makefile("VERSION = x\n"), None);
    }

    #[test]
    fn the_newest_package_that_fits_is_taken() {
        let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let some = named(&["linux-source", "linux-source-7.10", "linux-source-7.9"]);
        assert_eq!(newest(&some).map(String::as_str), Some("linux-source-7.10"));
        assert_eq!(newest(&named(&["linux-source-7.2", "linux-source-6.12"])), None);
    }
}
