// SPDX-License-Identifier: MIT

//! Every verb on a pool at rest.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use pool::{pattern, Place};

const SIZE: u64 = 8 << 20;

#[test]
fn create_tells_and_touches_no_production() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    let output = place.run(&["create", "save.img", "--size", "32M", "--production", &prod]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("made pool `save`"));
    assert!(fs::read(place.path("prod.img")).unwrap() == pattern(0, SIZE, 1));
    let save = fs::metadata(place.path("save.img")).unwrap();
    assert_eq!(save.len(), 32 << 20);
    assert!(std::os::unix::fs::MetadataExt::blocks(&save) * 512 >= 32 << 20, "not allocated");
    place.check();
    place.refused(&["create", "save.img", "--production", &prod], &["the pool `save`", "--force"]);
    place.ok(&["create", "save.img", "--force", "--name", "other", "--production", &prod]);
    assert_eq!(place.json(&["status"])["name"], "other");
    let save = place.path("save.img").to_str().unwrap().to_owned();
    place.refused(
        &["create", "new.img", "--production", &save],
        &["is the save volume of a pool, not production"],
    );
}

#[test]
fn snapshots_and_clones_hold_what_they_should() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 1 << 20, 1 << 20, 2);
    place.ok(&["clone", "prod@a", "dev"]);
    place.write("dev", (1 << 20) + 4096, 64 << 10, 3);
    place.holds("prod", 1 << 20, 1 << 20, 2);
    place.holds("prod@a", 0, SIZE, 1);
    place.holds("dev", 1 << 20, 4096, 1);
    place.holds("dev", (1 << 20) + 4096, 64 << 10, 3);
    place.holds("dev", 2 << 20, 1 << 20, 1);
    place.check();
    let listed = place.json(&["list"]);
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prod", "prod@a", "dev"]);
    assert_eq!(listed[2]["origin"], "prod@a");
    assert_eq!(listed[2]["type"], "clone");
    let changed = place.json(&["diff", "prod@a", "dev"]);
    assert_eq!(changed, serde_json::json!([{"offset": (1 << 20) + 4096, "length": 64 << 10}]));
    assert_eq!(place.json(&["diff", "prod@a", "prod@a"]), serde_json::json!([]));
    // Written again with what it held before: the map says that it may differ, the data does not.
    place.write("prod", 1 << 20, 4096, 1);
    let changed = place.json(&["diff", "prod", "prod@a"]);
    let expected = serde_json::json!([{"offset": (1 << 20) + 4096, "length": (1 << 20) - 4096}]);
    assert_eq!(changed, expected);
}

#[test]
fn refresh_keeps_the_identity_and_what_it_is_asked_to() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev"]);
    place.write("dev", 0, 4096, 3);
    place.write("prod", 8192, 4096, 2);
    let uuid = place.json(&["info", "dev"])["uuid"].clone();
    place.ok(&["refresh", "dev", "--keep", "old"]);
    assert_eq!(place.json(&["info", "dev"])["uuid"], uuid);
    place.holds("dev", 0, 4096, 1);
    place.holds("dev", 8192, 4096, 2);
    place.holds("old", 0, 4096, 3);
    place.ok(&["refresh", "dev", "--to", "prod@a"]);
    place.holds("dev", 8192, 4096, 1);
    place.refused(&["refresh", "prod"], &["only clones are refreshed"]);
    place.check();
}

#[test]
fn restore_at_rest_merges_with_wait_and_can_be_undone() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 2 << 20, 2);
    place.ok(&["restore", "prod", "--from", "prod@a", "--rate", "0"]);
    place.holds("prod", 0, SIZE, 1);
    let status = place.json(&["restore", "prod", "--status"]);
    assert_eq!(
        (status["from"].as_str(), status["state"].as_str()),
        (Some("prod@a"), Some("paused"))
    );
    place.refused(&["restore", "prod", "--from", "prod@a"], &["is being restored", "--status"]);
    place.write("prod", 1 << 20, 4096, 4);
    place.ok(&["restore", "prod", "--rate", "none", "--wait"]);
    assert!(place.json(&["restore", "prod", "--status"]).is_null());
    place.holds("prod", 0, 1 << 20, 1);
    place.holds("prod", 1 << 20, 4096, 4);
    let home = fs::read(place.path("prod.img")).unwrap();
    assert!(home[..1 << 20] == pattern(0, 1 << 20, 1), "it is not in place");
    place.check();
    let names = place.ok(&["list", "-H", "-o", "name"]);
    let undo = names.lines().find(|name| name.contains("@before-restore")).unwrap().to_owned();
    place.ok(&["restore", "prod", "--from", &undo, "--wait", "--no-undo"]);
    place.holds("prod", 0, 2 << 20, 2);
    place.refused(&["restore", "prod", "--cancel"], &["no restore of `prod` is under way"]);
    place.check();
}

