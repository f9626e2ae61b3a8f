# SPDX-License-Identifier: MIT
#
# title: fio with verify on production and clones, under snapshot, refresh, restore, destroy
# disks: 128M 512M
# time: 300
. /ktest/cases/lib.sh

ROUNDS=3
pool "$2" --production prod="$1"
prod=$(dev prod)
must "production has data" write_at "$prod" 0 16000
must "the first snapshot" rwsnap snapshot prod@s0
must "a clone that stays" rwsnap clone prod@s0 stays
stays=$(sum "$(dev stays)")

# churn ROUND: snapshots come and go, clones are made, written, refreshed and destroyed.
churn() {
    for n in 1 2 3 4 5 6; do
        rwsnap snapshot "prod@r$1n$n" || return 1
        rwsnap clone "prod@r$1n$n" "c$n" || return 1
        write_at "$(dev "c$n")" $((n * 300)) 200 || return 1
        rwsnap refresh "c$n" || return 1
        write_at "$(dev "c$n")" $((n * 200)) 100 || return 1
        rwsnap snapshot "c$n@own" || return 1
        [ $((n % 2)) = 0 ] || rwsnap destroy -r "c$n" || return 1
    done
    rwsnap destroy -r c2 c4 c6
    rwsnap destroy "prod@r$1n1" "prod@r$1n3" "prod@r$1n5"
}

for round in $(seq $ROUNDS); do
    must "a clone to load in round $round" rwsnap clone prod@s0 "load$round"
    load prod 48M $((6 * SLOWNESS)) "$prod" >"$W/load1" 2>&1 &
    first=$!
    load "clone$round" 48M $((6 * SLOWNESS)) "$(dev "load$round")" >"$W/load2" 2>&1 &
    second=$!
    must "snapshots and clones come and go under load" churn "$round"
    must "production holds what fio wrote" wait $first
    must "the clone holds what fio wrote" wait $second
    must "a moment to go back to" rwsnap snapshot "prod@end$round"
    end=$(sum "$prod")
    must "production is restored from the beginning" rwsnap restore prod --from prod@s0
    is "it reads as in the beginning" "$stays" sum "$prod"
    must "it is written while it is merged" write_at "$prod" 5000 500
    must "the merge ends" rwsnap restore prod --wait
    must "production is restored from the round's end" \
        rwsnap restore prod --from "prod@end$round" --no-undo --wait
    is "it reads as at the round's end" "$end" sum "$prod"
    is "the clone that stays is as it was" "$stays" sum "$(dev stays)"
    must "the loaded clone goes" rwsnap destroy -r "load$round"
done
detach
