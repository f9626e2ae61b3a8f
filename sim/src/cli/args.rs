// SPDX-License-Identifier: MIT

//! What the words of the command line stand for: sizes, rates, names, `NAME=PATH`.

use std::path::PathBuf;

use rwsnap_core::control::Name;

/// Suffixes of sizes and how far each shifts.
const UNITS: [(char, u32); 7] =
    [('B', 0), ('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

/// Bytes: `0`, `512`, `64K`, `1.5G`, `10GiB`; K, M, G, T, P and E are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size; sizes read 512, 64K, 10G or 1.5T (1024-based)");
    let (number, shift) = split_unit(text).ok_or_else(bad)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || number.ends_with('.') {
        return Err(bad());
    }
    let large = || format!("`{text}` is too large");
    let whole: u64 = whole.parse().map_err(|_| large())?;
    let whole = u128::from(whole) << shift;
    let part = part.get(..part.len().min(12)).unwrap_or("");
    let scale = part.bytes().fold(1, |scale, _| scale * 10);
    let part = part.bytes().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    u64::try_from(whole + (part << shift) / scale).map_err(|_| large())
}

/// The number and the shift of its suffix.
fn split_unit(text: &str) -> Option<(&str, u32)> {
    let text = text.trim();
    let cut = text.strip_suffix("iB").unwrap_or(text);
    let Some(last) = cut.chars().last().filter(char::is_ascii_alphabetic) else {
        return (cut.len() == text.len()).then_some((cut, 0));
    };
    let (_, shift) = UNITS.iter().find(|(unit, _)| *unit == last.to_ascii_uppercase())?;
    let is_plain = cut.len() == text.len() || *shift > 0;
    is_plain.then(|| (cut.get(..cut.len() - 1).unwrap_or(""), *shift))
}

/// Bytes a second, with or without `/s`; 0 is paused, `none` is `u64::MAX`: no limit.
pub fn rate(text: &str) -> Result<u64, String> {
    match text {
        "none" | "unlimited" => Ok(u64::MAX),
        _ => size(text.strip_suffix("/s").unwrap_or(text))
            .map_err(|e| format!("{e}; a rate is a size a second, 0 (paused) or none")),
    }
}

/// A chunk: a power of two from 4K to 64K.
pub fn chunk(text: &str) -> Result<u32, String> {
    match size(text)? {
        bytes @ (4096 | 8192 | 16384 | 32768 | 65536) => {
            u32::try_from(bytes).map_err(|e| e.to_string())
        }
        _ => Err(format!("`{text}` is not a chunk size; chunks are 4K, 8K, 16K, 32K or 64K")),
    }
}

/// What a first write copies: a power of two up to 1 MiB.
pub fn copy_span(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    let fits = bytes.is_power_of_two() && (4096..=1 << 20).contains(&bytes);
    fits.then(|| u32::try_from(bytes).ok())
        .flatten()
        .ok_or_else(|| format!("`{text}` is not a copy span; it is a power of two from 4K to 1M"))
}

/// A name of something that is there.
pub fn name(text: &str) -> Result<Name, String> {
    match Name::new(text.as_bytes()) {
        Some(name) if !text.is_empty() => Ok(name),
        _ => Err(format!("`{text}` is not a name: names have 1 to 127 bytes")),
    }
}

/// What names may be, for messages.
const RULE: &str = "a name is 1 to 63 of A-Z a-z 0-9 . _ : - and does not begin with - or .";

/// A name for a volume that is to be made.
pub fn new_volume(text: &str) -> Result<Name, String> {
    if text.contains('@') {
        return Err(format!("`{text}` has an @, which belongs into names of snapshots alone"));
    }
    let named = Name::part_is_valid(text.as_bytes()).then(|| Name::new(text.as_bytes())).flatten();
    named.ok_or_else(|| format!("`{text}` cannot be a name: {RULE}"))
}

/// `VOL@SNAP`.
pub fn snapshot(text: &str) -> Result<Name, String> {
    let Some((volume, snap)) = text.split_once('@') else {
        return Err(format!("`{text}` does not name a snapshot: it has no @, as in prod@monday"));
    };
    let valid = [volume, snap].iter().all(|part| Name::part_is_valid(part.as_bytes()));
    let named = valid.then(|| Name::new(text.as_bytes())).flatten();
    named.ok_or_else(|| format!("`{text}` cannot be a snapshot's name, VOLUME@SNAPSHOT: {RULE}"))
}

/// A name for a volume or snapshot that is to be made or renamed.
pub fn new_name(text: &str) -> Result<Name, String> {
    if text.contains('@') {
        snapshot(text)
    } else {
        new_volume(text)
    }
}

/// A production volume: its name, if given, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Name.
    pub name: Option<String>,
    /// File or device.
    pub path: PathBuf,
}

