# SPDX-License-Identifier: MIT
#
# title: the power goes five hundred times: the first half
# lossy: 16M 160M
# disks: 64M
# time: 7200
# kernel: plain
# full
CUTS=250
. /ktest/cases/cuts.sh
