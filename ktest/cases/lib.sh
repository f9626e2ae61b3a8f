# SPDX-License-Identifier: MIT
#
# What the cases are written with. A case sources this file first; its arguments are its disks.
# A step that is not as it has to be ends the case. At the end, whatever happened, volumes are
# unmounted, pools detached and checked, and the kernel's log is looked through.
#
#   must TITLE COMMAND...            the command succeeds
#   fails TITLE COMMAND...           it does not
#   refused TITLE WORD COMMAND...    it does not, and says the word
#   is TITLE VALUE COMMAND...        it prints the value
#   same TITLE A B                   two files or devices hold the same bytes
#   differ TITLE A B                 they do not
#   wait_for TITLE SECONDS COMMAND   it succeeds within that time
#   tolerate PATTERN                 lines of the kernel's log that may stand there
#   skip WHY                         the case cannot run here
set -u

W=/tmp/ktest.$KTEST_CASE
rm -rf "$W" /tmp/skipped
mkdir -p "$W"
: >"$W/wrong" >"$W/tolerated" >"$W/pools" >"$W/undo"
steps=0
SLOWNESS=1
[ "$KTEST_KERNEL" = plain ] || SLOWNESS=5

say() {
    echo "$*" >&9
}

ok() {
    steps=$((steps + 1))
    echo "ok: $*"
    say "    ok $steps $*"
}

# A step that is not as it has to be; its last words are on standard input.
not_ok() {
    steps=$((steps + 1))
    echo "NOT OK: $*"
    say "    not ok $steps $*"
    tail -n 12 | while IFS= read -r line; do
        say "    # $line"
        echo "    $line"
    done
    echo "$*" >>"$W/wrong"
}

# Runs a command, keeps what it says, and shows it on the console.
run() {
    echo "+ $*"
    "$@" >"$W/said" 2>&1
    rc=$?
    cat "$W/said"
    return $rc
}

must() {
    title=$1
    shift
    if run "$@"; then
        ok "$title"
    else
        { echo "exit $rc: $*"; cat "$W/said"; } | not_ok "$title"
        exit 1
    fi
}

fails() {
    title=$1
    shift
    if run "$@"; then
        { echo "it succeeded: $*"; cat "$W/said"; } | not_ok "$title"
        exit 1
    fi
    ok "$title"
}

refused() {
    title=$1 word=$2
    shift 2
    if run "$@"; then
        echo "it succeeded: $*" | not_ok "$title"
        exit 1
    elif ! grep -qi -- "$word" "$W/said"; then
        { echo "it does not say '$word': $*"; cat "$W/said"; } | not_ok "$title"
        exit 1
    fi
    ok "$title"
}

is() {
    title=$1 value=$2
    shift 2
    got=$("$@" 2>"$W/said")
    if [ "$got" = "$value" ]; then
        ok "$title"
    else
        { echo "'$got', not '$value': $*"; cat "$W/said"; } | not_ok "$title"
        exit 1
    fi
}

# What is on the disk, not what the page cache remembers of it.
sum() {
    [ ! -b "$1" ] || blockdev --flushbufs "$1"
    witness sum "$1" | cut -c1-16
}

# The names and contents of all files below a folder.
tree_sum() {
    (cd "$1" && find . -type f -print0 | sort -z | xargs -0 witness sum) | witness sum
}

alike() {
    if [ -d "$1" ]; then
        [ "$(tree_sum "$1")" = "$(tree_sum "$2")" ]
    else
        [ "$(sum "$1")" = "$(sum "$2")" ]
    fi
}

same() {
    must "$1" alike "$2" "$3"
}

differ() {
    fails "$1" alike "$2" "$3"
}

wait_for() {
    title=$1 left=$(($2 * SLOWNESS * 5))
    shift 2
    while ! "$@" >"$W/said" 2>&1; do
        left=$((left - 1))
        if [ $left -le 0 ]; then
            { echo "it did not come true: $*"; cat "$W/said"; } | not_ok "$title"
            exit 1
        fi
        sleep 0.2
    done
    ok "$title"
}

tolerate() {
    echo "$1" >>"$W/tolerated"
}

skip() {
    echo "$*" >/tmp/skipped
    exit 77
}

# Something to do at the end, the last first.
finally() {
    echo "$*" >>"$W/undo"
}

# --- Pools

need_module() {
    grep -q '^rwsnap ' /proc/modules || must "the module can be loaded" insmod /ktest/rwsnap.ko
}

