#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A libnbd client that a test drives over a pipe: one line a request, payloads behind it.

It keeps one connection per export, as a file system would, until told to drop it.

  write NAME AT LEN FLAGS  followed by LEN bytes     read NAME AT LEN
  zero NAME AT LEN FLAGS      trim NAME AT LEN        flush NAME
  info NAME                   drop NAME|*

The answer is `ok N` and N bytes, or `error SENTENCE`.
"""

import sys

import nbd

MOST = 8 << 20
handles = {}
socket = sys.argv[1]


def export(name):
    """The connection to an export; made at its first use."""
    if name not in handles:
        handle = nbd.NBD()
        handle.set_export_name(name)
        handle.connect_unix(socket)
        handles[name] = handle
    return handles[name]


def pieces(at, length):
    """The range in parts that a server has to take."""
    while length:
        part = min(length, MOST)
        yield at, part
        at, length = at + part, length - part


def write(name, at, length, flags):
    data = sys.stdin.buffer.read(int(length))
    done = 0
    for place, part in pieces(int(at), int(length)):
        export(name).pwrite(data[done:done + part], place, int(flags))
        done += part
    return b""


def read(name, at, length):
    return b"".join(bytes(export(name).pread(n, p)) for p, n in pieces(int(at), int(length)))


def zero(name, at, length, flags):
    export(name).zero(int(length), int(at), int(flags))
    return b""


def trim(name, at, length):
    export(name).trim(int(length), int(at))
    return b""


def flush(name):
    export(name).flush()
    return b""


def info(name):
    handle = export(name)
    block = handle.get_block_size(nbd.SIZE_MINIMUM)
    return f"{handle.get_size()} {int(handle.is_read_only())} {block}".encode()


def drop(name):
    for key in list(handles) if name == "*" else [name]:
        handles.pop(key, None)
    return b""


VERBS = {f.__name__: f for f in (write, read, zero, trim, flush, info, drop)}

while line := sys.stdin.buffer.readline():
    words = line.decode().split()
    try:
        answer = VERBS[words[0]](*words[1:])
        sys.stdout.buffer.write(f"ok {len(answer)}\n".encode() + answer)
    except nbd.Error as error:
        sys.stdout.buffer.write(f"error {error.string}\n".encode())
    sys.stdout.buffer.flush()
