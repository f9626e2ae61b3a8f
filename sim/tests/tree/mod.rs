// SPDX-License-Identifier: MIT

//! The project's files as text, and just enough of a reader of Rust to look at them.

use std::fs;
use std::path::Path;

/// A file of the project.
pub(crate) struct File {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl File {
    /// Whether comments begin with `//`.
    pub(crate) fn is_c_like(&self) -> bool {
        [".rs", ".c", ".h"].iter().any(|e| self.path.ends_with(e))
    }
}

/// Whether a file is one that a person of the project wrote as code.
pub(crate) fn is_source(file: &File) -> bool {
    let ends = [".rs", ".c", ".h", ".sh", ".py", ".toml", ".scn"];
    let names = ["Makefile", "Kbuild", ".ci/run"];
    ends.iter().any(|e| file.path.ends_with(e)) || names.contains(&file.path.as_str())
}

/// Every text file of the project but the lock files and the texts of the licences.
pub(crate) fn read_all() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("sim has a parent");
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the project can be read").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || ["target", "LICENSES", "Cargo.lock"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root).expect("it lies below").to_string_lossy();
                files.push(File { path: path.into_owned(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Whether `word` stands in the line by itself.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The words of the text that begin with `head` and go on: `I-7` for `I-`, a test's name for
/// `claim_`.
pub(crate) fn words_like(text: &str, head: &str) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices(head) {
        let tail: String = text[at + head.len()..].chars().take_while(|&c| part(c)).collect();
        let fits = if head.ends_with('-') { tail.parse::<u32>().is_ok() } else { !tail.is_empty() };
        if fits && !text[..at].chars().next_back().is_some_and(|c| part(c) || c == '-') {
            found.push(format!("{head}{tail}"));
        }
    }
    found
}

/// The source with comments, strings and characters blanked out, line for line. The reasons of
/// lints are strings too, but their keys stay.
pub(crate) fn code_only(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(&bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; `at` if none does.
fn skip(text: &[char], at: usize) -> usize {
    let is = |i: usize, s: &str| s.chars().enumerate().all(|(n, c)| text.get(i + n) == Some(&c));
    let to = |from: usize, s: &str| (from..text.len()).find(|&i| is(i, s)).unwrap_or(text.len());
    if is(at, "//") {
        return to(at, "\n");
    }
    if is(at, "/*") {
        return (to(at + 2, "*/") + 2).min(text.len());
    }
    let after_word = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    if text[at] == 'r' && (!after_word || text[at - 1] == 'b') {
        let hashes = text[at + 1..].iter().take_while(|&&c| c == '#').count();
        if text.get(at + 1 + hashes) == Some(&'"') {
            let close = format!("\"{}", "#".repeat(hashes));
            return (to(at + 2 + hashes, &close) + close.len()).min(text.len());
        }
    }
    match text[at] {
        '"' => quoted_end(text, at, '"'),
        // A character, not a lifetime: '\n', or 'x' closed after one.
        '\'' if text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&'\'') => {
            quoted_end(text, at, '\'')
        }
        _ => at,
    }
}

/// One past the quote that closes the one at `at`.
fn quoted_end(text: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < text.len() && text[i] != quote {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(text.len())
}

/// Each function of code without comments and strings: name, first line, lines.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        if !has_word(line, "fn") {
            continue;
        }
        let rest = line.split_once("fn ").map_or("", |(_, rest)| rest);
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        if let Some(last) = body_end(&lines, n) {
            found.push((name, n + 1, last - n + 1));
        }
    }
    found
}

/// The last line of the body of the function that begins in line `first`; `None` without a body.
fn body_end(lines: &[&str], first: usize) -> Option<usize> {
    let (mut depth, mut nested) = (0usize, 0usize);
    let start = lines[first].find("fn ")?;
    for (n, line) in lines.iter().enumerate().skip(first) {
        let from = if n == first { start } else { 0 };
        for c in line[from..].chars() {
            match c {
                '(' | '[' if depth == 0 => nested += 1,
                ')' | ']' if depth == 0 => nested = nested.saturating_sub(1),
                ';' if depth == 0 && nested == 0 => return None,
                '{' => depth += 1,
                '}' if depth == 1 => return Some(n),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_text() {
        let text =
            "let a = \"fn x() {\"; // fn y\nlet b = '{'; fn f<'a>(x: [u8; 2]) {\n r#\"}\"#;\n}\n";
        let code = code_only(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(functions(&code), [("f".to_owned(), 2, 3)]);
        assert!(has_word("an unsafe block", "unsafe") && !has_word("unsafe_code", "unsafe"));
        assert_eq!(words_like("(I-7) HI-8 I-x", "I-"), ["I-7"]);
    }
}
