# SPDX-License-Identifier: MIT
#
# title: rwsnap beside dm-snapshot and dm-thin on memory
# time: 3600
# kernel: plain
# memory: 3G
# alone
#
# Not among the cases: `ktest bench` runs it. Each round makes every contender anew, one after the
# other, and measures it right beside the bare device. What comes out are remarks in the report:
#
#   # figure: ROUND CACHE CONTENDER WHAT IOPS OPS READS READ_SECTORS WRITES WRITE_SECTORS FLUSHES
. /ktest/cases/lib.sh
. /ktest/cases/measure.sh
. /ktest/cases/contenders.sh

ALL="raw rwsnap-4k dmsnap-4k rwsnap-64k dmsnap-64k dmthin-64k"

# What one snapshot costs production, and what it and a clone of it are like.
one() {
    made "$1" "$2" 1
    if [ "$1" = raw ]; then
        measured "$2" "$1" again randwrite "$(production "$1")" 2
        measured "$2" "$1" read randread "$(production "$1")" 2
        unmade raw
        return
    fi
    step "$1" 1
    measured "$2" "$1" first_1 randwrite "$(production "$1")" 1
    measured "$2" "$1" again randwrite "$(production "$1")" 2
    measured "$2" "$1" read randread "$(production "$1")" 2
    measured "$2" "$1" snapshot_read randread "$(exposed "$1" 1)" 1
    step "$1" 2
    clone=$(cloned "$1" 2)
    measured "$2" "$1" clone_first randwrite "$clone" 1
    measured "$2" "$1" clone_read randread "$clone" 1
    unmade "$1"
}

# First writes with many snapshots, 5 % of the chunks written between each two of them.
many() {
    made "$1" "$2" "$3"
    aged "$1" "$3"
    measured "$2" "$1" "first_$3" randwrite "$(production "$1")" 1
    unmade "$1"
}

# Whether the contender's snapshots can be so many here. dm-snapshot copies a chunk once for each
# of them: it would want 4 GiB and some minutes.
can() {
    [ "$1" != raw ] && { [ "$2" -lt 64 ] || [ "${1%-*}" != dmsnap ]; }
}

left_out() {
    [ -n "$WHO" ] && ! echo ",$WHO," | grep -q ",$1,"
}

# part NAME CACHE: one part of a round.
part() {
    for contender in $ALL; do
        ! left_out "$contender" || continue
        case $1 in
        one) one "$contender" "$2" ;;
        *) ! can "$contender" "$1" || many "$contender" "$2" "$1" ;;
        esac
    done
}

: >"$W/lower"
WHO=$(word who)
modprobe null_blk nr_devices=0
modprobe dm-snapshot
modprobe dm-thin-pool
need_module
udevadm control --exit
for round in $(seq "$(word rounds)"); do
    for part in $(word parts | sed 's/,/ /g'); do
        note "round $round: $part"
        case $part in
        cache)
            ALL="raw rwsnap-4k dmsnap-4k dmthin-64k"
            part one 64
            part 8 64
            ALL="raw rwsnap-4k dmsnap-4k rwsnap-64k dmsnap-64k dmthin-64k"
            ;;
        *) part "$part" 0 ;;
        esac
    done
done
ok "all is measured"
