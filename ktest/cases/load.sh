# SPDX-License-Identifier: MIT
#
# title: the module comes and goes
# time: 40
. /ktest/cases/lib.sh

loaded() {
    grep -q '^rwsnap ' /proc/modules
}

! loaded || must "the module can be unloaded" rmmod rwsnap
for round in 1 2 3; do
    must "the module is loaded ($round)" insmod /ktest/rwsnap.ko
    must "it is listed" loaded
    wait_for "udevd makes its control device" 10 test -c /dev/rwsnap-control
    is "the device is root's alone" 600 stat -c %a /dev/rwsnap-control
    fails "it is not loaded twice" insmod /ktest/rwsnap.ko
    must "it is unloaded" rmmod rwsnap
    wait_for "its control device is gone" 10 test ! -e /dev/rwsnap-control
done
must "the module is loaded again" insmod /ktest/rwsnap.ko

exec 8</dev/rwsnap-control
fails "it stays while somebody has its control device open" rmmod rwsnap
exec 8<&-
must "it goes when nobody has" rmmod rwsnap
is "it tells its licence" GPL modinfo -F license /ktest/rwsnap.ko
