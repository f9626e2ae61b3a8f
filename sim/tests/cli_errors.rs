// SPDX-License-Identifier: MIT

//! What the command line says about volumes that cannot be used. Nothing is changed then.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, size: u64) -> String {
        let path = self.0.path().join(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rwsnap"));
        command.args(args).env_remove("RWSNAP_POOL").env_remove("RUST_LOG");
        command.current_dir(self.0.path()).env("RWSNAP_RUNTIME_DIR", self.0.path());
        command.env("RWSNAP_CONTROL_DEVICE", self.path("no-module"));
        command.output().unwrap()
    }

    /// Fails with exit code 1 and says all of `parts`.
    fn fails(&self, args: &[&str], parts: &[&str]) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?} does not say `{part}`: {said}");
        }
    }
}

#[test]
fn create_does_not_overwrite_what_it_knows() {
    let place = Place::new();
    let prod = place.file("prod.img", 1 << 20);
    let cases: &[(u64, &[u8], &str)] = &[
        (0x438, b"\x53\xef", "ext4"),
        (0, b"XFSB", "XFS"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (0x218, b"LVM2 001", "LVM"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (512, b"EFI PART", "GPT"),
        (4086, b"SWAPSPACE2", "swap"),
        (0, b"QFI\xfb", "qcow2"),
        (0, b"my thesis", "not empty"),
    ];
    for (at, magic, what) in cases {
        let save = place.file("save.img", 64 << 20);
        File::options().write(true).open(&save).unwrap().write_all_at(magic, *at).unwrap();
        let before = fs::read(&save).unwrap();
        place.fails(&["create", &save, "--production", &prod], &["save.img", what, "--force"]);
        assert!(fs::read(&save).unwrap() == before, "{what} was overwritten");
    }
}

#[test]
fn create_names_what_is_wrong_with_a_volume() {
    let place = Place::new();
    let (save, prod) = (place.path("save.img"), place.file("prod.img", 1 << 20));
    let create = |production: &str, parts: &[&str]| {
        place.fails(&["create", &save, "--size", "64M", "--production", production], parts);
        assert!(!Path::new(&save).exists(), "a failed create left its save volume");
    };
    create(&place.path("none.img"), &["none.img does not exist"]);
    create("/dev/null", &["/dev/null is a character device"]);
    create(place.0.path().to_str().unwrap(), &["is a directory"]);
    create(&place.file("empty.img", 0), &["empty.img is empty"]);
    create(&place.file("odd.img", 1000), &["odd.img has 1000 bytes", "truncate -s"]);
    let twice = format!("b={prod}");
    place.fails(
        &["create", &save, "--production", &format!("a={prod}"), "--production", &twice],
        &["prod.img is given twice"],
    );
    place.fails(&["create", &prod, "--production", &prod], &["production and save volume at once"]);
    place.fails(&["create", "no/such/save", "--production", &prod], &["no/such/save"]);
    let large = place.file("large.img", 64 << 20);
    place.fails(
        &["create", &large, "--size", "32M", "--production", &prod],
        &["large.img has 67108864 bytes already"],
    );
}

#[test]
fn no_pool_no_luck() {
    let place = Place::new();
    place.fails(&["list"], &["no pool is being served", "--pool SAVE"]);
    place.fails(&["list", "--pool", "nosuch"], &["no pool `nosuch` is being served"]);
    place.fails(&["list", "--pool", "./nosuch"], &["./nosuch does not exist", "rwsnap create"]);
    let image = place.file("some.img", 1 << 20);
    place.fails(&["list", "--pool", &image], &["some.img is not a save volume"]);
    File::options().write(true).open(&image).unwrap().write_all_at(b"XFSB", 0).unwrap();
    place.fails(&["list", "--pool", &image], &["it holds an XFS file system"]);
    place.fails(&["check", &image], &["is not a save volume"]);
    place.fails(&["dump", "nosuch"], &["nosuch does not exist"]);
    place.fails(&["status", "--pool", "/"], &["is a directory"]);
}
