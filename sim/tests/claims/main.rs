// SPDX-License-Identifier: MIT

//! The claims, end to end: the built program, real NBD clients, files and loop devices.
//!
//! Each test carries out one scenario file (`README.md` in this folder says how they read) on three
//! media, and after it has `rwsnap check` look at the pool. What the volumes should hold is known
//! to a naive model, an array of sectors for every volume and snapshot.
//!
//! With `RWSNAP_MEDIUM=module` the kernel module takes the server's place. This program needs
//! nothing of the sources then, and runs in a machine that has little more than the module.

mod client;
mod device;
mod devices;
mod door;
mod host;
mod life;
mod load;
mod look;
mod media;
mod merge;
mod model;
mod program;
mod report;
mod script;
mod world;

use media::Medium;
use script::Script;
use world::World;

/// Carries a scenario out on every medium.
fn show(name: &str, text: &str) {
    let script = Script::new(text);
    for &medium in Medium::wanted() {
        let mut world = World::new(medium);
        for step in &script.steps {
            let begun = std::time::Instant::now();
            let result = world.step(&step.words);
            println!("{:>6} ms {:?}", begun.elapsed().as_millis(), step.words);
            if let Err(why) = result {
                let said = world.host_said();
                let (line, text) = (step.line, step.words.join(" "));
                panic!("{name}.scn:{line} on {medium:?}: `{text}`: {why}\nit was said: {said}");
            }
        }
        if let Err(why) = world.finish() {
            panic!("{name}.scn on {medium:?}, at the end: {why}");
        }
    }
}

macro_rules! claims {
    ($($test:ident = $scenario:literal,)*) => {
        $(
            #[test]
            fn $test() {
                show($scenario, include_str!(concat!("scenarios/", $scenario, ".scn")));
            }
        )*
    };
}

claims! {
    claim_01_clone_reads_and_writes = "01_clone_reads_and_writes",
    claim_02_slot_on_first_write = "02_slot_on_first_write",
    claim_03_clone_bitmap_and_map = "03_clone_bitmap_and_map",
    claim_04_many_clones_one_snapshot = "04_many_clones_one_snapshot",
    claim_05_refresh_keeps_identity = "05_refresh_keeps_identity",
    claim_06_restore_from_clone = "06_restore_from_clone",
    claim_07_paths = "07_paths",
    claim_08_read_old_data = "08_read_old_data",
    claim_09_read_in_place = "09_read_in_place",
    claim_10_shared_save_volume = "10_shared_save_volume",
    claim_11_two_bitmaps_two_maps = "11_two_bitmaps_two_maps",
    claim_14_restore_old_first = "14_restore_old_first",
    claim_15_restore_new_first = "15_restore_new_first",
    claim_16_series = "16_series",
    claim_17_refresh_named = "17_refresh_named",
    claim_18_refresh_new = "18_refresh_new",
    claim_19_restore_any = "19_restore_any",
}

/// Every scenario is used, and reads well.
#[test]
fn every_scenario_is_a_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claims/scenarios");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("the scenarios are there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".scn").expect("only scenarios are there");
        let text = std::fs::read_to_string(entry.path()).expect("it can be read");
        let script = Script::new(&text);
        assert!(include_str!("main.rs").contains(&format!("\"{name}\"")), "{name} is not used");
        for step in &script.steps {
            assert!(world::knows(&step.words), "{name}.scn:{}: unknown step", step.line);
        }
        found += 1;
    }
    assert_eq!(found, 17);
}
