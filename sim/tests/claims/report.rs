// SPDX-License-Identifier: MIT

//! What the program reports of itself, read from its JSON.

use serde_json::Value;

use super::program::Program;

/// A command's JSON.
fn json(program: &Program, args: &[&str]) -> Result<Value, String> {
    let text = program.ok(args)?;
    serde_json::from_str(&text).map_err(|e| format!("{args:?}: {e}: {text}"))
}

/// A number of a JSON object.
fn number(value: &Value, key: &str) -> Result<u64, String> {
    value[key].as_u64().ok_or_else(|| format!("no number `{key}` in {value}"))
}

/// Names of all volumes and snapshots.
pub(crate) fn names(program: &Program) -> Result<Vec<String>, String> {
    let said = program.ok(&["list", "-H", "-o", "name"])?;
    Ok(said.lines().map(|line| line.trim().to_owned()).collect())
}

/// Slots in use.
pub(crate) fn slots(program: &Program) -> Result<u64, String> {
    number(&json(program, &["status", "--json"])?, "slots_used")
}

/// Bytes in a chunk.
pub(crate) fn chunk(program: &Program) -> Result<u64, String> {
    number(&json(program, &["status", "--json"])?, "chunk")
}

/// The pool's UUID.
pub(crate) fn uuid(program: &Program) -> Result<String, String> {
    let status = json(program, &["status", "--json"])?;
    let uuid = status["uuid"].as_str().ok_or_else(|| format!("no `uuid` in {status}"))?;
    Ok(uuid.to_owned())
}

/// The public identity of a volume.
pub(crate) fn identity(program: &Program, name: &str) -> Result<String, String> {
    let info = json(program, &["info", name, "--json"])?;
    Ok(format!("{} {}", info["name"], info["uuid"]))
}

/// Clients that have it open.
pub(crate) fn opens(program: &Program, name: &str) -> Result<u64, String> {
    number(&json(program, &["info", name, "--json"])?, "opens")
}

/// How far a restore is.
pub(crate) struct Progress {
    /// Bytes to be merged, as far as known.
    pub(crate) total: u64,
    /// Bytes merged.
    pub(crate) done: u64,
    /// Foreground reads and writes served meanwhile.
    pub(crate) served: (u64, u64),
}

/// How the restore of a volume stands; `None` if there is none any more.
pub(crate) fn restore(program: &Program, name: &str) -> Result<Option<Progress>, String> {
    let value = json(program, &["restore", name, "--status", "--json"])?;
    if value.is_null() || value["state"] == "finished" {
        return Ok(None);
    }
    let served = (number(&value, "reads")?, number(&value, "writes")?);
    Ok(Some(Progress { total: number(&value, "total")?, done: number(&value, "done")?, served }))
}

/// A run of chunks that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First chunk.
    pub(crate) chunk: u64,
    /// How many.
    pub(crate) count: u64,
    /// First slot, or first byte in place.
    pub(crate) at: u64,
    /// Where they read from, and what else holds: words as scenarios use them.
    pub(crate) words: Vec<String>,
}

impl Run {
    /// Whether the word holds of the run; `!word`: whether it does not.
    pub(crate) fn is(&self, word: &str) -> bool {
        match word.strip_prefix('!') {
            Some(word) => !self.is(word),
            None => self.words.iter().any(|w| w == word),
        }
    }
}

/// The map of a volume or snapshot: runs in order, without gaps, in chunks of `chunk` bytes.
pub(crate) fn map(program: &Program, name: &str, chunk: u64) -> Result<Vec<Run>, String> {
    let value = json(program, &["map", name, "--json"])?;
    let rows = value.as_array().ok_or_else(|| format!("no runs in {value}"))?;
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let flags = row["flags"].as_array().map_or(&[][..], Vec::as_slice);
        let words = [&row["place"]].into_iter().chain(flags).filter_map(Value::as_str);
        let words = words.map(|w| w.trim_start_matches("restore-").to_owned()).collect();
        let (offset, length) = (number(row, "offset")?, number(row, "length")?);
        let at = row["at"].as_u64().unwrap_or(0);
        let run = Run { chunk: offset / chunk, count: length.div_ceil(chunk), at, words };
        let end = runs.last().map_or(0, |last| last.chunk + last.count);
        if run.chunk != end {
            return Err(format!("the map of {name} has a gap or an overlap before {run:?}"));
        }
        runs.push(run);
    }
    Ok(runs)
}
