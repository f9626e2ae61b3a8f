# SPDX-License-Identifier: MIT
#
# title: detaching and unloading while in use is refused, and does no harm
# disks: 128M 128M
# time: 120
. /ktest/cases/lib.sh

# Whether anything was written to a device since it was made.
written() {
    awk '{ exit $5 == 0 }' "/sys/block/$(basename "$(readlink -f "$1")")/stat"
}

pool "$2" --production prod="$1"
prod=$(dev prod)
fs mkfs.ext4 "$prod" /mnt/prod
must "files are written" fill /mnt/prod/files 10
files=$(tree_sum /mnt/prod/files)

refused "detaching while mounted is refused" open rwsnap detach tank
fails "unloading while mounted is refused" rmmod rwsnap
is "the files are there" "$files" tree_sum /mnt/prod/files
unmounted /mnt/prod
fails "unloading while attached is refused" rmmod rwsnap

must "a snapshot" rwsnap snapshot prod@a
must "a clone" rwsnap clone prod@a dev1
load busy 64M $((10 * SLOWNESS)) "$(dev dev1)" >"$W/load" 2>&1 &
fio=$!
wait_for "it writes" 30 written "$(dev dev1)"
for try in 1 2 3; do
    refused "detaching under load is refused ($try)" open rwsnap detach tank
done
refused "a clone under load is not destroyed" dev1 rwsnap destroy dev1
must "the load goes on to its end, and finds what it wrote" wait $fio

must "the snapshot is exposed" rwsnap expose prod@a
exec 8<"$(dev prod@a)"
refused "detaching while somebody has a snapshot open is refused" open rwsnap detach tank
refused "hiding it is refused as well" open rwsnap hide prod@a
exec 8<&-
must "hiding it works when it is closed" rwsnap hide prod@a
detach
must "then the module can be unloaded" rmmod rwsnap
