# SPDX-License-Identifier: MIT
#
# title: memory is refused to the module: commands fail or not, and nothing breaks
# disks: 64M 128M
# time: 240
. /ktest/cases/lib.sh

slab=/sys/kernel/debug/failslab
pages=/sys/kernel/debug/fail_page_alloc

# Who has made it so fails now and then; none of that is shown in the log.
arm() {
    for home in $slab $pages; do
        echo Y >$home/task-filter
        echo 0 >$home/verbose
        echo N >$home/ignore-gfp-wait
        echo -1 >$home/times
        echo 1 >$home/interval
        echo "$1" >$home/probability
    done
    echo 0 >$pages/min-order
}

disarm() {
    for home in $slab $pages; do
        echo 0 >$home/probability
    done
}

# A command that gets less memory than it wants. It may fail, even to start, or be killed by it
# half way into `exec`; but it ends. (`run` reads $W/said: what is said here goes elsewhere.)
starved() {
    timeout 60 sh -c 'echo 1 >/proc/self/make-it-fail; exec "$@"' sh "$@" >"$W/starved" 2>&1
    starved=$?
    echo "$starved: $*"
    [ $starved != 124 ] || { cat "$W/starved"; return 1; }
}

# The module's own threads, too: whoever has the module in his stack.
arm_module() {
    text=/sys/module/rwsnap/sections/.text
    [ -e $slab/require-start ] && [ -e $text ] || return 1
    start=$(cat $text)
    size=$(awk '$1 == "rwsnap" { print $2 }' /proc/modules)
    # The shell's numbers have a sign: modules lie in the last 2 GiB, of which the low half counts.
    end=$(printf '0xffffffff%08x' $((0x${start#0xffffffff} + size)))
    arm 0
    for home in $slab $pages; do
        echo N >$home/task-filter
        echo "$start" >$home/require-start
        echo "$end" >$home/require-end
        echo 32 >$home/stacktrace-depth
        echo 2 >$home/probability
    done
}

verbs() {
    for n in $(seq 6); do
        starved rwsnap snapshot "prod@$1$n" || return 1
        starved rwsnap clone "prod@$1$n" "$1$n" || return 1
        starved rwsnap refresh "$1$n" || return 1
        starved rwsnap expose "prod@$1$n" || return 1
        starved rwsnap hide "prod@$1$n" || return 1
        starved rwsnap list || return 1
        starved rwsnap destroy -r "$1$n" || return 1
    done
}

tolerate 'page allocation failure'
# vmalloc shows one of each failure; whatever else shows one says WARNING or BUG as well.
tolerate 'Call Trace'
[ -e $slab ] && [ -e $pages ] || skip "the kernel has no failslab"
finally disarm
pool "$2" --production prod="$1"
prod=$(dev prod)
must "production has data" write_at "$prod" 0 8000
must "a snapshot to compare with" rwsnap snapshot prod@zero
must "a clone to compare with" rwsnap clone prod@zero zero
zero=$(sum "$(dev zero)")

for probability in 2 10 40; do
    arm $probability
    must "verbs end in order when $probability of 100 allocations fail" verbs "p$probability"
    disarm
    # A clone whose device there was no memory for is made all the same; any command tries again.
    is "each volume has its device" "" sh -c "rwsnap list -H -t clone -o node | grep -x -- -"
    must "production is written" write_at "$prod" $((probability * 100)) 500
    is "the clone is as it was" "$zero" sum "$(dev zero)"
done

# Memory fails once, at each of many places. A clone was said not to be made when it was its device
# that there was no memory for.
clone_but_nth() {
    sh -c 'echo $0 >/proc/self/fail-nth; exec "$@"' "$1" rwsnap clone prod@zero once &&
        rwsnap list -H -t clone -o name,node once | grep /dev/rwsnap
}

if [ -e /proc/self/fail-nth ]; then
    for home in $slab $pages; do
        echo N >$home/ignore-gfp-wait
        echo 0 >$home/verbose
    done
    for n in $(seq 150 20 690); do
        clone_but_nth "$n" >"$W/nth" 2>&1
        rc=$?
        if rwsnap list -H once >"$W/said" 2>&1; then
            is "when allocation $n fails, the clone that was made has its device" 0 echo $rc
            must "it is destroyed" rwsnap destroy once
        fi
    done
    [ "$KTEST_KERNEL" != plain ] ||
        must "the log says that a device was missing" sh -c "dmesg | grep 'a device is missing'"
fi

detach
for try in 1 2 3 4 5 6; do
    arm $((try * 8))
    starved rwsnap attach "$2"
    disarm
    udevadm settle --timeout=30
    test -e "$(dev prod)" || continue
    must "it was attached with little memory ($try)" rwsnap detach tank
done
attach "$2"
prod=$(dev prod)
if arm_module; then
    must "fio finds what it wrote while the module's own memory is refused" \
        load starved 32M 10 "$prod"
    disarm
fi
is "the clone is as it was at the end" "$zero" sum "$(dev zero)"
detach
