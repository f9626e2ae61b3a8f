#!/bin/sh
# SPDX-License-Identifier: MIT
# The 17 tests of the claims, from the same scenarios as in userspace
# disks: none
# limit: 900
#
# /claims is the binary of `cargo test --release -p rwsnap --test claims --no-run`. Its volumes are
# loop devices with blocks of 512 and of 4096 bytes over files in memory; each scenario attaches a
# pool of its own, detaches it at the end, and has it checked.

# Seconds that one test may take.
ONE=300

export RWSNAP_MEDIUM=module
export RWSNAP_PROGRAM="${RWSNAP_PROGRAM:-$(command -v rwsnap)}"
export RWSNAP_RUNTIME_DIR=/tmp/claims/run
export TMPDIR=/tmp/claims

mkdir -p "$TMPDIR"
mount -t tmpfs -o size=75% claims "$TMPDIR" || exit 1

tests=$(/claims --list --format terse claim_ | sed -n 's/: test$//p')

echo "KTAP version 1"
echo "1..17"
number=0
failed=0
for test in $tests; do
    number=$((number + 1))
    if timeout "$ONE" /claims --exact "$test" --test-threads 1 >"$TMPDIR/said" 2>&1; then
        echo "ok $number $test"
    else
        sed 's/^/# /' "$TMPDIR/said"
        echo "not ok $number $test"
        failed=1
    fi
done

umount "$TMPDIR" || echo "# volumes of a test that failed are still in use"
[ "$number" -eq 17 ] && [ "$failed" -eq 0 ]
