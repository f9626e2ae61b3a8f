// SPDX-License-Identifier: MIT

//! Scenario files: a step a line, words apart by blanks, `#` begins a comment.

/// A line of a scenario.
pub(crate) struct Step {
    /// Its number, from 1.
    pub(crate) line: usize,
    /// Its words; never empty.
    pub(crate) words: Vec<String>,
}

/// A scenario.
pub(crate) struct Script {
    /// In order.
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// Takes a scenario's text apart.
    pub(crate) fn new(text: &str) -> Self {
        let mut steps = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or("");
            let words: Vec<_> = code.split_whitespace().map(str::to_owned).collect();
            if !words.is_empty() {
                steps.push(Step { line: n + 1, words });
            }
        }
        Self { steps }
    }
}

/// A number of bytes: `512`, `64K`, `16M`, `1G`.
pub(crate) fn size(word: &str) -> Result<u64, String> {
    let (digits, unit) = match word.char_indices().last() {
        Some((at, 'K')) => (&word[..at], 1 << 10),
        Some((at, 'M')) => (&word[..at], 1 << 20),
        Some((at, 'G')) => (&word[..at], 1 << 30),
        _ => (word, 1),
    };
    digits.parse::<u64>().map(|n| n * unit).map_err(|e| format!("`{word}` is no size: {e}"))
}

/// The word at this place, or what is missing.
pub(crate) fn word<'a>(words: &'a [String], at: usize, what: &str) -> Result<&'a str, String> {
    words.get(at).map(String::as_str).ok_or_else(|| format!("{what} is missing"))
}
