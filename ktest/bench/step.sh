# SPDX-License-Identifier: MIT
#
# step.sh CONTENDER NUMBER: one more snapshot, while fio waits.
W=/tmp/ktest.bench
. /ktest/cases/measure.sh
. /ktest/cases/contenders.sh
step "$1" "$2"
