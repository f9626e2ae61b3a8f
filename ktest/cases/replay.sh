# SPDX-License-Identifier: MIT
#
# title: at each flush that ever was the pool is sound, and all is there that was durable
# disks: 128M 1G 128M 64M 32M 128M
# time: 240
#
# Production and the save volume lie on one dm-log-writes device, so that its log is a history of
# both. It is replayed onto another disk: at each flush the pool is checked as it lies; now and
# then, where `witness` left a mark, it is attached (on dm-snapshots, so that nothing is changed)
# and compared with the record up to there.
. /ktest/cases/lib.sh

SECONDS_OF_LOAD=${SECONDS_OF_LOAD:-8}
EVERY=${EVERY:-4}
below=$1 log=$2 copy=$3 journal=$4 cow_low=$5 cow_high=$6
all=$(blockdev --getsz "$below")
size=32768

# parts NAME DEVICE: /dev/mapper/NAME-low and NAME-high, for production and for the save volume.
parts() {
    dmsetup create "$1-low" --table "0 $size linear $2 0" &&
        dmsetup create "$1-high" --table "0 $((all - size)) linear $2 $size"
}

for module in dm-log-writes dm-snapshot; do
    must "there is $module" modprobe $module
done
must "writes are logged" dmsetup create history --table "0 $all log-writes $below $log"
must "the logged disk is divided" parts lw /dev/mapper/history
must "a pool is made" rwsnap create /dev/mapper/lw-high --name tank -q \
    --production prod=/dev/mapper/lw-low
udevadm settle --timeout=30
must "its beginning is marked" dmsetup message history 0 mark made
attach /dev/mapper/lw-high
must "the record begins" witness begin "$journal"
must "there is a load" witness work "$journal" --seconds "$SECONDS_OF_LOAD" \
    --seed "$KTEST_SEED" --probe "$below" --mark history
cat "$W/said"
detach
must "the pool is sound" rwsnap check /dev/mapper/lw-high
must "the log ends" dmsetup remove lw-low lw-high history

cat >"$W/point" <<'END'
# The pool as it lies on the copy after a flush.
save=/dev/mapper/copy-high
blockdev --flushbufs /dev/mapper/copy-low $save
rwsnap check $save >/tmp/point 2>&1 || { cat /tmp/point; exit 1; }
case "${REPLAY_MARK:-}" in
event*) event=${REPLAY_MARK#event} ;;
*) exit 0 ;;
esac
marks=$(($(cat /tmp/marks) + 1))
echo $marks >/tmp/marks
[ $((marks % EVERY)) = 0 ] || exit 0
set -e
over() {
    dmsetup create over-$1 --table \
        "0 $(blockdev --getsz /dev/mapper/copy-$1) snapshot /dev/mapper/copy-$1 $2 N 8"
}
over low $COW_LOW
over high $COW_HIGH
udevadm settle --timeout=30
rwsnap attach /dev/mapper/over-high --production prod=/dev/mapper/over-low
udevadm settle --timeout=30
witness verify $JOURNAL --until $event
rwsnap detach tank
rwsnap check /dev/mapper/over-high
udevadm settle --timeout=30
dmsetup remove over-low over-high
echo "event $event: all is there"
END

echo 0 >/tmp/marks
export EVERY COW_LOW="$cow_low" COW_HIGH="$cow_high" JOURNAL="$journal"
must "the beginning is replayed" replay-log replay "$log" --to "$copy" --until mark:made
must "the copy is divided" parts copy "$copy"
finally "dmsetup remove copy-low copy-high"
must "at each flush it is sound, and all is there" \
    replay-log each "$log" --to "$copy" --from mark:made -- sh "$W/point"
must "some of it was attached" sh -c "[ $(cat /tmp/marks) -ge $EVERY ]"