# pool SAVE OPTION...: makes a pool called `tank` and attaches it; it is checked at the end.
pool() {
    save=$1
    shift
    create "$save" "$@"
    attach "$save"
}

# create SAVE OPTION...: the pool alone. udevd looks at a disk that was written, and is awaited.
create() {
    must "a pool is made on $1" rwsnap create "$@" --name tank -q
    checked "$1"
    udevadm settle --timeout=30
}

checked() {
    grep -qx "$1" "$W/pools" || echo "$1" >>"$W/pools"
}

attach() {
    need_module
    must "$1 is attached" rwsnap attach "$@"
    udevadm settle --timeout=30
}

detach() {
    must "the pool is detached" rwsnap detach tank
}

# The device of a volume or of a snapshot that is exposed.
dev() {
    udevadm settle --timeout=30
    echo "/dev/rwsnap/tank/$1"
}

# flagged NAME FLAG: as `rwsnap list` shows it.
flagged() {
    rwsnap list -H -t all -o name,flags | tee /dev/stderr | grep -E "^$1[[:space:]].*$2"
}

# fs MKFS DEVICE FOLDER: a new file system, mounted. Clones of XFS need another option.
fs() {
    must "$1 on $2" "$1" -q "$2"
    mounted "$2" "$3"
}

mounted() {
    device=$1 folder=$2
    shift 2
    mkdir -p "$folder"
    must "$device is mounted" mount "$@" "$device" "$folder"
}

unmounted() {
    must "$1 is unmounted" umount "$1"
}

# fill FOLDER COUNT: files of some kilobytes with bytes of their own; the last is large.
fill() {
    mkdir -p "$1"
    for i in $(seq "$2"); do
        head -c $((i * 1237 % 60000 + 1)) /dev/urandom >"$1/file$i" || return 1
    done
    head -c 8388608 /dev/urandom >"$1/large" || return 1
    sync
}

# load NAME SIZE SECONDS DEVICE: random writes that are verified while they go on.
load() {
    fio --name="$1" --filename="$4" --size="$2" --time_based --runtime="$3" --rw=randrw --bs=4k \
        --bsrange=4k-32k --ioengine=libaio --direct=1 --iodepth=16 --verify=crc32c \
        --verify_fatal=1 --verify_backlog=64 --fsync=97 --verify_state_save=0 \
        --randrepeat=0 --group_reporting --output="$W/fio.$1"
}

# --- Faults

# inject DISK OPERATION OPTION...: the block layer fails these, until `heal DISK`.
inject() {
    disk=${1#/dev/} op=$2
    shift 2
    rule="add,op=$op,status=IOERR$(printf ',%s' "$@")"
    echo "+ $disk: $rule"
    echo "$rule" >"/sys/kernel/debug/block/$disk/error_injection"
}

heal() {
    echo removeall >"/sys/kernel/debug/block/${1#/dev/}/error_injection"
}

# flakey NAME DISK: /dev/mapper/NAME over a disk. `flakey_is NAME DISK STATE` says how it is: `up`;
# `down`: all writes fail; `unflushed`: flushes fail, and writes in the last sectors.
flakey() {
    modprobe dm-flakey
    dmsetup create "$1" --table "$(flakey_table "$2" up)" || return 1
    finally "dmsetup remove $1"
}

# A flush goes to each part of the table; it fails if one of them has it fail.
flakey_table() {
    all=$(blockdev --getsz "$1")
    head=$((all - 8))
    case $2 in
    up) printf '%s\n' "0 $head linear $1 0" "$head 8 linear $1 $head" ;;
    unflushed) printf '%s\n' "0 $head linear $1 0" \
        "$head 8 flakey $1 $head 0 60 1 error_writes" ;;
    down) echo "0 $all flakey $1 0 0 60 1 error_writes" ;;
    esac
}

flakey_is() {
    dmsetup suspend --noflush "$1" &&
        dmsetup load "$1" --table "$(flakey_table "$2" "$3")" &&
        dmsetup resume "$1"
}

# null NAME MEGABYTES: /dev/NAME in memory, with a volatile cache.
null() {
    modprobe null_blk nr_devices=0
    home=/sys/kernel/config/nullb/$1
    mkdir "$home" || return 1
    finally "rmdir $home"
    finally "echo 0 >$home/power"
    echo "$2" >"$home/size"
    echo 1 >"$home/memory_backed"
    echo 1 >"$home/discard"
    echo 64 >"$home/cache_size"
    echo 512 >"$home/blocksize"
    echo 1 >"$home/power"
    test -b "/dev/$1"
}

