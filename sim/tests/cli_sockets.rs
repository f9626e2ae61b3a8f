// SPDX-License-Identifier: MIT

//! Where control sockets lie if nobody says: in the system's folder, else in the user's, else in
//! one in /tmp. The folders of this machine are left alone: each server has a /run and a /tmp of
//! its own, in a mount namespace that ends with it (by root, like the tests on loop devices).

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;

use std::process::Command;

use pool::Place;

/// Serves the pool with `before` done to the namespace, and says where the socket and its folder
/// are, with their modes; then finds the server by its pool's name, and stops it.
const SCRIPT: &str = r#"
mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p xdg && chmod 700 xdg
eval "$BEFORE"
"$RWSNAP" -q serve save.img >ready & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for n in $(seq 300); do grep -q 'rwsnap: ready' ready && break; sleep 0.1; done
find /run xdg "/tmp/rwsnap-$(id -u)" -name '*.sock' -printf '%m %h\n' 2>/dev/null || true
find /run xdg "/tmp/rwsnap-$(id -u)" -name 'rwsnap*' -type d -printf '%m\n' 2>/dev/null || true
"$RWSNAP" --pool here status --json | grep -o '"served": *true'
"$RWSNAP" --pool here stop && wait $server
"#;

/// What the script said.
fn served(place: &Place, before: &str) -> Vec<String> {
    let keep = "--preserve-env=RWSNAP,BEFORE,RWSNAP_CONTROL_DEVICE";
    let is_root = nix::unistd::geteuid().is_root();
    let sudo: &[&str] = if is_root { &[] } else { &["sudo", "-n", keep] };
    let words = [sudo, &["unshare", "--mount", "sh", "-euc", SCRIPT]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(place.path("."));
    command.env("RWSNAP", "./rwsnap").env("BEFORE", before);
    command.env("RWSNAP_CONTROL_DEVICE", place.path("no-module"));
    for name in ["RWSNAP_RUNTIME_DIR", "RWSNAP_POOL", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn a_server_takes_the_first_folder_that_it_may_use() {
    let place = Place::new();
    let prod = place.production("prod.img", 4 << 20);
    // It has to be found when another folder lies over /tmp.
    std::fs::copy(env!("CARGO_BIN_EXE_rwsnap"), place.path("rwsnap")).unwrap();
    let create = ["-q", "create", "save.img", "--size", "16M", "--name", "here", "--production"];
    place.ok(&[create.as_slice(), &[prod.as_str()]].concat());
    for (before, socket, folders) in [
        ("true", "600 /run/rwsnap", &["700"][..]),
        ("mount -o remount,ro /run; export XDG_RUNTIME_DIR=$PWD/xdg", "600 xdg/rwsnap", &["700"]),
        // Not one that others can write to.
        (
            "mkdir -m 777 /run/rwsnap; export XDG_RUNTIME_DIR=$PWD/xdg",
            "600 xdg/rwsnap",
            &["777", "700"],
        ),
        ("mount -o remount,ro /run; mkdir t; mount --bind t /tmp", "600 /tmp/rwsnap-0", &["700"]),
    ] {
        let _ = std::fs::remove_dir_all(place.path("xdg"));
        let said = served(&place, before);
        let served = r#""served": true"#;
        assert_eq!(said, [&[socket], folders, &[served]].concat(), "{before}");
    }
}
