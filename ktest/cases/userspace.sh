# SPDX-License-Identifier: MIT
#
# title: the server on this kernel: a pool on disks that udevd watches
# disks: 64M 128M
# time: 60
# module: no
#
# Each time that a disk is closed after it was written, udevd looks at it, for a moment with a lock
# on it. Whoever makes a pool and serves it right away must not be refused for that.
. /ktest/cases/lib.sh

served() {
    grep '^rwsnap: ready' "$W/served" || { cat "$W/served"; false; }
}

checked "$2"
for round in 1 2 3 4 5; do
    must "a pool is made ($round)" rwsnap create "$2" --force -q --production prod="$1"
    # What the last one said is not to be taken for this one's word.
    : >"$W/served"
    rwsnap serve "$2" >"$W/served" 2>&1 &
    server=$!
    wait_for "it is served at once" 10 served
    must "a snapshot" rwsnap snapshot prod@a
    must "a clone" rwsnap clone prod@a dev1
    must "the clone is written" sh -c "echo $round | rwsnap write dev1 --offset 1M"
    is "and read" "$round" sh -c "rwsnap read dev1 --offset 1M --length 4K | head -n 1"
    must "the server ends" rwsnap stop
    wait $server
done
