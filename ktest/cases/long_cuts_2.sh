# SPDX-License-Identifier: MIT
#
# title: the power goes five hundred times: the second half, in another guest at the same time
# lossy: 16M 160M
# disks: 64M
# time: 7200
# kernel: plain
# full
CUTS=250
. /ktest/cases/cuts.sh
