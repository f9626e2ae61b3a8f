# SPDX-License-Identifier: MIT
#
# title: the power goes: all that was durable is there, and every byte of every snapshot
# lossy: 16M 160M
# disks: 64M
# time: 420
#
# `witness` (ktest/witness) writes, snapshots, clones, refreshes and restores, and keeps a record
# of what is durable on a disk that loses nothing; fio loads a clone with verification. At a random
# moment the power goes: for the disks alone, and the module has to let go of them in order; or for
# the whole guest. Then the pool is checked as it lies, attached, and compared with the record.
. /ktest/cases/lib.sh

CUTS=${CUTS:-10}
# Each so manyth cut takes the guest along; its next life begins with looking.
OFF=${OFF:-5}
low=$1 save=$2 journal=$3
# The record of how many cuts there were lies at the journal's end.
place=$(($(blockdev --getsz "$journal") / 8 - 1))

cuts_so_far() {
    dd if="$journal" bs=4k skip=$place count=1 iflag=direct 2>/dev/null | head -c 8
}

cut_counted() {
    printf '%08d' "$1" | dd of="$journal" bs=4k seek=$place count=1 conv=sync,fsync 2>/dev/null
}

random() {
    witness random "$1" "$KTEST_SEED$cut"
}

# work ORDER: the workload until the power is gone; a clone for fio is made anew each time.
work() {
    : >"$W/fio"
    rwsnap destroy fio >/dev/null 2>&1
    newest=$(rwsnap list -H -t snapshot -o name | grep '^prod@s' | tail -n 1)
    if [ -n "$newest" ] && rwsnap clone "$newest" fio; then
        load fio 12M 600 "$(dev fio)" >"$W/fio" 2>&1 &
    fi
    power "$1" in $((1000 * SLOWNESS + $(random $((3000 * SLOWNESS)))))
    witness work "$journal" --seconds 60 --seed "$KTEST_SEED$cut" --probe "$low"
    rc=$?
    wait
    if grep -i verify: "$W/fio"; then
        return 1
    fi
    [ $rc = 0 ]
}

look() {
    forget "$low" "$save"
    run rwsnap check "$save" || { not_ok "cut $cut: the pool is sound" <"$W/said"; exit 1; }
    run rwsnap attach "$save" || { not_ok "cut $cut: it is attached" <"$W/said"; exit 1; }
    udevadm settle --timeout=30
    [ "$cut" = 0 ] || rwsnap destroy fio
    run witness verify "$journal" || {
        not_ok "cut $cut: all is there that has to be" <"$W/said"
        exit 1
    }
}

checked "$save"
need_module
if [ "$KTEST_LIFE" = 1 ]; then
    cut=0
    cut_counted 0
    create "$save" --production prod="$low"
    attach "$save"
    must "a snapshot to clone from" rwsnap snapshot prod@s0
    must "the record begins" witness begin "$journal"
else
    cut=$(cuts_so_far | sed 's/^0*\(.\)/\1/')
    look
    ok "cut $cut took the guest along, and all is there"
fi
while [ "$cut" -lt "$CUTS" ]; do
    cut=$((cut + 1))
    cut_counted $cut
    if [ $((cut % OFF)) = 0 ]; then
        work off
        # No power, no end.
        sleep 600
    fi
    must "cut $cut: nothing is wrong until the power goes" work cut
    fails "cut $cut: it is gone" has_power "$save"
    wait_for "cut $cut: the pool can be detached" 30 rwsnap detach tank
    power on
    wait_for "cut $cut: the power is back" 30 have_power "$low" "$save"
    look
    ok "cut $cut: all is there"
done
detach
