# SPDX-License-Identifier: MIT
#
# title: the 17 tests of the claims, on devices with blocks of 4096 bytes
# time: 900
# full
CLAIMS_MEDIUM=module-4096
. /ktest/cases/claims.sh
