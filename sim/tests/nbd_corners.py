# SPDX-License-Identifier: MIT
#
# Run by nbdsh; `uri` and `ro` (a writable and a read-only export of 4 MiB) are set in front of it.

import nbd, errno
def fails(code, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == code, (error.errnum, code)
    else:
        assert False, "did not fail"

def handle(uri, structured=True):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_request_structured_replies(structured)
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    assert h.get_structured_replies_negotiated() == structured
    return h

for structured in (True, False):
    h = handle(uri, structured)
    h.pwrite(b"\x07" * 4096, 8192, nbd.CMD_FLAG_FUA)
    assert h.pread(4096, 8192) == b"\x07" * 4096
    assert h.can_df() == structured
    h.cache(4 << 20, 0)
    h.trim(4096, 8192, nbd.CMD_FLAG_FUA)
    h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
    h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
    fails(errno.ENOTSUP, lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))
    h.flush()
    fails(errno.EINVAL, lambda: h.pread(512, 1))
    fails(errno.EINVAL, lambda: h.pread(100, 0))
    fails(errno.EINVAL, lambda: h.pread(512, 4 << 20))
    fails(errno.ENOSPC, lambda: h.pwrite(b"x" * 512, 4 << 20))
    fails(errno.ENOSPC, lambda: h.zero(512, 4 << 20))
    fails(errno.EINVAL, lambda: h.trim(512, 4 << 20))
    fails(errno.EINVAL, lambda: h.pread(512, 0, 1 << 12))
    fails(errno.EINVAL, lambda: h.pread(33 << 20, 0))
    assert h.pread(512, 8192) == b"\0" * 512
    if structured:
        assert h.can_meta_context("base:allocation")
        seen = []
        see = lambda context, at, extents, error: seen.append((context, at, extents))
        h.block_status(4 << 20, 0, see, nbd.CMD_FLAG_REQ_ONE)
        assert seen[0][0] == "base:allocation" and len(seen[0][2]) == 2, seen
        assert h.pread_structured(65536, 0, lambda *a: 0, nbd.CMD_FLAG_DF)
    else:
        fails(errno.EINVAL, lambda: h.pread(512, 0, nbd.CMD_FLAG_DF))
    h.shutdown()

h = handle(ro)
assert h.is_read_only()
for call in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(512, 0), lambda: h.zero(512, 0)):
    fails(errno.EPERM, call)
assert len(h.pread(4 << 20, 0)) == 4 << 20
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(uri)
names = []
assert h.opt_list(lambda name, text: names.append((name, text))) == 2
assert names == [("prod", "the volume prod"), ("prod@monday", "the volume prod@monday")], names
contexts = []
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["base:allocation"], contexts
h.set_export_name("nothing")
fails(errno.ENOENT, lambda: h.opt_info())
h.set_export_name("prod@monday")
h.set_full_info(True)
h.opt_info()
assert h.is_read_only() and h.get_canonical_export_name() == "prod@monday"
h.set_export_name("prod")
h.opt_go()
assert h.get_size() == 4 << 20
h.shutdown()
