# SPDX-License-Identifier: MIT
#
# title: ext4 on production, a snapshot, and two clones of it, mounted all at once
# disks: 192M 256M
# time: 120
. /ktest/cases/lib.sh

pool "$2" --production prod="$1"
prod=$(dev prod)
must "production has its device" test -b "$prod"
is "it is as large as what is below it" "$(blockdev --getsize64 "$1")" blockdev --getsize64 "$prod"
fails "what is below it is taken" mount -t ext4 "$1" /mnt

fs mkfs.ext4 "$prod" /mnt/prod
must "files are written" fill /mnt/prod/old 40
old=$(tree_sum /mnt/prod/old)

must "a snapshot is taken under the mounted file system" rwsnap snapshot prod@monday
must "more is written" fill /mnt/prod/new 10
must "what was there is written again" sh -c "head -c 3000000 /dev/zero >/mnt/prod/old/large"
sync

must "a clone is made" rwsnap clone prod@monday dev1
must "another clone is made" rwsnap clone prod@monday dev2
for clone in dev1 dev2; do
    mounted "$(dev $clone)" /mnt/$clone
    is "$clone has Monday's files" "$old" tree_sum /mnt/$clone/old
    fails "$clone has none of those that came later" test -e /mnt/$clone/new
done
must "the first clone is written" fill /mnt/dev1/own 20
must "the second clone is written" sh -c "rm -r /mnt/dev2/old && sync"
is "the first has what it had" "$old" tree_sum /mnt/dev1/old
own=$(tree_sum /mnt/dev1/own)
fails "production knows nothing of it" test -e /mnt/prod/own

must "the snapshot is exposed" rwsnap expose prod@monday
snap=$(dev prod@monday)
is "its device is read-only" 1 blockdev --getro "$snap"
mounted "$snap" /mnt/snap -o ro
is "it has Monday's files" "$old" tree_sum /mnt/snap/old
unmounted /mnt/snap
must "it is clean without its journal being replayed" e2fsck -fn "$snap"
fails "it cannot be written" dd if=/dev/zero of="$snap" bs=4096 count=1 conv=fsync
must "it is hidden again" rwsnap hide prod@monday
wait_for "its device is gone" 10 test ! -e "$snap"

unmounted /mnt/dev1
unmounted /mnt/dev2
unmounted /mnt/prod
for volume in prod dev1 dev2; do
    must "ext4 on $volume is clean" e2fsck -fn "$(dev $volume)"
done

# A by-uuid link might lead anywhere: all of them bear the same UUID.
uuid=$(blkid -p -s UUID -o value "$prod")
link=$(readlink -f "/dev/disk/by-uuid/$uuid")
for clone in dev1 dev2; do
    must "the by-uuid link does not lead to $clone" \
        test "$link" != "$(readlink -f "$(dev $clone)")"
done

detach
fails "its devices are gone" test -e "$prod"
must "production is ext4 without the module" e2fsck -fn "$1"
attach "$2"
mounted "$(dev dev1)" /mnt/dev1
is "the clone's own files are there" "$own" tree_sum /mnt/dev1/own
is "Monday's files are there" "$old" tree_sum /mnt/dev1/old
unmounted /mnt/dev1
detach
