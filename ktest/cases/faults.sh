# SPDX-License-Identifier: MIT
#
# title: the faults that other cases are built on do what is said of them
# disks: 64M 64M
# time: 60
# module: no
. /ktest/cases/lib.sh

must "a disk can be written" write_at "$1" 0 100
must "its writes in a place fail" inject "$1" WRITE start=80 nr_sectors=8
fails "they do" write_at "$1" 10 1
must "those beside do not" write_at "$1" 11 1
must "reads do not" read_at "$1" 10 1
must "the disk heals" heal "$1"
must "all is well again" write_at "$1" 0 100

modprobe dm-dust
must "a disk gets bad blocks" dmsetup create dust --table "0 131072 dust $2 0 4096"
finally "dmsetup remove dust"
must "block 7 is bad" dmsetup message dust 0 addbadblock 7
must "bad blocks fail" dmsetup message dust 0 enable
fails "it cannot be read" read_at /dev/mapper/dust 7 1
must "its neighbour can" read_at /dev/mapper/dust 8 1
must "it can be written" write_at /dev/mapper/dust 7 1
must "then it can be read" read_at /dev/mapper/dust 7 1

must "a disk is flakey" flakey flakey "$1"
must "it can be written while it is up" write_at /dev/mapper/flakey 0 10
must "it goes down" flakey_is flakey "$1" down
fails "it cannot be written while it is down" write_at /dev/mapper/flakey 0 10
must "it can be read" read_at /dev/mapper/flakey 0 10
must "it comes up" flakey_is flakey "$1" up
must "it can be written again" write_at /dev/mapper/flakey 0 10

must "a disk in memory" null low 64
must "it keeps what is written" write_at /dev/low 0 100
must "its flushes may fail" flakey unflushed /dev/low
must "they do not yet" write_at /dev/mapper/unflushed 0 10
must "now they do" flakey_is unflushed /dev/low unflushed
fails "who flushes is told" write_at /dev/mapper/unflushed 0 10
must "who does not, is not" \
    dd if=/dev/zero of=/dev/mapper/unflushed bs=4k count=10 oflag=direct conv=notrunc
must "it heals" flakey_is unflushed /dev/low up
must "flushes work again" write_at /dev/mapper/unflushed 0 10

must "memory can be refused" test -e /sys/kernel/debug/failslab/probability