# write_at DEVICE BLOCK COUNT: blocks of 4k, past the page cache.
write_at() {
    dd if=/dev/urandom of="$1" bs=4k seek="$2" count="$3" oflag=direct conv=notrunc,fsync
}

read_at() {
    dd if="$1" of=/dev/null bs=4k skip="$2" count="$3" iflag=direct
}

# --- Power

# power ORDER: of the disks that a case has as `lossy`: `cut in MS`, `on`; or `off in MS`, which
# ends the guest as well. It lives again then; $KTEST_LIFE counts.
power() {
    say "    # power: $*"
}

# The disk answers, or not.
has_power() {
    dd if="$1" of=/dev/null bs=4k count=1 iflag=direct
}

# All of them do: QEMU comes back to each by itself.
have_power() {
    for disk; do
        has_power "$disk" || return 1
    done
}

# forget DISK...: what the page cache remembers of them.
forget() {
    for disk; do
        blockdev --flushbufs "$disk"
    done
}

# --- The end

at_rest() {
    # A case that went wrong may have left a server.
    for socket in /run/rwsnap/*.sock; do
        [ ! -e "$socket" ] || rwsnap stop --pool "$socket"
    done
    for folder in $(awk '$2 ~ /^\/mnt/ { print $2 }' /proc/mounts | sort -r); do
        umount "$folder" || echo "$folder is busy" | not_ok "$folder can be unmounted at the end"
    done
    if grep -q '^rwsnap ' /proc/modules; then
        for save in $(cat "$W/pools"); do
            rwsnap detach "$save" >"$W/said" 2>&1
        done
        left=$(ls /sys/block | grep '^rwsnap')
        [ -z "$left" ] || { echo "$left"; cat "$W/said"; } | not_ok "no device is left at the end"
    fi
    for save in $(cat "$W/pools"); do
        if rwsnap check "$save" >"$W/said" 2>&1; then
            ok "the pool on $save is sound"
        else
            not_ok "the pool on $save is sound" <"$W/said"
        fi
    done
    sed '1!G;h;$!d' "$W/undo" | while IFS= read -r undo; do
        echo "+ $undo"
        eval "$undo"
    done
}

TROUBLE='WARNING|BUG[: ]|Oops|UBSAN|KASAN|ODEBUG|[Cc]all [Tt]race|lockdep'
TROUBLE="$TROUBLE|circular locking|recursive locking|inconsistent lock|general protection"
TROUBLE="$TROUBLE|blocked for more than|INFO: rcu|soft lockup|refcount_t|list_(add|del) corruption"
TROUBLE="$TROUBLE|sleeping function|Invalid wait context|workqueue lockup|panicked|unreferenced"

# The kernel's log since the case began.
kernel_log() {
    dmesg | sed -n "/ktest: case $KTEST_CASE begins/,\$p"
}

look_through_log() {
    kernel_log | grep -E "$TROUBLE" >"$W/trouble"
    while IFS= read -r pattern; do
        grep -vE -- "$pattern" "$W/trouble" >"$W/rest"
        mv "$W/rest" "$W/trouble"
    done <"$W/tolerated"
    if [ -s "$W/trouble" ]; then
        head -n 12 "$W/trouble" | not_ok "the kernel's log is clean"
    else
        ok "the kernel's log is clean"
    fi
}

# What was lost is found only some seconds after it was last seen; what a first scan finds may have
# been on its way from one place to another. So the log says nothing of it, and nobody else scans.
look_for_leaks() {
    leaks=/sys/kernel/debug/kmemleak
    [ -e $leaks ] || return 0
    sleep 6
    echo scan >$leaks
    sleep 6
    echo scan >$leaks
    if [ -s $leaks ] && [ -n "$(head -c 1 $leaks)" ]; then
        head -n 12 $leaks | not_ok "no memory is lost"
        cat $leaks
        echo clear >$leaks
    else
        ok "no memory is lost"
    fi
}

finish() {
    rc=$?
    trap - EXIT
    [ $rc = 77 ] && exit 77
    at_rest
    look_for_leaks
    look_through_log
    [ $rc = 0 ] || [ -s "$W/wrong" ] || echo "exit $rc" | not_ok "the case comes to its end"
    say "    1..$steps"
    [ ! -s "$W/wrong" ]
    exit $?
}

trap finish EXIT
