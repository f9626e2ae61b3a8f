// SPDX-License-Identifier: MIT

//! What the verbs of the kernel module say where no module is. With one, `ktest` tries them.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use pool::Place;
use server::Server;

const SIZE: u64 = 16 << 20;

/// How to load the module.
const LOAD: [&str; 2] = ["no-module is missing", "modprobe rwsnap` or `insmod rwsnap.ko`"];

#[test]
fn a_module_that_is_not_loaded_is_told_of() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    for verb in [&["detach"][..], &["detach", "tank"], &["expose", "prod@a"], &["hide", "prod@a"]] {
        place.refused(verb, &LOAD);
    }
    // All else works as if there were no modules.
    let listed = place.json(&["list"]);
    assert!(listed[0]["node"].is_null(), "{listed}");
    assert_eq!(place.ok(&["list", "-Ho", "name,node", "prod"]), "prod\t-\n");
    assert!(place.json(&["info", "prod"])["node"].is_null());
    let status = place.json(&["status"]);
    assert_eq!(status["attached"], false);
    assert_eq!(status["devices"].as_array().unwrap().len(), 0);
}

#[test]
fn what_is_no_control_device_is_told_of_where_it_matters() {
    let place = Place::pool(SIZE);
    let run = |args: &[&str]| {
        let output = place.command(args).env("RWSNAP_CONTROL_DEVICE", "/dev/null").output();
        let output = output.unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        (output.status.success(), out + &err)
    };
    let (done, said) = run(&["detach"]);
    assert!(!done && said.contains("/dev/null is not the control device"), "{said}");
    let (done, said) = run(&["list", "-Ho", "name"]);
    assert!(done && said == "prod\n", "{said}");
    let (done, said) = run(&["check", "save.img"]);
    assert!(done, "{said}");
    let (done, said) = run(&["list", "--pool", "tank"]);
    assert!(!done && said.contains("Pools of the module: /dev/null is not"), "{said}");
}

#[test]
fn the_module_is_not_given_files_nor_what_is_being_served() {
    let place = Place::pool(SIZE);
    place.refused(&["attach", "none.img"], &["none.img does not exist"]);
    place.refused(&["attach", "prod.img"], &["is not a save volume of rwsnap"]);
    place.refused(&["attach", "save.img"], &["is a regular file", "`losetup -f --show save.img`"]);
    let server = Server::start(&place, &[]);
    place.refused(&["attach", "save.img"], &["is being served by process", "rwsnap stop"]);
    place.ok(&["stop"]);
    server.ended();
}
