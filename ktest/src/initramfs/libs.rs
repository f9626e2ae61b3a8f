// SPDX-License-Identifier: MIT

//! The shared libraries that a program needs, as `ldd` tells them.

use std::path::Path;

use crate::command::command;
use crate::failure::{fail, Context, Result};

/// The files of a program's libraries; none of a program that is linked statically.
pub(crate) fn of(program: &Path) -> Result<Vec<String>> {
    let output = command("ldd")?.arg(program).output().about(program)?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    read(&String::from_utf8_lossy(&output.stdout)).about(program)
}

fn read(said: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for line in said.lines().map(str::trim) {
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        if place.starts_with("not found") {
            return fail(format!("a library is missing: {line}"));
        }
        if place.starts_with('/') {
            files.extend(place.split(" (").next().map(str::to_owned));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_files_are_taken_and_the_kernels_own_is_not() {
        let said = "\tlinux-vdso.so.1 (0x00007f40)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f40)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f40)\n";
        let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(read(said).unwrap(), wanted);
        assert!(read("\tstatically linked\n").unwrap().is_empty());
        let missing = read("\tlibz.so.1 => not found\n").unwrap_err();
        assert!(missing.to_string().contains("libz.so.1"));
    }
}
