# SPDX-License-Identifier: MIT
#
# title: the guest itself: its tools, its disks, its log
# disks: 64M 64M:4096
# time: 40
# module: no
#
# Needs no module: what fails here is wrong with the tests, not with what they test.
. /ktest/cases/lib.sh

for tool in fio mkfs.ext4 e2fsck mkfs.xfs xfs_repair dmsetup thin_check lsblk udevadm rwsnap; do
    must "there is $tool" which $tool
done

is "the first disk has blocks of 512 bytes" 512 blockdev --getss "$1"
is "the second disk has blocks of 4096 bytes" 4096 blockdev --getss "$2"
is "disks have a volatile cache" "write back" cat "/sys/block/${1#/dev/}/queue/write_cache"
must "udevd names disks" test -e /dev/disk/by-id/virtio-ktest0

for module in null_blk brd loop nbd xfs dm-flakey dm-dust dm-delay dm-log-writes dm-snapshot \
    dm-thin-pool dm-zero; do
    must "the kernel has $module" modprobe $module
done
must "a device of dm is made, and udevd names it" dmsetup create zero --table "0 8192 zero"
must "it has its name" test -b /dev/mapper/zero
must "it goes away" dmsetup remove zero


fs mkfs.ext4 "$1" /mnt/a
must "files are written" fill /mnt/a/some 20
before=$(tree_sum /mnt/a/some)
unmounted /mnt/a
must "ext4 is clean" e2fsck -fn "$1"
mounted "$1" /mnt/a
is "the files are as they were" "$before" tree_sum /mnt/a/some
must "fio runs and verifies" load check 8M 2 "$2"
is "user space works on its own" "0" sh -c "rwsnap --version >/dev/null; echo \$?"
