// SPDX-License-Identifier: MIT

//! `storm [first [seeds [verbose [mutant]]]]`: for whoever works on the core.

use rwsnap::storm::{main as storm, Options};

fn main() {
    let number = |n: usize| std::env::args().nth(n).and_then(|a| a.parse().ok());
    let options = Options {
        first: number(1).unwrap_or(1),
        seeds: number(2).unwrap_or(100),
        verbose: number(3).unwrap_or(0) != 0,
        mutant: u32::try_from(number(4).unwrap_or(0)).unwrap_or(0),
        ..Options::default()
    };
    println!("{}", storm(&options));
}
