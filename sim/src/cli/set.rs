// SPDX-License-Identifier: MIT

//! `rwsnap set`: properties of a volume, a snapshot or the pool.

use rwsnap_core::control::{self, Name, ITEMS_MAX};

use super::args;
use super::connect::{command, item};
use super::error::{Failure, Outcome};
use super::get::object;
use super::view::WHEN_FULL;
use super::Global;

/// Set properties of a volume, a snapshot, or the pool; an empty value removes one
///
/// Of clones: quota=SIZE and reservation=SIZE (0: none). Of the pool: when-full=grow, oldest, stall
/// or fail, copy-span=SIZE, save-limit=SIZE, discard=ignore or copy, low-water=PERCENT (of slots
/// left, below which room is made; 0: never). All other keys are yours.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap set dev1 quota=10G reservation=1G
  rwsnap set pool when-full=oldest
  rwsnap set prod@monday backup:state=done")]
pub(super) struct Set {
    /// The volume or snapshot; for the pool itself, its name or `pool`
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// Properties
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = args::assignment)]
    properties: Vec<(String, String)>,
}

impl Set {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if self.properties.len() > ITEMS_MAX {
            return Err(Failure::usage(format!("at most {ITEMS_MAX} properties at once")));
        }
        let mut items = Vec::new();
        for (key, value) in &self.properties {
            let name = args::name(key).map_err(Failure::usage)?;
            items.push(item(name, normal(key, value)?.as_bytes())?);
        }
        global.with(|pool| {
            let object = object(pool, self.name)?;
            pool.call(&command(control::Verb::Set, object), &items).map(drop)
        })
    }
}

/// Sizes as plain bytes, which is what the core reads.
fn normal(key: &str, value: &str) -> Outcome<String> {
    let failed = |why: String| Failure::usage(format!("{key}: {why}"));
    match key {
        _ if value.is_empty() => Ok(String::new()),
        "quota" | "reservation" | "save-limit" => {
            args::size(value).map(|n| n.to_string()).map_err(failed)
        }
        "copy-span" => args::copy_span(value).map(|n| n.to_string()).map_err(failed),
        "when-full" if !WHEN_FULL.contains(&value) => {
            Err(failed(format!("`{value}` is none of {}", WHEN_FULL.join(", "))))
        }
        "discard" if !["ignore", "copy"].contains(&value) => {
            Err(failed(format!("`{value}` is neither ignore nor copy")))
        }
        "low-water" if value.parse::<u32>().map_or(true, |n| n > 50) => {
            Err(failed(format!("`{value}` is not a percentage from 0 to 50")))
        }
        _ => Ok(value.to_owned()),
    }
}
