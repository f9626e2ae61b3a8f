# SPDX-License-Identifier: MIT
#
# title: XFS on production and two clones, mounted at once (clones with nouuid)
# disks: 384M:4096 384M:4096
# time: 180
. /ktest/cases/lib.sh

modprobe xfs
pool "$2" --production prod="$1"
prod=$(dev prod)
is "the device has the blocks of what is below it" 4096 blockdev --getss "$prod"
fs mkfs.xfs "$prod" /mnt/prod
must "files are written" fill /mnt/prod/old 40
old=$(tree_sum /mnt/prod/old)
must "a snapshot is taken under the mounted file system" rwsnap snapshot prod@monday
must "more is written" fill /mnt/prod/new 20

for clone in dev1 dev2; do
    must "$clone is made" rwsnap clone prod@monday $clone
    mounted "$(dev $clone)" /mnt/$clone -t xfs -o nouuid
    is "$clone has Monday's files" "$old" tree_sum /mnt/$clone/old
    must "$clone is written" fill /mnt/$clone/own 10
done
must "a clone's files go" rm -r /mnt/dev1/old
must "what is free is discarded" sh -c "fstrim /mnt/prod && fstrim /mnt/dev1"
is "the other clone has them still" "$old" tree_sum /mnt/dev2/old
is "production has them still" "$old" tree_sum /mnt/prod/old

for name in prod dev1 dev2; do
    unmounted /mnt/$name
    must "xfs_repair finds nothing on $name" xfs_repair -n "$(dev $name)"
done
must "the snapshot is exposed" rwsnap expose prod@monday
mounted "$(dev prod@monday)" /mnt/snap -t xfs -o ro,norecovery,nouuid
is "the snapshot has Monday's files" "$old" tree_sum /mnt/snap/old
unmounted /mnt/snap
must "the snapshot is hidden" rwsnap hide prod@monday
detach
must "xfs_repair finds nothing without the module" xfs_repair -n "$1"
