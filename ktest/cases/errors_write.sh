# SPDX-License-Identifier: MIT
#
# title: production cannot be written in places: only writes there fail
# disks: 64M 64M
# time: 90
. /ktest/cases/lib.sh

below=$1
pool "$2" --production prod="$below"
prod=$(dev prod)
must "production has data" write_at "$prod" 0 4000
must "a snapshot" rwsnap snapshot prod@a
must "a clone" rwsnap clone prod@a dev1
clone=$(dev dev1)
before=$(sum "$clone")

finally "heal $below"
must "writes of sectors 8000 to 8007 fail" inject "$below" WRITE start=8000 nr_sectors=8
fails "production cannot be written there" write_at "$prod" 1000 1
must "it can beside it" write_at "$prod" 1001 1
must "it can be read there" read_at "$prod" 1000 1
is "the clone is as it was" "$before" sum "$clone"
must "the clone can be written there" write_at "$clone" 1000 1
must "writes work again" heal "$below"
must "production can be written there again" write_at "$prod" 1000 1

must "reads of sectors 16000 to 16007 fail" inject "$below" READ start=16000 nr_sectors=8
fails "production cannot be read there" read_at "$prod" 2000 1
fails "the clone, which shares it, cannot either" read_at "$clone" 2000 1
must "the clone can be written there all the same" write_at "$clone" 2000 1
must "then it can be read" read_at "$clone" 2000 1
must "reads work again" heal "$below"
must "production can be read there again" read_at "$prod" 2000 1
must "the kernel's log has not a line for each" \
    test "$(kernel_log | grep -c 'rwsnap: ')" -lt 40
detach
