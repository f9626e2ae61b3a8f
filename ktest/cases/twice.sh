# SPDX-License-Identifier: MIT
#
# title: one pool is attached once: neither the module nor a server gets it a second time
# disks: 64M 64M
# time: 60
. /ktest/cases/lib.sh

pool "$2" --production prod="$1"
refused "attaching it again is refused" attached rwsnap attach "$2"

# The same disk under another name is the same pool, too.
modprobe dm-mod
sectors=$(blockdev --getsz "$2")
dmsetup create alias --table "0 $sectors linear $2 0" >"$W/said" 2>&1
if [ -b /dev/mapper/alias ]; then
    finally "dmsetup remove alias"
    fails "attaching it under another name is refused" rwsnap attach /dev/mapper/alias
else
    ok "dm does not get a disk that is taken"
fi
fails "serving it is refused" timeout 20 rwsnap serve "$2"
fails "checking it is refused while it is attached" rwsnap check "$2"
refused "making a new pool there is refused" "use\|attached" \
    rwsnap create "$2" --force --name other --production prod="$1"
fails "a file system is not made on what is below" mkfs.ext4 -q -F "$1"
must "the pool is as it was" rwsnap status
must "production can be written" dd if=/dev/zero of="$(dev prod)" bs=64k count=16 conv=fsync
detach
attach "$2"
detach
