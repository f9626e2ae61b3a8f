#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The main job on real input: a file system image with real files is served, snapshot, damaged,
# cloned, refreshed and restored while it is in use; after each step what is true, how long it took
# and the check of it. `make demo` runs this; `make demo IMAGE=path` on a copy of your image.
#
#   RWSNAP=path/to/rwsnap sim/demo.sh [IMAGE]
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

rwsnap=${RWSNAP:?the path of the program}
image=${1:-}
rwsnap=$(realpath "$rwsnap")
base=${XDG_CACHE_HOME:-$HOME/.cache}/rwsnap
need_gib=16          # of free space, at most
fs_mib=1536          # the file system that is made
files_mib=600       # of real files in it
scratch_mib=128      # behind the file system: where fio reads and writes meanwhile
damage_mib=1280      # what is overwritten, and so what there is to merge

die() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }
title() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
now() { date +%s%N; }

# Runs a command and says how long it took.
timed() {
    local begun status=0
    begun=$(now)
    "$@" || status=$?
    took_ms=$((($(now) - begun) / 1000000))
    return $status
}

# A field of a command's JSON, by a Python expression on `it`.
field() {
    local expression=$1
    shift
    "$rwsnap" "$@" --json | /usr/bin/python3 -c \
        "import json, sys; it = json.load(sys.stdin); print($expression)"
}

mkdir -p "$base"
free_gib=$(df --output=avail -BG "$base" | tail -n 1 | tr -dc 0-9)
[ "$free_gib" -ge "$need_gib" ] || die "$base has $free_gib GiB free; $need_gib are needed"
work=$(mktemp -d "$base/demo.XXXXXX")
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
uri() { echo "nbd+unix:///$1?socket=$work/nbd.sock"; }

# --- the input ----------------------------------------------------------------------------------

# Copies real files, so many MiB of them, and writes an ext4 file system with them.
make_image() {
    local limit=$((files_mib << 20))
    mkdir files
    { find /usr/share /usr/lib /usr/bin -xdev -type f -readable -size +32k -size -8192k \
        -printf '%s %p\n' 2>/dev/null || true; } | sort -k 2 >found
    awk -v limit="$limit" '{ sum += $1; sub(/^[0-9]+ /, ""); if (sum < limit) print }' found >list
    tar -cf - --no-recursion -T list 2>/dev/null | tar -xf - -C files
    local mib=0 copy=0
    mib=$(du -sm files | cut -f 1)
    # A small machine has fewer files: then there are copies of them under other names.
    while [ "$mib" -lt $((files_mib * 9 / 10)) ] && [ $((mib + mib / (copy + 1))) -lt 1300 ]; do
        copy=$((copy + 1))
        cp -r files/usr "files/copy-$copy"
        mib=$(du -sm files | cut -f 1)
    done
    truncate -s "${fs_mib}M" prod.img
    mkfs.ext4 -q -F -b 4096 -E root_owner="$(id -u):$(id -g)" -L demo -d files prod.img
    rm -rf files list found
}

# Checksums of all files of an ext4 image, by way of debugfs: nothing is mounted.
checksums() {
    rm -rf out && mkdir out
    debugfs -R "rdump / out" "$1" >/dev/null 2>&1
    (cd out && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$2"
    rm -rf out
    [ -s "$2" ] || die "no files were found in $1"
}

kind() { blkid -p -o value -s TYPE "$1" 2>/dev/null || true; }

# Reads an export whole, with nbdcopy, and compares its files and its structure with a list.
check_files() {
    nbdcopy "$(uri "$1")" read.img
    check_read "$1" "$2"
}

# Compares what was read of an export.
check_read() {
    local name=$1 wanted=$2
    if [ "$fs" = ext4 ]; then
        if ! e2fsck -fn read.img >fsck.log 2>&1; then
            cat fsck.log
            die "e2fsck is not content with $name"
        fi
        checksums read.img found.sums
        cmp -s "$wanted" found.sums || die "$name: $(diff "$wanted" found.sums | head -n 5)"
        say "check: $name: e2fsck is content, all $(wc -l <"$wanted") files are as they should be"
    else
        head -c "$fs_bytes" read.img | sha256sum >found.sums
        cmp -s "$wanted" found.sums || die "$name differs"
        say "check: $name: every byte is as it should be (sha256)"
    fi
}

# The whole volume's checksum.
whole() { nbdcopy "$(uri "$1")" - | sha256sum | cut -c 1-64; }

title "0. The input"
if [ -n "$image" ]; then
    [ -f "$image" ] || die "there is no file $image"
    (cd - >/dev/null && cp --sparse=always "$(realpath "$image")" "$work/prod.img")
    say "a copy of $image"
else
    timed make_image
    say "an ext4 image of $fs_mib MiB, with files of this machine's /usr ($((took_ms / 1000)) s)"
fi
fs=$(kind prod.img)
case $fs in ext2 | ext3 | ext4) fs=ext4 ;; esac
fs_bytes=$(stat -c %s prod.img)
[ "$fs_bytes" -ge $((1 << 30)) ] || die "the image has less than 1 GiB"
[ "$damage_mib" -le $((fs_bytes >> 20)) ] || damage_mib=$((fs_bytes >> 20))
if [ "$fs" = ext4 ]; then
    e2fsck -fy prod.img >/dev/null 2>&1 || [ $? -le 1 ] || die "e2fsck cannot mend the image"
    checksums prod.img wanted.sums
    say "$(wc -l <wanted.sums) files, their checksums noted"
