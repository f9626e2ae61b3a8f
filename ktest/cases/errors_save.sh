# SPDX-License-Identifier: MIT
#
# title: the save volume fails: what was flushed is there when it works again
# disks: 64M 128M
# time: 120
#
# dm-flakey has all writes fail for a while.
. /ktest/cases/lib.sh

must "the save volume is flakey" flakey save "$2"
save=/dev/mapper/save
pool $save --production prod="$1"
prod=$(dev prod)
must "production has data" write_at "$prod" 0 8000
must "a snapshot" rwsnap snapshot prod@a
must "production is written over it" write_at "$prod" 0 500
must "a clone" rwsnap clone prod@a dev1
must "the clone is written" write_at "$(dev dev1)" 3000 500
must "all is durable" sync
before=$(sum "$(dev dev1)")

must "the save volume's writes fail" flakey_is save "$2" down
fails "a clone's write fails, and is not forgotten" write_at "$(dev dev1)" 6000 10
must "production can be read" read_at "$prod" 0 1000
write_at "$prod" 2000 100 >/dev/null 2>&1
fails "a snapshot cannot be taken" rwsnap snapshot prod@b
must "the kernel's log says that something failed" sh -c "dmesg | grep -i 'rwsnap:'"

must "the save volume works again" flakey_is save "$2" up
must "the pool can be detached" rwsnap detach tank
must "the pool is sound" rwsnap check $save
attach $save
clone=$(dev dev1)
is "the clone's flushed data is there" "$before" sum "$clone"
must "it can be written again" write_at "$clone" 6000 10
must "a snapshot can be taken again" rwsnap snapshot prod@b
detach
