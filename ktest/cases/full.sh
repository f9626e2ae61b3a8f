# SPDX-License-Identifier: MIT
#
# title: the save volume is full: oldest snapshots go, writes wait, or writes fail
# disks: 256M 32M
# time: 240
. /ktest/cases/lib.sh

# write_all DEVICE: more than the save volume can keep the old data of.
write_all() {
    dd if=/dev/zero of="$1" bs=1M count=120 oflag=direct conv=notrunc,fsync
}

begin() {
    pool "$save" --force --when-full "$1" --production prod="$below"
    prod=$(dev prod)
    must "a snapshot that has to be kept" rwsnap snapshot prod@kept
}

below=$1 save=$2

# The oldest snapshots are given up, and production goes on.
begin oldest
must "the snapshot is exposed before" rwsnap expose prod@kept
kept=$(dev prod@kept)
exec 8<"$kept"
must "it can be read" read_at "$kept" 0 16
must "production is written all over" write_all "$prod"
must "the snapshot was given up" flagged prod@kept given-up
fails "whoever has it open reads nothing any more" read_at "$kept" 16 16
exec 8<&-
fails "nobody can open it any more" sh -c "exec 8<$kept"
must "its device can be hidden" rwsnap hide prod@kept
must "the kernel's log says so" sh -c "dmesg | grep -i 'rwsnap.*kept'"
detach
must "the pool is sound" rwsnap check "$save"

# Writes fail; what could be kept is kept.
begin fail
before=$(sum "$prod")
fails "a write that finds no room fails" write_all "$prod"
must "the snapshot is exposed" rwsnap expose prod@kept
is "the snapshot has not changed by a byte" "$before" sum "$(dev prod@kept)"
must "it is hidden" rwsnap hide prod@kept
must "the snapshot is destroyed" rwsnap destroy prod@kept
wait_for "then there is room" 60 write_all "$prod"
detach
must "the pool is sound after writes failed" rwsnap check "$save"

# Writes wait until there is room.
begin stall
before=$(sum "$prod")
write_all "$prod" >"$W/stalled" 2>&1 &
writer=$!
sleep $((8 * SLOWNESS))
must "the write waits" kill -0 $writer
must "production can be read meanwhile" dd if="$prod" of=/dev/null bs=64k count=16 iflag=direct
must "the snapshot is exposed while the write waits" rwsnap expose prod@kept
is "the snapshot has not changed by a byte meanwhile" "$before" sum "$(dev prod@kept)"
must "it is hidden again" rwsnap hide prod@kept
must "room is made" rwsnap destroy prod@kept
must "the write ends well" wait $writer
detach