#[test]
fn a_refusal_names_every_blocker_and_changes_nothing() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev1"]);
    place.ok(&["clone", "prod@a", "dev2"]);
    let before = place.ok(&["list", "--json"]);
    place.refused(&["destroy", "prod@a"], &["`dev1`", "`dev2`", "-r", "--defer"]);
    place.refused(&["destroy", "nope"], &["there is no `nope`", "rwsnap list"]);
    place.refused(&["destroy", "prod"], &["`rwsnap remove prod` takes it out"]);
    place.refused(&["remove", "prod"], &["`prod@a`"]);
    place.refused(&["remove", "dev1"], &["`destroy` ends it"]);
    place.refused(&["clone", "prod@a", "dev1"], &["the name is taken by `dev1`"]);
    place.refused(&["snapshot", "prod@b", "nope@b"], &["no volume for `nope@b`"]);
    place.refused(&["rename", "dev1", "dev2"], &["taken by `dev2`"]);
    place.refused(&["rename", "prod@a", "dev1@a"], &["begins with `prod@`"]);
    place.refused(&["rename", "dev1", "prod@c"], &["`dev1` is a volume"]);
    place.refused(&["restore", "prod", "--from", "prod"], &["from itself"]);
    place.refused(&["restore", "dev1", "--from", "prod@a"], &["refresh --to"]);
    let twice = place.run(&["snapshot", "prod@b", "prod@c"]);
    let said = String::from_utf8_lossy(&twice.stderr);
    assert_eq!(twice.status.code(), Some(64), "{said}");
    assert!(said.contains("`prod@b` and `prod@c` are of the same volume"), "{said}");
    place.refused(&["write", "prod@a", "-i", "in"], &["in"]);
    place.ok(&["hold", "prod@a"]);
    place.refused(&["destroy", "-r", "prod@a"], &["`prod@a`", "rwsnap release"]);
    place.ok(&["release", "prod@a"]);
    let dry = place.json(&["destroy", "-r", "--dry-run", "prod@a"]);
    assert_eq!(dry.as_array().unwrap().len(), 3);
    assert_eq!(place.ok(&["list", "--json"]), before);
    place.ok(&["destroy", "-r", "prod@a"]);
    assert_eq!(place.ok(&["list", "-H", "-o", "name"]), "prod\n");
    place.check();
}

#[test]
fn several_productions_come_and_go() {
    let place = Place::new();
    let (db, wal) = (place.production("db.img", SIZE), place.production("wal.img", SIZE));
    let (db, wal_path) = (format!("db={db}"), format!("wal={wal}"));
    place.ok(&["-q", "create", "save.img", "--size", "32M", "--production", &db]);
    place.ok(&["add", &wal_path]);
    place.refused(&["add", &wal_path], &["cannot add `wal`", "the name is taken by `wal`"]);
    let twice = format!("more{}", wal_path.trim_start_matches("wal"));
    place.refused(&["add", &twice], &["cannot add `more`", "wal.img is in this pool already"]);
    place.refused(&["add", "x=nope.img"], &["nope.img does not exist"]);
    place.ok(&["snapshot", "db@a", "wal@a"]);
    let groups: Vec<_> =
        ["db@a", "wal@a"].map(|n| place.json(&["info", n])["group"].clone()).into();
    assert_eq!(groups[0], groups[1]);
    place.write("wal", 0, 4096, 2);
    place.holds("wal@a", 0, 4096, 1);
    place.ok(&["destroy", "wal@a"]);
    place.ok(&["remove", "wal"]);
    assert!(fs::read(&wal).unwrap()[..4096] == pattern(0, 4096, 2));
    place.refused(&["info", "wal"], &["there is no `wal`"]);
    place.check();
}

