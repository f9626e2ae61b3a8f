# SPDX-License-Identifier: MIT
#
# title: flushes fail: nobody is told that his data is safe
# time: 90
#
# Memory-backed null_blk with a volatile cache, with dm-flakey over it.
. /ktest/cases/lib.sh

must "a disk in memory for production" null low 64
must "a disk in memory to save to" null high 128
must "production's flushes may fail" flakey low /dev/low
must "the save volume's flushes may fail" flakey high /dev/high
save=/dev/mapper/high
pool $save --production prod=/dev/mapper/low
prod=$(dev prod)
is "the device has a volatile cache" "write back" \
    cat "/sys/block/$(basename "$(readlink -f "$prod")")/queue/write_cache"
must "a snapshot" rwsnap snapshot prod@a
must "a clone" rwsnap clone prod@a dev1
clone=$(dev dev1)
must "the clone is written" write_at "$clone" 0 100

must "flushes of production's disk fail" flakey_is low /dev/low unflushed
fails "who flushes production is told" write_at "$prod" 0 10
must "flushes work again" flakey_is low /dev/low up
must "production is flushed" write_at "$prod" 0 10

must "flushes of the save volume fail" flakey_is high /dev/high unflushed
fails "who flushes a clone is told" write_at "$clone" 200 10
must "flushes of the save volume work again" flakey_is high /dev/high up
must "the pool can be detached" rwsnap detach tank
must "it is sound" rwsnap check $save
attach $save
must "the clone is flushed" write_at "$(dev dev1)" 200 10
detach
