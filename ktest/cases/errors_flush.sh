# SPDX-License-Identifier: MIT
#
# title: flushes fail: nobody is told that his data is safe
# time: 90
#
# Memory-backed null_blk with a volatile cache.
. /ktest/cases/lib.sh

modprobe null_blk nr_devices=0
# null NAME MEGABYTES
null() {
    home=/sys/kernel/config/nullb/$1
    mkdir "$home" || return 1
    finally "rmdir $home"
    finally "echo 0 >$home/power"
    echo "$2" >"$home/size"
    echo 1 >"$home/memory_backed"
    echo 1 >"$home/discard"
    echo 64 >"$home/cache_size"
    echo 512 >"$home/blocksize"
    echo 1 >"$home/power"
    test -b "/dev/$1"
}

must "a disk in memory for production" null low 64
must "a disk in memory to save to" null save 128
pool /dev/save --production prod=/dev/low
prod=$(dev prod)
is "the device has a volatile cache" "write back" \
    cat "/sys/block/$(basename "$(readlink -f "$prod")")/queue/write_cache"
must "a snapshot" rwsnap snapshot prod@a
must "a clone" rwsnap clone prod@a dev1
clone=$(dev dev1)
must "the clone is written" write_at "$clone" 0 100

must "flushes of production's disk fail" inject /dev/low FLUSH start=0
fails "who flushes production is told" write_at "$prod" 0 10
must "flushes work again" heal /dev/low
must "production is flushed" write_at "$prod" 0 10

must "flushes of the save volume fail" inject /dev/save FLUSH start=0
fails "who flushes a clone is told" write_at "$clone" 200 10
must "flushes of the save volume work again" heal /dev/save
must "the pool can be detached" rwsnap detach tank
must "it is sound" rwsnap check /dev/save
attach /dev/save
must "the clone is flushed" write_at "$(dev dev1)" 200 10
detach