else
    say "not a file system of the ext family (${fs:-unknown}): it is compared as a whole"
    sha256sum <prod.img >wanted.sums
fi
# fio's place, behind the file system, where it is in nobody's way.
scratch_at=$(((fs_bytes + 1048575) >> 20 << 20))
truncate -s $((scratch_at + (scratch_mib << 20))) prod.img

# --- serve --------------------------------------------------------------------------------------

title "1. A pool of it, served over NBD"
timed "$rwsnap" create pool.save --production prod.img --name demo
say "create took $took_ms ms; the image's data was not touched"
export RWSNAP_POOL=$work/pool.save
begun=$(now)
"$rwsnap" serve pool.save --nbd "unix:$work/nbd.sock" >serve.log 2>&1 &
server=$!
until grep -q ready serve.log; do
    kill -0 $server 2>/dev/null || { cat serve.log; die "the server ended"; }
    sleep 0.05
done
say "serve was ready after $((($(now) - begun) / 1000000)) ms; its exports:"
sed 's/^/     /' serve.log
check_files prod wanted.sums

title "2. A snapshot"
timed "$rwsnap" snapshot prod@monday
say "snapshot took $took_ms ms; $(field 'it["slot_bytes_used"]' status) bytes of old data are kept"

# --- clones -------------------------------------------------------------------------------------

title "3. Three clones of it, written differently"
for clone in dev1 dev2 dev3; do
    timed "$rwsnap" clone prod@monday "$clone"
    say "clone $clone took $took_ms ms"
done

# Changes files in a clone's file system through a FUSE file over NBD; still nothing is mounted.
# debugfs writes single words of a superblock, so that somebody has to make whole blocks of them.
edit() {
    local name=$1
    mkdir -p fuse
    : >fuse/nbd 2>/dev/null || true
    nbdfuse fuse --command nbdkit -s --exit-with-parent --filter=blocksize nbd \
        uri="$(uri "$name")" minblock=4k &
    local fuse=$!
    until [ -s fuse/nbd ]; do
        kill -0 $fuse 2>/dev/null || die "nbdfuse ended"
        sleep 0.05
    done
    debugfs -w -f - fuse/nbd >/dev/null 2>&1
    sync
    fusermount3 -u fuse
    wait $fuse || die "nbdfuse failed"
    rm -rf fuse
}

# The list of checksums with one more file in it.
with_file() {
    local list=$1 file=$2 name=$3
    { cat "$list"; echo "$(sha256sum <"$file" | cut -c 1-64)  ./$name"; } | sort -k 2
}

echo "this is dev1" >note1
echo "this is dev2" >note2
if [ "$fs" = ext4 ]; then
    printf 'write note1 NOTE\n' | edit dev1
    printf 'write note2 NOTE\nwrite note2 SECOND\n' | edit dev2
    with_file wanted.sums note1 NOTE >dev1.sums
    with_file wanted.sums note2 NOTE | with_file - note2 SECOND >dev2.sums
    say "dev1 got a file, dev2 two others, dev3 none"
else
    qemu-io -f raw -c 'write -P 1 0 64k' -c flush "$(uri dev1)" >/dev/null
    qemu-io -f raw -c 'write -P 2 1M 64k' -c flush "$(uri dev2)" >/dev/null
    for clone in dev1 dev2; do
        { nbdcopy "$(uri $clone)" - || true; } | head -c "$fs_bytes" | sha256sum >$clone.sums
    done
fi
check_files dev1 dev1.sums
check_files dev2 dev2.sums
check_files dev3 wanted.sums
say "what they hold themselves:"
"$rwsnap" list -t clone -o name,used,refer,origin | sed 's/^/     /'

# --- a bad day ----------------------------------------------------------------------------------

title "4. A bad day: $damage_mib MiB of production are overwritten through NBD"
head -c "${damage_mib}M" /dev/urandom >bad.img
timed nbdcopy --flush bad.img "$(uri prod)"
rm bad.img
say "first writes: $((damage_mib * 1000 / took_ms)) MiB/s; every chunk was copied before"
nbdcopy "$(uri prod)" read.img
if [ "$fs" = ext4 ] && e2fsck -fn read.img >/dev/null 2>&1; then
    die "production should be broken"
fi
[ "$fs" != ext4 ] || say "check: production's file system is broken beyond recognition"
check_files prod@monday wanted.sums
check_files dev2 dev2.sums

# --- refresh ------------------------------------------------------------------------------------

