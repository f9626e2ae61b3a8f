# SPDX-License-Identifier: MIT
#
# title: a pool on volumes of another pool; sysfs says what lies on what, as lsblk shows it
# disks: 64M 256M 64M
# time: 120
. /ktest/cases/lib.sh

names() {
    for device; do
        basename "$(readlink -f "$device")"
    done | sort | xargs
}

# What sysfs says that a device lies on, and what lies on it.
below() {
    ls "/sys/block/$(names "$1")/slaves" | sort | xargs
}

above() {
    ls "/sys/block/$(names "$1")/holders" | sort | xargs
}

pool "$2" --production a="$1" --production b="$3"
a=$(dev a) b=$(dev b)
must "both have snapshots" rwsnap snapshot a@s b@s
must "a clone is made" rwsnap clone a@s dev1
clone=$(dev dev1)
[ -d /sys/block/"$(names "$a")"/slaves ] || skip "the kernel does not keep track of that"
is "production lies on its device and the save volume" "$(names "$1" "$2")" below "$a"
is "so does its clone" "$(names "$1" "$2")" below "$clone"
is "both lie on the device" "$(names "$a" "$clone")" above "$1"
is "all lie on the save volume" "$(names "$a" "$b" "$clone")" above "$2"
must "lsblk shows it" sh -c "lsblk -nro NAME $3 | grep -qx $(names "$b")"
must "the clone moves to the other production" rwsnap refresh dev1 --to b@s
is "it lies on that one's device now" "$(names "$2" "$3")" below "$clone"
is "and on the other no more" "$(names "$a")" above "$1"

# The upper pool's save volume is a production, its production a clone, of one lower pool.
must "a pool is made on volumes" rwsnap create "$b" --name upper --production data="$clone" -q
udevadm settle --timeout=30
must "it is attached" rwsnap attach "$b"
udevadm settle --timeout=30
data=/dev/rwsnap/upper/data
is "its production lies on both volumes" "$(names "$b" "$clone")" below "$data"
is "each pool has a rescuer of its own" 2 \
    sh -c "cat /proc/[0-9]*/comm | grep -c '^kworker/R-rwsnap/'"
load upper 32M $((8 * SLOWNESS)) "$data" >"$W/load" 2>&1 &
fio=$!
for n in 1 2 3 4; do
    sleep 1
    must "the upper pool takes a snapshot ($n)" rwsnap --pool upper snapshot data@$n
    must "the lower pool takes one of both ($n)" rwsnap --pool tank snapshot b@$n dev1@$n
done
must "the load finds what it wrote" wait $fio
refused "the lower pool is not detached" open rwsnap detach tank
must "the upper pool is detached" rwsnap detach upper
is "nothing lies on the lower volumes any more" "" above "$clone"
must "the upper pool is sound" rwsnap check "$b"
detach
is "nothing lies on the devices any more" "" above "$2"
