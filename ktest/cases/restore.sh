# SPDX-License-Identifier: MIT
#
# title: instant restore from a snapshot and from a clone, with I/O going on; undone and cancelled
# disks: 192M 384M
# time: 240
. /ktest/cases/lib.sh

settled() {
    rwsnap restore prod --wait
}

pool "$2" --production prod="$1"
prod=$(dev prod)
fs mkfs.ext4 "$prod" /mnt/prod
must "files are written" fill /mnt/prod/files 30
unmounted /mnt/prod
monday=$(sum "$prod")
must "a snapshot" rwsnap snapshot prod@monday
mounted "$prod" /mnt/prod
must "the files are overwritten" fill /mnt/prod/files 30
refused "a restore under a mounted file system is refused" prod \
    rwsnap restore prod --from prod@monday
unmounted /mnt/prod
tuesday=$(sum "$prod")
must "another snapshot" rwsnap snapshot prod@tuesday

must "production is restored from Monday, slowly" \
    rwsnap restore prod --from prod@monday --rate 64K/s
is "it reads as Monday at once" "$monday" sum "$prod"
must "its progress is told" rwsnap restore prod --status
mounted "$prod" /mnt/prod
must "it is written while the data is merged" fill /mnt/prod/more 10
more=$(tree_sum /mnt/prod/more)
must "the merge may hurry" rwsnap restore prod --rate none
must "the merge ends" settled
is "what was written is there" "$more" tree_sum /mnt/prod/more
unmounted /mnt/prod
must "ext4 is clean" e2fsck -fn "$prod"

must "a clone of Tuesday" rwsnap clone prod@tuesday dev1
mounted "$(dev dev1)" /mnt/dev1
must "the clone gets files of its own" fill /mnt/dev1/own 10
unmounted /mnt/dev1
clone=$(sum "$(dev dev1)")
for order in old-first new-first; do
    must "restored from the clone, $order" \
        rwsnap restore prod --from dev1 --order $order --wait
    is "production is as the clone" "$clone" sum "$prod"
    is "the clone is as it was" "$clone" sum "$(dev dev1)"
    must "back to Tuesday" rwsnap restore prod --from prod@tuesday --wait
    is "production is as on Tuesday" "$tuesday" sum "$prod"
done

must "a restore is begun, and paused" rwsnap restore prod --from prod@monday --rate 0
is "it reads as Monday" "$monday" sum "$prod"
detach
attach "$2"
prod=$(dev prod)
is "it reads as Monday when attached again" "$monday" sum "$prod"
must "it is cancelled" rwsnap restore prod --cancel --wait
is "production is as before" "$tuesday" sum "$prod"

must "a restore under load" rwsnap restore prod --from prod@monday --rate 64K/s
must "fio finds what it wrote" load merge 64M 8 "$prod"
must "the merge may hurry again" rwsnap restore prod --rate none
must "the merge ends under nobody" settled
detach
