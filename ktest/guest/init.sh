#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The guest's first program: mounts what has to be mounted, starts udevd, and runs the cases that
# the kernel's command line names (`ktest.run=NAME:DISK,DISK;NAME:`). It reports in KTAP to the
# virtio port `ktap`; all else goes to the console. Without `ktest.run` it gives a prompt.
export PATH=/usr/sbin:/usr/bin HOME=/root TERM=linux
umask 022

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t configfs configfs /sys/kernel/config
mount -t debugfs debugfs /sys/kernel/debug
ln -sf /proc/self/fd /dev/fd
exec </dev/console >/dev/console 2>&1
[ ! -e /sys/kernel/debug/kmemleak ] || echo scan=off >/sys/kernel/debug/kmemleak

ifconfig lo up
udevd --daemon
udevadm trigger --action=add
udevadm settle --timeout=30

# The value of a word of the kernel's command line.
parameter() {
    sed 's/ /\n/g' /proc/cmdline | sed -n "s/^$1=//p"
}

# A guest that lost its power lives again, with the disks it had.
KTEST_KERNEL=$(parameter ktest.kernel) KTEST_LIFE=$(parameter ktest.life)
KTEST_SEED=$(parameter ktest.seed)
export KTEST_KERNEL KTEST_LIFE KTEST_SEED

end() {
    sync
    poweroff -f
}

if ! grep -q 'ktest\.run=' /proc/cmdline; then
    echo "cases are in /ktest/cases: sh /ktest/cases/basic.sh /dev/vda /dev/vdb"
    [ ! -e /ktest/rwsnap.ko ] || insmod /ktest/rwsnap.ko
    setsid cttyhack sh
    end
fi

# The port takes one that opens it; whoever reports inherits it.
exec 9>"$(ls /dev/vport*p1)"

report() {
    echo "$*" >&9
}

# Shortly before a case's time is up, the log is told what everybody waits for.
watch_over() {
    limit=$(sed -n 's/^# time: //p' "/ktest/cases/$1.sh")
    [ "$KTEST_KERNEL" = plain ] || limit=$((limit * 5))
    sleep $((limit - 3))
    echo w >/proc/sysrq-trigger
}

number=0
case_run() {
    name=$1
    shift
    number=$((number + 1))
    [ "$KTEST_LIFE" != 1 ] || for disk; do
        blkdiscard -z -f "$disk"
    done
    udevadm settle --timeout=30
    report "    KTAP version 1"
    report "    # Subtest: $name"
    echo "ktest: case $name begins" >/dev/kmsg
    watch_over "$name" &
    watcher=$!
    (cd /root && KTEST_CASE=$name sh "/ktest/cases/$name.sh" "$@")
    rc=$?
    kill $watcher
    echo "ktest: case $name ends" >/dev/kmsg
    case $rc in
    0) report "ok $number $name" ;;
    77) report "ok $number $name # SKIP $(cat /tmp/skipped)" ;;
    *) report "not ok $number $name" ;;
    esac
}

cases=$(parameter ktest.run | sed 's/;/ /g')
report "KTAP version 1"
report "1..$(echo "$cases" | wc -w)"
for entry in $cases; do
    # shellcheck disable=SC2046 # a list of devices
    case_run "${entry%%:*}" $(echo "${entry#*:}" | sed 's/,/ /g; s/vd/\/dev\/vd/g')
done
end
