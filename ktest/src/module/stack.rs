// SPDX-License-Identifier: MIT

//! The sizes of stack frames, as the kernel's `checkstack.pl` finds them in machine code.

use std::path::Path;
use std::process::Stdio;

use crate::command::{command, output};
use crate::failure::{fail, Context, Result};
use crate::kernel::{Kernel, Kind};

/// Bytes that a frame may have.
const FRAME_BYTES: u64 = 1024;

/// Fails if a function's frame is too large. (KASAN puts zones around what is on the stack: on
/// the debug kernel frames say nothing about the module.)
pub(crate) fn check(kernel: &Kernel, module: &Path) -> Result {
    if kernel.kind == Kind::Debug {
        return Ok(());
    }
    let script = kernel.tree.join("source/scripts/checkstack.pl");
    if !script.exists() {
        return fail(format!("{} is missing", script.display()));
    }
    let mut dump = command("objdump")?;
    dump.args(["-d", "--demangle"]).arg(module).stdout(Stdio::piped());
    let mut dump = dump.spawn().context("objdump")?;
    let mut find = command("perl")?;
    find.arg(&script).args(["x86_64", "256"]);
    if let Some(code) = dump.stdout.take() {
        find.stdin(code);
    }
    let said = output(&mut find)?;
    if !dump.wait()?.success() {
        return fail(format!("objdump -d {} failed", module.display()));
    }
    let large = large(&said);
    match large.is_empty() {
        true => Ok(()),
        false => fail(format!("frames over {FRAME_BYTES} bytes:\n{}", large.join("\n"))),
    }
}

/// The lines of functions whose frames are too large: `0x0123 name [file]:  1088`.
fn large(said: &str) -> Vec<&str> {
    let bytes = |line: &str| line.rsplit_once(':')?.1.trim().parse::<u64>().ok();
    said.lines().filter(|line| bytes(line).is_some_and(|bytes| bytes > FRAME_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::large;

    #[test]
    fn large_frames_are_named() {
        let said = "0x00 a [rwsnap]:\t\t1024\n0x10 b::c [rwsnap]:\t1040\nDynamic (d):\tx\n";
        assert_eq!(large(said), ["0x10 b::c [rwsnap]:\t1040"]);
    }
}
