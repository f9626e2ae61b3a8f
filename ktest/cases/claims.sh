# SPDX-License-Identifier: MIT
#
# title: the 17 tests of the claims, from the scenarios of userspace
# time: 900
#
# /claims is the binary of `cargo test --release -p rwsnap --test claims --no-run`, copied. Volumes
# are loop devices over files in memory; each scenario attaches a pool of its own, detaches it at
# its end, and has it checked. claims_4096.sh does the same on devices with blocks of 4096 bytes.
. /ktest/cases/lib.sh

# Seconds that one test may take.
ONE=$((150 * SLOWNESS))

export RWSNAP_MEDIUM="${CLAIMS_MEDIUM:-module-512}"
RWSNAP_PROGRAM=$(command -v rwsnap)
export RWSNAP_PROGRAM TMPDIR="$W"

need_module
modprobe -q loop
tests=$(/claims --list --format terse claim_ 2>"$W/said" | sed -n 's/: test$//p')
is "there are 17 tests" 17 sh -c "echo $(echo "$tests" | wc -w)"

# One that fails does not keep the others from being seen.
for test in $tests; do
    if run timeout "$ONE" /claims --exact "$test" --test-threads 1; then
        ok "$test"
    else
        { echo "exit $rc"; grep -A 3 'panicked at' "$W/said"; } | not_ok "$test"
    fi
done
