# SPDX-License-Identifier: MIT
#
# title: the same for a longer history, attached at each mark
# disks: 128M 8G 128M 512M 32M 128M
# time: 3600
# kernel: plain
# full
SECONDS_OF_LOAD=30 EVERY=1
. /ktest/cases/replay.sh
