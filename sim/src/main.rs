// SPDX-License-Identifier: MIT

//! The `rwsnap` program.

fn main() {}
