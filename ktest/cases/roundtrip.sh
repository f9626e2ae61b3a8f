# SPDX-License-Identifier: MIT
#
# title: a pool goes from user space to the module and back; the same bytes everywhere
# disks: 64M 128M
# time: 180
. /ktest/cases/lib.sh

# Serves the pool until `served_no_more`.
serve() {
    udevadm settle --timeout=30
    : >"$W/served"
    rwsnap serve "$save" >"$W/served" 2>&1 &
    server=$!
    wait_for "it is served in user space" 20 served
}

served() {
    grep '^rwsnap: ready' "$W/served" || { cat "$W/served"; false; }
}

served_no_more() {
    must "the server ends" rwsnap stop
    wait $server
}

# The bytes of a volume or snapshot, as the server gives them.
export_sum() {
    rwsnap read "$1" | witness sum
}

# The sums of everything in the pool, as seen by a function.
sums() {
    for name in prod prod@a prod@b one one@x two; do
        echo "$name $($1 $name)"
    done
}

device_sum() {
    case $1 in
    *@*) rwsnap expose "$1" >/dev/null ;;
    esac
    sum "$(dev "$1")"
}

noise() {
    rwsnap write "$1" --offset "$2" <"$W/noise" >/dev/null
}

save=$2
head -c 1048576 /dev/urandom >"$W/noise"
must "production has data" sh -c "head -c 67108864 /dev/urandom >$1"
create "$save" --production prod="$1"

serve
must "a snapshot" rwsnap snapshot prod@a
must "production is written" noise prod 1M
must "a second snapshot" rwsnap snapshot prod@b
must "a clone of the first" rwsnap clone prod@a one
must "the clone is written" noise one 9M
must "a snapshot of the clone" rwsnap snapshot one@x
must "a clone of the second" rwsnap clone prod@b two
must "production is written again" noise prod 5000K
sums export_sum >"$W/user"
served_no_more
must "the pool is sound" rwsnap check "$save"

attach "$save"
sums device_sum >"$W/module"
must "the module shows the same bytes" cmp "$W/user" "$W/module"
for name in prod@a prod@b one@x; do
    must "$name is hidden" rwsnap hide $name
done
must "production is written through the module" \
    dd if="$W/noise" of="$(dev prod)" bs=64k seek=100 conv=fsync
must "a clone is written through the module" \
    dd if="$W/noise" of="$(dev two)" bs=4k seek=3001 conv=fsync
must "a snapshot is taken by the module" rwsnap snapshot prod@c
must "production is written over it" \
    dd if="$W/noise" of="$(dev prod)" bs=64k seek=101 conv=fsync
sums device_sum >"$W/module"
must "the snapshots are as they were" \
    sh -c "grep @ $W/user >$W/a; grep @ $W/module >$W/b; cmp $W/a $W/b"
for name in prod@a prod@b one@x; do
    must "$name is hidden again" rwsnap hide $name
done
detach
must "the pool is sound after the module" rwsnap check "$save"

serve
sums export_sum >"$W/user"
must "user space shows the same bytes" cmp "$W/user" "$W/module"
served_no_more
