# SPDX-License-Identifier: MIT
#
# title: disks that forget flushes are noticed: the cases with power cuts can fail
# forgetful: 16M 160M
# disks: 64M
# time: 240
. /ktest/cases/lib.sh

low=$1 save=$2 journal=$3
need_module
lost=
for cut in 1 2 3 4 5 6; do
    must "a pool ($cut)" rwsnap create "$save" --force --name tank -q --production prod="$low"
    udevadm settle --timeout=30
    attach "$save"
    must "the record begins" witness begin "$journal"
    power cut in 3000
    must "nothing is wrong until the power goes" \
        witness work "$journal" --seconds 60 --seed "$cut" --probe "$low"
    wait_for "the pool can be detached" 30 rwsnap detach tank
    power on
    wait_for "the power is back" 30 have_power "$low" "$save"
    forget "$low" "$save"
    if ! { rwsnap check "$save" && rwsnap attach "$save" && witness verify "$journal"; }; then
        lost=$cut
        break
    fi
    detach
done
rwsnap detach tank
must "what was lost was noticed" test -n "$lost"
