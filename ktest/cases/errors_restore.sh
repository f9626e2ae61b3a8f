# SPDX-License-Identifier: MIT
#
# title: production fails in the middle of a restore, which goes on when it works again
# disks: 128M 192M
# time: 120
. /ktest/cases/lib.sh

below=$1
pool "$2" --production prod="$below"
prod=$(dev prod)
must "production has data" write_at "$prod" 0 12000
monday=$(sum "$prod")
must "a snapshot" rwsnap snapshot prod@monday
must "production is overwritten" write_at "$prod" 1000 12000
finally "heal $below"
must "a restore goes on slowly" rwsnap restore prod --from prod@monday --rate 4M/s
sleep 2
must "some of production's disk cannot be written" inject "$below" WRITE start=40000 nr_sectors=800
must "the restore may hurry" rwsnap restore prod --rate none
sleep $((4 * SLOWNESS))
must "its state is told" rwsnap restore prod --status
is "production reads as Monday all the same" "$monday" sum "$prod"
must "the disk works again" heal "$below"
if ! timeout $((20 * SLOWNESS)) rwsnap restore prod --wait; then
    detach
    attach "$2"
    prod=$(dev prod)
fi
must "the restore comes to its end" timeout $((60 * SLOWNESS)) rwsnap restore prod --wait
is "production is as on Monday" "$monday" sum "$prod"
detach
is "it is so without the module" "$monday" sum "$below"
