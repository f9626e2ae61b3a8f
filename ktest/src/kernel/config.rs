// SPDX-License-Identifier: MIT

//! Configurations: what is asked for, laid over what kconfig began with, and whether it was kept.

use std::collections::BTreeMap;
use std::fs;

use super::Kind;
use crate::failure::{Context, Result};
use crate::places;

/// Options by name, without `CONFIG_`; one that is not set has the value `n`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads a `.config` or a part of one.
    pub(crate) fn parse(text: &str) -> Self {
        let unset = |line: &str| {
            let name = line.strip_prefix("# CONFIG_")?.strip_suffix(" is not set")?;
            Some((name.to_owned(), "n".to_owned()))
        };
        let set = |line: &str| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Self(text.lines().map(str::trim).filter_map(|l| unset(l).or_else(|| set(l))).collect())
    }

    /// What this project asks for.
    pub(crate) fn wanted(kind: Kind) -> Result<Self> {
        let read = |kind: Kind| {
            let path = places::ktest().join(format!("config/{}.config", kind.name()));
            Ok::<_, crate::failure::Failure>(Self::parse(&fs::read_to_string(&path).about(&path)?))
        };
        let mut wanted = read(Kind::Plain)?;
        if kind == Kind::Debug {
            wanted.lay_over(&read(Kind::Debug)?);
        }
        Ok(wanted)
    }

    /// Takes over what the other one says; where both speak, the other one wins.
    pub(crate) fn lay_over(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    /// As kconfig reads it.
    pub(crate) fn text(&self) -> String {
        let line = |(name, value): (&String, &String)| match value.as_str() {
            "n" => format!("# CONFIG_{name} is not set\n"),
            value => format!("CONFIG_{name}={value}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// What was asked for and is not so in the configuration that came out, one a line.
    pub(crate) fn lost_in(&self, result: &Self) -> Vec<String> {
        let differs = |(name, asked): (&String, &String)| {
            let got = result.0.get(name).map_or("n", String::as_str);
            (got != asked).then(|| format!("CONFIG_{name}={asked} became {got}"))
        };
        self.0.iter().filter_map(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_lie_over_each_other() {
        let mut config =
            Config::parse("CONFIG_A=y\n# CONFIG_B is not set\n# a word\n\nCONFIG_S=\"x=y\"\n");
        config.lay_over(&Config::parse("CONFIG_B=m\nCONFIG_A=n\nCONFIG_N=17\n"));
        let text = "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_N=17\nCONFIG_S=\"x=y\"\n";
        assert_eq!(config.text(), text);
        assert_eq!(Config::parse(text), config);
    }

    #[test]
    fn what_kconfig_dropped_is_named() {
        let asked = Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\n");
        let got = Config::parse("CONFIG_A=y\nCONFIG_B=y\nCONFIG_D=y\n");
        assert_eq!(asked.lost_in(&got), ["CONFIG_B=m became y"]);
        assert!(asked.lost_in(&asked).is_empty());
    }

    #[test]
    fn both_kernels_ask_for_what_the_module_and_the_cases_need() {
        let (plain, debug) = (Config::wanted(Kind::Plain), Config::wanted(Kind::Debug));
        let (plain, debug) = (plain.unwrap().0, debug.unwrap().0);
        for name in ["RUST", "MODULES", "SYSVIPC", "VIRTIO_CONSOLE", "BLK_ERROR_INJECTION"] {
            assert_eq!(plain[name], "y", "{name}");
            assert_eq!(debug[name], "y", "{name}");
        }
        assert!(!plain.contains_key("KASAN"));
        for name in ["KASAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "RUST_DEBUG_ASSERTIONS"] {
            assert_eq!(debug[name], "y", "{name}");
        }
    }
}