title "5. Refresh: dev3 becomes what production is now, and then Monday again"
uuid=$(field 'it["uuid"]' info dev3)
timed "$rwsnap" refresh dev3
say "refresh to a new snapshot took $took_ms ms"
qemu-img compare -f raw -F raw "$(uri dev3)" "$(uri prod)" >/dev/null || die "dev3 is not as prod"
say "check: qemu-img finds dev3 and prod identical"
timed "$rwsnap" refresh dev3 --to prod@monday
say "refresh to prod@monday took $took_ms ms"
[ "$uuid" = "$(field 'it["uuid"]' info dev3)" ] || die "dev3 has another UUID"
say "check: the name, the address and the UUID ($uuid) are what they were"
check_files dev3 wanted.sums

# --- restore ------------------------------------------------------------------------------------

# Waits until a merge is over; gives the last that was heard of it: total reads writes.
watch_merge() {
    local last='0 0 0' line
    while :; do
        line=$(field '"-" if it is None else (it["total"], it["reads"], it["writes"])' \
            restore prod --status | tr -d '(),')
        [ "$line" != - ] || break
        last=$line
        sleep 0.05
    done
    echo "$last"
}

load() {
    fio --name=load --ioengine=nbd --uri="$(uri prod)" --rw=randrw --bs=4k --iodepth=8 \
        --offset="$scratch_at" --size="${scratch_mib}M" --time_based --runtime="$1" \
        --verify=crc32c --verify_backlog=256 --verify_fatal=1 --output-format=json \
        --output=fio.json >/dev/null 2>fio.err
}

title "6. Restore production from dev1, while it is read and written"
before=$(whole prod)
begun=$(now)
timed "$rwsnap" -q restore prod --from dev1 --rate 32M
say "restore returned after $took_ms ms: from here production reads as dev1"
load 5 &
fio=$!
nbdcopy "$(uri prod)" read.img
wait $fio || { cat fio.err; die "fio found an error"; }
say "production was read whole while the merge went on; it is at $(field \
    '"%d of %d MiB" % (it["done"] >> 20, it["total"] >> 20)' restore prod --status)"
load 5 &
fio=$!
"$rwsnap" -q restore prod --rate none
read -r total reads writes <<<"$(watch_merge)"
took_ms=$((($(now) - begun) / 1000000))
say "the merge of $((total >> 20)) MiB was over $took_ms ms after the command"
wait $fio || { cat fio.err; die "fio found an error"; }
check_read prod dev1.sums
say "served during the merge: $reads reads and $writes writes; fio's own data verified"
if [ "$reads" = 0 ] || [ "$writes" = 0 ]; then die "nothing was served during the merge"; fi
[ "$total" -ge $((1 << 30)) ] || [ "$damage_mib" -lt 1024 ] || die "less than 1 GiB was merged"
check_files prod dev1.sums
check_files dev1 dev1.sums
check_files prod@monday wanted.sums

# --- undo ---------------------------------------------------------------------------------------

# Destroys the snapshots that restores have taken, but for one of them.
tidy_up() {
    local names
    names=$("$rwsnap" list -H -t snapshot -o name | grep -E '^prod@(before-restore|restored)-' |
        grep -vxF "$1" | xargs)
    # shellcheck disable=SC2086 # a list of names
    "$rwsnap" destroy $names
    say "destroyed: $names"
}

title "7. Undo: back to what production was before the restore"
undo=$("$rwsnap" list -H -t snapshot -o name | grep -F prod@before-restore | tail -n 1)
tidy_up "$undo"
begun=$(now)
timed "$rwsnap" -q restore prod --from "$undo" --no-undo
say "restore from $undo returned after $took_ms ms"
[ "$before" = "$(whole prod)" ] || die "production is not what it was"
say "check: every byte of production is what it was (sha256), the merge is under way"
"$rwsnap" -q restore prod --wait
say "the merge was over $((($(now) - begun) / 1000000)) ms after the command"
[ "$before" = "$(whole prod)" ] || die "production is not what it was"
say "check: and still"

title "8. And Monday for good, from the snapshot itself"
tidy_up none
timed "$rwsnap" -q restore prod --from prod@monday --no-undo --wait
say "restored and merged in $took_ms ms"
check_files prod wanted.sums
"$rwsnap" list | sed 's/^/     /'

# --- the end ------------------------------------------------------------------------------------

title "9. The server is stopped"
timed "$rwsnap" stop
wait $server || die "the server did not end with 0"
server=
say "stop took $took_ms ms"
timed "$rwsnap" check pool.save >check.log || { cat check.log; die "the pool is not sound"; }
say "check: rwsnap check finds the pool sound ($took_ms ms)"
if [ "$fs" = ext4 ]; then
    e2fsck -fn prod.img >/dev/null 2>&1 || die "e2fsck is not content with the image"
    say "check: e2fsck is content with the plain image, without rwsnap"
fi
printf '
demo: all of it is as it should be
'
