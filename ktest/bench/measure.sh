# SPDX-License-Identifier: MIT
#
# The load, and the I/O that arrives at the devices below.
#
#   made CONTENDER CACHE SNAPSHOTS   the contender on new devices; CACHE is that of null_blk, in MiB
#   unmade CONTENDER                 all of it gone
#   aged CONTENDER SNAPSHOTS         so many snapshots, 5 % of production written between each two
#   measured CACHE CONTENDER WHAT RW DEVICE LOOPS

MEGABYTES=64
SECTORS=$((MEGABYTES * 2048))
BLOCKS=$((MEGABYTES * 256))
NULL=/sys/kernel/config/nullb

# A word of the kernel's command line: `ktest.bench.NAME=`.
word() {
    sed 's/ /\n/g' /proc/cmdline | sed -n "s/^ktest\.bench\.$1=//p"
}

note() {
    echo "$* ($(cut -d' ' -f1 /proc/uptime) s)"
}

# lower NAME MEGABYTES: /dev/NAME in memory, with the cache that is being measured.
lower() {
    mkdir "$NULL/$1" || return 1
    echo "$2" >"$NULL/$1/size"
    echo 1 >"$NULL/$1/memory_backed"
    echo 512 >"$NULL/$1/blocksize"
    cat "$W/cache" >"$NULL/$1/cache_size"
    echo 1 >"$NULL/$1/power"
    echo "$1" >>"$W/lower"
    test -b "/dev/$1"
}

lower_gone() {
    while IFS= read -r name; do
        echo 0 >"$NULL/$name/power"
        rmdir "$NULL/$name"
    done <"$W/lower"
    : >"$W/lower"
}

# Every block of a device is written, so that none of them is a hole.
full() {
    dd if=/dev/zero of="$1" bs=1M count=$MEGABYTES oflag=direct conv=notrunc
}

# Reads, sectors read, writes, sectors written and flushes so far, of all devices below.
counts() {
    while IFS= read -r name; do
        cat "/sys/block/$name/stat"
    done <"$W/lower" | awk '{ r += $1; R += $3; w += $5; W += $7; f += $16 }
        END { printf "%d %d %d %d %d\n", r, R, w, W, f }'
}

# The load: 4k at random, depth 16, no block twice in a loop.
LOAD="--ioengine=io_uring --direct=1 --bs=4k --iodepth=16 --size=${MEGABYTES}m --thread=1"

measured() {
    before=$(counts)
    # shellcheck disable=SC2086 # options
    fio --name=load --rw="$4" --filename="$5" --loops="$6" $LOAD --randseed="$round" \
        --eta=never --output-format=terse --terse-version=3 --output="$W/fio" || {
        not_ok "$2: $3" <"$W/fio"
        exit 1
    }
    after=$(counts)
    iops=$(awk -F';' 'NF > 100 { print $8 + $49 }' "$W/fio")
    moved=$(echo "$before $after" | awk '{ print $6-$1, $7-$2, $8-$3, $9-$4, $10-$5 }')
    say "    # figure: $round $1 $2 $3 $iops $((BLOCKS * $6)) $moved"
    note "$2 $3 $iops ($moved)"
}

# One process for all of it: a start of fio takes longer here than the load itself.
aged() {
    {
        echo "[global]"
        for option in $LOAD; do echo "${option#--}"; done
        echo "rw=randwrite"
        echo "filename=$(production "$1")"
        echo "io_size=$((BLOCKS / 20 * 4096))"
        for number in $(seq $(($2 - 1))); do
            echo "[after$number]"
            echo "stonewall"
            echo "randseed=$((round * 1000 + number))"
            echo "exec_prerun=sh /ktest/cases/step.sh $1 $number >$W/step.$number 2>&1"
        done
    } >"$W/age.fio"
    [ "$2" = 1 ] || run fio --eta=never "$W/age.fio" --output="$W/fio.age" || {
        not_ok "$1 is aged" <"$W/fio.age"
        exit 1
    }
    step "$1" "$2"
}
