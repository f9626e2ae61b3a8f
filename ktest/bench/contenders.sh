# SPDX-License-Identifier: MIT
#
# Who is measured: KIND-SPAN, the span being what a first write copies.
#
#   made CONTENDER CACHE SNAPSHOTS  on new devices, which are full; CACHE is null_blk's, in MiB
#   production CONTENDER            its device
#   step CONTENDER NUMBER           one more snapshot of it
#   exposed CONTENDER NUMBER        the snapshot's device
#   cloned CONTENDER NUMBER         the device of a clone of it
#   unmade CONTENDER                all of it gone

# udevd is not there, and nobody waits for it.
dm_make() {
    dmsetup create "$1" --noudevrules --noudevsync --table "$2" && dmsetup mknodes "$1"
}

dm_gone() {
    for name; do
        dmsetup remove --noudevrules --noudevsync "$name" || return 1
    done
}

made() {
    echo "$2" >"$W/cache"
    must "$1 is made for $3 snapshots" "made_${1%-*}" "${1#*-}" "$3"
}

production() {
    "production_${1%-*}"
}

step() {
    "step_${1%-*}" "$2" "${1#*-}"
}

exposed() {
    "exposed_${1%-*}" "$2"
}

cloned() {
    "cloned_${1%-*}" "$2"
}

unmade() {
    must "$1 is gone" "unmade_${1%-*}"
    lower_gone
}

# --- The bare device

made_raw() {
    lower nullb0 $MEGABYTES && full /dev/nullb0
}

production_raw() {
    echo /dev/nullb0
}

unmade_raw() {
    true
}

# --- rwsnap

# With 64k a write of 4k copies sixteen times as much: 5 % of them hit more than half of all chunks.
made_rwsnap() {
    each=$((MEGABYTES / 4))
    [ "$1" = 4k ] || each=$((MEGABYTES * 5 / 8))
    lower nullb0 $MEGABYTES && lower nullb1 $((MEGABYTES * 4 + $2 * each)) &&
        full /dev/nullb0 &&
        rwsnap -q create /dev/nullb1 --name bench --production /dev/nullb0 --copy-span "$1" &&
        rwsnap -q attach /dev/nullb1
}

rwsnap_device() {
    for device in /sys/block/rwsnap*; do
        [ "$(cat "$device/rwsnap/name")" != "$1" ] || echo "/dev/${device##*/}"
    done
}

production_rwsnap() {
    rwsnap_device prod
}

step_rwsnap() {
    rwsnap -q snapshot "prod@s$1"
}

exposed_rwsnap() {
    rwsnap -q expose "prod@s$1" >"$W/exposed" && rwsnap_device "prod@s$1"
}

cloned_rwsnap() {
    rwsnap -q clone "prod@s$1" "clone$1" >"$W/cloned" && rwsnap_device "clone$1"
}

unmade_rwsnap() {
    rwsnap -q detach bench && rwsnap -q check /dev/nullb1
}

# --- dm-snapshot: a snapshot is its own clone, and each has a device for its exceptions

made_dmsnap() {
    lower nullb0 $MEGABYTES && full /dev/nullb0 &&
        dm_make prod "0 $SECTORS snapshot-origin /dev/nullb0"
}

production_dmsnap() {
    echo /dev/mapper/prod
}

step_dmsnap() {
    chunk=$((${2%k} * 2))
    lower "cow$1" $((MEGABYTES * 2)) && dmsetup suspend --noudevsync prod &&
        dm_make "s$1" "0 $SECTORS snapshot /dev/nullb0 /dev/cow$1 P $chunk" &&
        dmsetup resume --noudevsync prod
}

exposed_dmsnap() {
    echo "/dev/mapper/s$1"
}

cloned_dmsnap() {
    exposed_dmsnap "$1"
}

unmade_dmsnap() {
    # shellcheck disable=SC2046 # a list of names
    dm_gone prod $(dmsetup ls | awk '/^s[0-9]/ { print $1 }')
}

# --- dm-thin: a snapshot of a snapshot is a clone of it

made_dmthin() {
    data=$((MEGABYTES * (4 + $2 * 5 / 8)))
    lower nullb0 "$data" && lower nullb1 64 || return 1
    table="thin-pool /dev/nullb1 /dev/nullb0 $((${1%k} * 2)) 0 1 skip_block_zeroing"
    dm_make pool "0 $((data * 2048)) $table" && dmsetup message pool 0 "create_thin 0" &&
        dm_make prod "0 $SECTORS thin /dev/mapper/pool 0" && full /dev/mapper/prod
}

production_dmthin() {
    echo /dev/mapper/prod
}

step_dmthin() {
    dmsetup suspend --noudevsync prod && dmsetup message pool 0 "create_snap $1 0" &&
        dmsetup resume --noudevsync prod
}

exposed_dmthin() {
    dm_make "s$1" "0 $SECTORS thin /dev/mapper/pool $1" && echo "/dev/mapper/s$1"
}

cloned_dmthin() {
    dmsetup message pool 0 "create_snap $((1000 + $1)) $1" &&
        dm_make "clone$1" "0 $SECTORS thin /dev/mapper/pool $((1000 + $1))" &&
        echo "/dev/mapper/clone$1"
}

unmade_dmthin() {
    # shellcheck disable=SC2046 # a list of names
    dm_gone $(dmsetup ls | awk '$1 != "pool" && $1 != "No" { print $1 }') && dm_gone pool
}
