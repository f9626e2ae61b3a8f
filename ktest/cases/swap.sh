# SPDX-License-Identifier: MIT
#
# title: swapping to production and to a clone when memory is short
# disks: 512M 2G
# time: 240
# memory: 640M
. /ktest/cases/lib.sh

pool "$2" --production prod="$1"
prod=$(dev prod)
must "production becomes swap space" mkswap "$prod"
must "a snapshot, so that each first write copies" rwsnap snapshot prod@a
must "a clone" rwsnap clone prod@a dev1
finally "swapoff -a"

# More than the guest has memory, all of it different.
pressure() {
    head -c 500000000 /dev/urandom >/tmp/big/data &&
        witness sum </tmp/big/data >"$W/first" &&
        witness sum </tmp/big/data >"$W/second" &&
        cmp "$W/first" "$W/second"
}

mkdir -p /tmp/big
must "a place in memory" mount -t tmpfs -o size=600M tmpfs /tmp/big
finally "umount /tmp/big"
for volume in prod dev1; do
    must "$volume is swapped to" swapon "$(dev $volume)"
    must "there is room for more than the memory holds, on $volume" pressure
    must "$volume has been used" \
        sh -c "awk 'NR > 1 { used += \$4 } END { exit used < 50000 }' /proc/swaps"
    if [ $volume = prod ]; then
        must "a snapshot under pressure" rwsnap snapshot prod@b
    fi
    must "what was stored is given up" rm /tmp/big/data
    must "$volume is swapped to no more" swapoff "$(dev $volume)"
done
must "production's header is as it was" sh -c "blkid -p -s TYPE -o value $prod | grep swap"
detach