/// `[NAME=]PATH`: a path that has a `=` in it needs a name before it.
pub fn maybe_located(text: &str) -> Result<Located, String> {
    match text.split_once('=') {
        Some((name, path)) if Name::part_is_valid(name.as_bytes()) => {
            with_path(Some(name.to_owned()), path)
        }
        _ => with_path(None, text),
    }
}

/// `NAME=PATH`.
pub fn located(text: &str) -> Result<Located, String> {
    let Some((name, path)) = text.split_once('=') else {
        return Err(format!("`{text}` is not of the form NAME=PATH"));
    };
    new_volume(name)?;
    with_path(Some(name.to_owned()), path)
}

fn with_path(name: Option<String>, path: &str) -> Result<Located, String> {
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    Ok(Located { name, path: PathBuf::from(path) })
}

/// A key and a value; an empty value removes the property.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let good = [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("64KiB", 65536),
            ("10G", 10 << 30),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("15E", 15 << 60),
            ("15.999E", 18445591152204944769),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let bad =
            "16E 18446744073709551616 K iB 1iB 1BiB -1 +1 1.2.3 .5 5. 1,5G ten 1X 0x10 1e3 1KB";
        for text in bad.split(' ').chain(["", " ", "1 0"]) {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_number_with_any_suffix_is_that_many() {
        let mut seed = 1u64;
        for round in 0..100_000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            let number = seed >> (round % 64);
            for (unit, shift) in UNITS {
                let wanted = number.checked_mul(1 << shift);
                assert_eq!(size(&format!("{number}{unit}")).ok(), wanted);
            }
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        let letters: Vec<char> = "0123456789.KMGTPEiBx- \u{e9}\u{221e}".chars().collect();
        let mut seed = 7usize;
        for _ in 0..100_000 {
            let mut text = String::new();
            for _ in 0..(seed >> 60) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
                text.push(letters[(seed >> 33) % letters.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let _ = (size(&text), rate(&text), chunk(&text), copy_span(&text));
            let _ = (name(&text), new_name(&text), located(&text), maybe_located(&text));
        }
    }

    #[test]
    fn rates_and_chunks() {
        assert_eq!(rate("64M/s"), Ok(64 << 20));
        assert_eq!(rate("0"), Ok(0));
        assert_eq!(rate("none"), Ok(u64::MAX));
        assert!(rate("fast").unwrap_err().contains("paused"));
        assert_eq!(chunk("16K"), Ok(16384));
        assert!(chunk("12K").is_err() && chunk("128K").is_err());
        assert_eq!(copy_span("1M"), Ok(1 << 20));
        assert!(copy_span("2M").is_err() && copy_span("0").is_err());
    }

    #[test]
    fn names_and_places() {
        assert!(snapshot("prod@monday").is_ok() && snapshot("prod").is_err());
        assert!(snapshot("prod@").is_err() && snapshot("a@b@c").is_err());
        assert!(new_volume("dev1").is_ok() && new_volume("a@b").is_err());
        assert!(new_volume("-x").is_err() && new_volume("").is_err());
        let at = |name: Option<&str>, path: &str| Located {
            name: name.map(str::to_owned),
            path: PathBuf::from(path),
        };
        assert_eq!(maybe_located("/dev/sda"), Ok(at(None, "/dev/sda")));
        assert_eq!(maybe_located("db=/dev/sda"), Ok(at(Some("db"), "/dev/sda")));
        assert_eq!(maybe_located("./a=b"), Ok(at(None, "./a=b")));
        assert_eq!(located("db=/x=y"), Ok(at(Some("db"), "/x=y")));
        assert!(located("/dev/sda").is_err() && located("db=").is_err());
    }
}