#[test]
fn properties_are_set_and_shown() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev"]);
    place.ok(&["set", "dev", "quota=1M", "reservation=64K", "backup:state=done"]);
    assert_eq!(place.ok(&["get", "dev", "quota"]), "1048576\n");
    assert_eq!(place.json(&["get", "dev"])["backup:state"], "done");
    place.ok(&["set", "dev", "backup:state="]);
    place.refused(&["get", "dev", "backup:state"], &["has no property `backup:state`"]);
    place.refused(&["set", "prod", "quota=1M"], &["quota", "only clones have it"]);
    place.refused(&["set", "dev", "copy-span=64K"], &["copy-span", "only the pool has it"]);
    place.refused(&["set", "dev", "reservation=8M"], &["no reservation is larger than the quota"]);
    assert_eq!(place.run(&["set", "pool", "discard=maybe"]).status.code(), Some(64));
    place.ok(&["set", "pool", "when-full=stall", "copy-span=64K"]);
    assert_eq!(place.ok(&["get", "save", "when-full"]), "stall\n");
    assert_eq!(place.json(&["status"])["copy_span"], 65536);
    let long = format!("note={}", "x".repeat(200));
    place.refused(&["set", "dev", &long], &["longer than 191 bytes"]);
    let wrong = place.run(&["set", "pool", "when-full=explode"]);
    assert_eq!(wrong.status.code(), Some(64));
    place.check();
}

#[test]
fn bytes_are_read_and_written_at_any_place() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    let mut child = place.command(&["write", "prod", "--offset", "12345"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[0xEE; 3_000_001]).unwrap();
    assert!(child.wait().unwrap().success());
    let mut expected = pattern(0, SIZE, 1);
    expected[12345..12345 + 3_000_001].fill(0xEE);
    assert!(place.read("prod", 0, SIZE) == expected);
    assert!(place.read("prod", 12_000, 700) == expected[12_000..12_700]);
    place.ok(&["read", "prod", "--offset", "8388607", "-O", "out"]);
    assert_eq!(fs::read(place.path("out")).unwrap(), expected[8_388_607..]);
    place
        .refused(&["read", "prod", "--offset", "8M", "--length", "1"], &["beyond the end", "prod"]);
    place.refused(&["write", "prod", "--offset", "8M", "-i", "out"], &["beyond the end"]);
    place.refused(&["write", "prod@a", "-i", "out"], &["cannot be written"]);
    place.check();
}

#[test]
fn export_makes_images_and_overwrites_none() {
    let place = Place::pool(SIZE);
    let prod = File::options().write(true).open(place.path("prod.img")).unwrap();
    prod.write_all_at(&vec![0; 4 << 20], 2 << 20).unwrap();
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["export", "prod@a", "full.img"]);
    place.ok(&["export", "prod@a", "sparse.img", "--sparse"]);
    let full = fs::read(place.path("full.img")).unwrap();
    assert!(full == fs::read(place.path("prod.img")).unwrap());
    assert!(full == fs::read(place.path("sparse.img")).unwrap());
    let blocks = |name: &str| {
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(place.path(name)).unwrap())
    };
    assert!(blocks("sparse.img") <= blocks("full.img") - 8000);
    place.refused(&["export", "prod", "full.img"], &["full.img exists already", "--force"]);
    place.write("prod", 0, 4096, 2);
    place.ok(&["export", "prod", "full.img", "--force"]);
    assert!(fs::read(place.path("full.img")).unwrap()[..4096] == pattern(0, 4096, 2));
}

