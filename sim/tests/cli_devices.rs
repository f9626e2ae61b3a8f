// SPDX-License-Identifier: MIT

//! A second opener is kept out of save and production volumes, files and block devices alike, and
//! told who is in.

#[path = "pool/loops.rs"]
mod loops;
#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use loops::{as_root, Loop};
use nix::libc;
use pool::Place;
use server::Server;

const SIZE: u64 = 16 << 20;

/// Every way in but the server's own is refused, and the server is named.
fn is_kept_out(place: &Place, save: &str, prod: &str) {
    let place_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let (save_name, prod_name) = (place_of(save), place_of(prod));
    let by = format!("serve {save}");
    let held = |args: &[&str], what: &str| {
        place.refused(args, &[what, "in use by process", &by]);
    };
    held(&["serve", save], &save_name);
    held(&["create", save, "--force", "--production", prod], &save_name);
    let new = format!("x={prod}");
    held(&["create", "new.img", "--size", "16M", "--production", &new], &prod_name);
    place.refused(&["add", &new], &["cannot add `x`", &prod_name, "is in this pool already"]);
    let served = ["it is being served by process", &by, "rwsnap stop"];
    place.refused(&["check", save], &served);
    place.refused(&["dump", save], &served);
    // Who cannot find the server opens the volume, and meets the lock.
    let apart = |args: &[&str]| {
        let mut command = place.command(args);
        let output = command.env("RWSNAP_RUNTIME_DIR", place.path("apart")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("in use by process") && said.contains(&by), "{args:?}: {said}");
    };
    apart(&["--pool", save, "list"]);
    apart(&["--pool", save, "snapshot", "prod@b"]);
    apart(&["check", save]);
    apart(&["dump", save]);
}

#[test]
fn a_second_opener_of_files_is_told_who_is_in() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", "save.img", "--size", "32M", "--production", &prod]);
    let server = Server::start(&place, &[]);
    is_kept_out(&place, "save.img", &prod);
    // A second pool keeps the production of another offline.
    place.ok(&["stop"]);
    server.ended();
    place.ok(&["-q", "create", "other.img", "--size", "32M", "--production", &prod]);
    let server = Server::start(&place, &[]);
    let list = place.run(&["--pool", "other.img", "list"]);
    let said = String::from_utf8_lossy(&list.stderr).into_owned();
    assert!(said.contains("`prod` is offline") && said.contains("in use by process"), "{said}");
    place.refused(&["--pool", "other.img", "snapshot", "prod@a"], &["`prod` is offline", "serve"]);
    place.refused(&["--pool", "other.img", "read", "prod"], &["`prod` is offline", "--trust"]);
    place.ok(&["stop"]);
    server.ended();
}

#[test]
fn a_second_opener_of_block_devices_is_told_who_is_in() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    File::create(place.path("save.img")).unwrap().set_len(32 << 20).unwrap();
    let save = Loop::over(place.path("save.img").to_str().unwrap());
    let prod = Loop::over(&prod);
    place.ok(&["-q", "create", &save.0, "--production", &prod.0]);
    // What the kernel does with a device is named, too: here a mount.
    as_root(&["mkfs.ext4", "-q", "-F", &prod.0]);
    let folder = place.path("mnt");
    std::fs::create_dir(&folder).unwrap();
    as_root(&["mount", &prod.0, folder.to_str().unwrap()]);
    let list = place.run(&["--pool", &save.0, "list"]);
    as_root(&["umount", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&list.stderr).into_owned();
    assert!(said.contains("`prod` is offline"), "{said}");
    assert!(said.contains("the file system mounted on") && said.contains("mnt"), "{said}");
    let server = Server::start_on(&place, &save.0, &[]);
    is_kept_out(&place, &save.0, &prod.0);
    for device in [&save.0, &prod.0] {
        let opened = File::options().read(true).custom_flags(libc::O_EXCL).open(device);
        let error = opened.map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{device} is not held");
    }
    place.ok(&["--pool", &save.0, "stop"]);
    server.ended();
}

#[test]
fn a_device_of_larger_blocks_is_not_added_and_one_of_smaller_blocks_is() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    let wide = Loop::of(&place.production("wide.img", SIZE), "4096");
    let narrow = Loop::over(&place.production("narrow.img", SIZE));
    place.ok(&["-q", "create", "save.img", "--size", "32M", "--production", &prod]);
    let add = format!("x={}", wide.0);
    let refused = ["has blocks of 4096 bytes, and the pool was made for blocks of 512"];
    place.refused(&["add", &add], &refused);
    let server = Server::start(&place, &[]);
    place.refused(&["add", &add], &refused);
    place.ok(&["add", &format!("y={}", narrow.0)]);
    place.ok(&["snapshot", "prod@a", "y@a"]);
    place.write("y", 0, 1 << 20, 2);
    place.holds("y@a", 0, SIZE, 1);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn the_minimum_block_of_all_exports_is_the_largest_below() {
    let place = Place::new();
    let wide = Loop::of(&place.production("wide.img", SIZE), "4096");
    let (wide, narrow) = (format!("w={}", wide.0), place.production("narrow.img", SIZE));
    let narrow = format!("n={narrow}");
    let productions = ["--production", &wide, "--production", &narrow];
    place.ok(&[&["-q", "create", "save.img", "--size", "32M"], &productions[..]].concat());
    place.ok(&["snapshot", "n@a"]);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    for name in ["w", "n", "n@a"] {
        let uri = format!("nbd+unix:///{name}?socket={}", place.path("n.sock").display());
        let told = Command::new("nbdinfo").args(["--json", &uri]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["exports"][0]["block_size_minimum"], 4096, "{name}: {told}");
    }
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn a_volume_is_exported_to_a_device_that_has_room() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", "save.img", "--size", "32M", "--production", &prod]);
    place.write("prod", 1 << 20, 1 << 20, 2);
    let zeros = vec![0; 1 << 20];
    std::fs::write(place.path("in"), &zeros).unwrap();
    place.ok(&["write", "prod", "--offset", "2M", "-i", "in"]);
    // What the device holds is written over, also where there are zeros.
    let target = Loop::over(&place.production("target.img", SIZE));
    place.refused(&["export", "prod", &target.0], &["--force"]);
    place.ok(&["export", "prod", &target.0, "--force", "--sparse"]);
    drop(target);
    let (wanted, is) = (std::fs::read(&prod), std::fs::read(place.path("target.img")));
    assert!(wanted.unwrap() == is.unwrap());
    let small = Loop::over(&place.production("small.img", SIZE / 2));
    place.refused(&["export", "prod", &small.0, "--force"], &["has 8388608 bytes"]);
}

#[test]
fn devices_are_attached_by_the_module_alone() {
    let place = Place::new();
    let prod = Loop::over(&place.production("prod.img", SIZE));
    File::create(place.path("save.img")).unwrap().set_len(32 << 20).unwrap();
    let save = Loop::over(place.path("save.img").to_str().unwrap());
    place.ok(&["-q", "create", &save.0, "--production", &prod.0]);
    place.refused(&["attach", &save.0], &["no-module is missing", "insmod rwsnap.ko"]);
    let file = format!("prod={}", place.path("prod.img").display());
    place.refused(&["attach", &save.0, "--production", &file], &["prod.img is a regular file"]);
    // The file under a device is left alone, if it cannot be seen whether the module has that.
    let mut list = place.command(&["--pool", "save.img", "list"]);
    let output = list.env("RWSNAP_CONTROL_DEVICE", "/dev/null").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("may be attached by way of") && said.contains(&save.0), "{said}");
}
