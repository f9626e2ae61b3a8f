# SPDX-License-Identifier: MIT
#
# title: production cannot be read in places: a snapshot loses these, and nothing else
# disks: 64M 64M
# time: 90
#
# dm-dust fails reads of a bad block until it is written.
. /ktest/cases/lib.sh

modprobe dm-dust
below=$1 save=$2
must "production has data" sh -c "head -c 67108864 /dev/urandom >$below && sync"
before=$(dd if="$below" bs=4k count=1000 2>/dev/null | witness sum)
dmsetup create dust --table "0 $(blockdev --getsz "$below") dust $below 0 4096"
finally "dmsetup remove dust"
pool "$save" --copy-span 4K --production prod=/dev/mapper/dust
prod=$(dev prod)
must "a snapshot" rwsnap snapshot prod@a
for block in 2000 2001 3000; do
    must "block $block goes bad" dmsetup message dust 0 addbadblock $block
done
must "bad blocks fail" dmsetup message dust 0 enable

fails "production has an error there" read_at "$prod" 2000 1
must "and none beside it" read_at "$prod" 2002 100
must "production is written there" write_at "$prod" 2000 2
must "production can be read there again" read_at "$prod" 2000 2
must "the snapshot is exposed" rwsnap expose prod@a
snap=$(dev prod@a)
fails "the snapshot has lost what could not be kept" read_at "$snap" 2000 1
fails "and the block beside it" read_at "$snap" 2001 1
must "it has the rest" read_at "$snap" 2002 900
is "the rest is as it was" "$before" sh -c "dd if=$snap bs=4k count=1000 iflag=direct | witness sum"
must "it is flagged" flagged prod@a damaged
must "bad blocks heal" dmsetup message dust 0 disable
must "what was bad and not written is there again" read_at "$snap" 3000 1
must "it is hidden" rwsnap hide prod@a
detach
attach "$save"
must "the snapshot is exposed again" rwsnap expose prod@a
fails "what is lost stays lost" read_at "$(dev prod@a)" 2000 1
must "it is hidden again" rwsnap hide prod@a
detach
