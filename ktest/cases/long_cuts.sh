# SPDX-License-Identifier: MIT
#
# title: the power goes five hundred times
# lossy: 16M 160M
# disks: 64M
# time: 14400
# kernel: plain
# full
CUTS=500
. /ktest/cases/cuts.sh