#[test]
fn lists_for_scripts_and_for_people() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 1 << 20, 2);
    place.ok(&["snapshot", "prod@b"]);
    place.ok(&["clone", "prod@b", "dev"]);
    let text = place.ok(&["list"]);
    assert!(text.starts_with("NAME") && !text.contains('|') && !text.contains('\t'), "{text}");
    assert_eq!(place.ok(&["list", "-H", "-p", "-o", "name,size", "prod"]), "prod\t8388608\n");
    assert_eq!(place.ok(&["list", "-H", "-o", "name", "-t", "snapshot"]), "prod@a\nprod@b\n");
    assert_eq!(
        place.ok(&["list", "-H", "-o", "name", "-S", "name", "-t", "clone,production"]),
        "prod\ndev\n"
    );
    assert_eq!(place.ok(&["list", "-H", "-o", "name", "-r", "prod@b"]), "prod@b\ndev\n");
    assert_eq!(place.ok(&["list", "-H", "-o", "name", "-s", "used"]).lines().count(), 4);
    place.refused(&["list", "nope"], &["there is no `nope`"]);
    let info = place.ok(&["info", "prod@a"]);
    assert!(info.contains("type:") && info.contains("snapshot"), "{info}");
    let map = place.json(&["map", "prod"]);
    assert_eq!(map[0]["offset"], 0);
    let sum: u64 = map.as_array().unwrap().iter().map(|r| r["length"].as_u64().unwrap()).sum();
    assert_eq!(sum, SIZE);
}

#[test]
fn production_that_is_gone_or_was_changed_stays_offline() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    fs::rename(place.path("prod.img"), place.path("away.img")).unwrap();
    let output = place.run(&["list"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("`prod` is offline"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("offline"));
    place.refused(&["read", "prod"], &["read `prod`"]);
    fs::rename(place.path("away.img"), place.path("prod.img")).unwrap();
    place.holds("prod", 0, 4096, 1);
    let prod = File::options().write(true).open(place.path("prod.img")).unwrap();
    prod.write_all_at(b"changed", 1024).unwrap();
    // The first command that found it closed the pool without a fingerprint: the next one took the
    // changed production as if nothing were the matter.
    for _ in 0..3 {
        let output = place.run(&["list"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("prod.img was changed") && said.contains("--trust"), "{said}");
        assert!(!said.contains('\x1b'), "colours in what is no terminal: {said:?}");
        place.refused(&["read", "prod"], &["`prod` is offline", "--trust NAME"]);
    }
    prod.write_all_at(&pattern(1024, 8, 1)[..7], 1024).unwrap();
    place.holds("prod", 0, 4096, 1);
}

#[test]
fn a_pool_in_use_names_its_holder() {
    let place = Place::pool(SIZE);
    let script = "exec 3<save.img; flock -x 3; echo locked; sleep 60";
    let mut holder = std::process::Command::new("bash")
        .args(["-c", script])
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 7];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
    place.refused(&["list"], &["save.img is in use by process", "sleep 60"]);
    place.refused(&["check", "save.img"], &["is in use by process"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn damaged_save_volumes_are_refused_and_checked() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 64 << 10, 2);
    let sound = fs::read(place.path("save.img")).unwrap();
    let report = place.json(&["check", "save.img"]);
    assert_eq!(report["verdict"], "sound");
    assert!(place.ok(&["dump", "save.img"]).contains("`prod@a`"));
    // Cut off.
    let save = File::options().write(true).open(place.path("save.img")).unwrap();
    save.set_len(20 << 20).unwrap();
    place.refused(&["list"], &["it is cut off"]);
    assert_eq!(place.run(&["check", "save.img"]).status.code(), Some(2));
    fs::write(place.path("save.img"), &sound).unwrap();
    // A page of the metadata spoiled.
    let at = sound.windows(6).rposition(|w| w == b"prod@a").unwrap() as u64;
    save.write_all_at(b"PROD@A", at).unwrap();
    place.refused(&["list"], &["is damaged", "rwsnap check"]);
    let checked = place.run(&["check", "save.img", "--json"]);
    assert_eq!(checked.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["verdict"], "corrupt");
    // No superblock left.
    save.write_all_at(&[0x55; 61440], 4096).unwrap();
    place.refused(&["list"], &["is not a save volume"]);
    assert_eq!(place.run(&["check", "save.img"]).status.code(), Some(1));
    assert_eq!(place.run(&["check", "nope.img"]).status.code(), Some(1));
}
