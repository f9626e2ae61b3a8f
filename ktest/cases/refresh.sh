# SPDX-License-Identifier: MIT
#
# title: refresh: the clone's name and device stay, its contents are today's
# disks: 128M 256M
# time: 120
. /ktest/cases/lib.sh

pool "$2" --production prod="$1"
prod=$(dev prod)
fs mkfs.ext4 "$prod" /mnt/prod
must "files are written" fill /mnt/prod/files 20
must "a snapshot" rwsnap snapshot prod@monday
must "a clone" rwsnap clone prod@monday dev1
wait_for "the clone has its device" 5 test -b "$(dev dev1)"
node=$(readlink -f "$(dev dev1)")
monday=$(tree_sum /mnt/prod/files)
must "production goes on" fill /mnt/prod/files 20
tuesday=$(tree_sum /mnt/prod/files)

mounted "$(dev dev1)" /mnt/dev1
is "the clone has Monday's files" "$monday" tree_sum /mnt/dev1/files
refused "a refresh under a mounted file system is refused" dev1 rwsnap refresh dev1
must "the clone gets files of its own" fill /mnt/dev1/own 10
unmounted /mnt/dev1

must "the clone is refreshed" rwsnap refresh dev1
is "it has the device that it had" "$node" readlink -f "$(dev dev1)"
mounted "$(dev dev1)" /mnt/dev1
is "it has Tuesday's files" "$tuesday" tree_sum /mnt/dev1/files
fails "its own are gone" test -e /mnt/dev1/own
must "it gets others" fill /mnt/dev1/others 5
others=$(tree_sum /mnt/dev1/others)
unmounted /mnt/dev1

must "it is refreshed to Monday, and what it was is kept" \
    rwsnap refresh dev1 --to prod@monday --keep dev1-old
mounted "$(dev dev1)" /mnt/dev1
is "it has Monday's files" "$monday" tree_sum /mnt/dev1/files
mounted "$(dev dev1-old)" /mnt/kept
is "what was kept has its own files" "$others" tree_sum /mnt/kept/others
unmounted /mnt/dev1
unmounted /mnt/kept
unmounted /mnt/prod
for volume in prod dev1 dev1-old; do
    must "ext4 on $volume is clean" e2fsck -fn "$(dev $volume)"
done
must "the clones are destroyed" rwsnap destroy dev1 dev1-old
wait_for "their devices are gone" 10 test ! -e "$(dev dev1)"
detach
