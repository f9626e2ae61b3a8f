// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/block/rwsnapN/rwsnap/`: what the device is, for people and for udev's rules.
//!
//! | attribute | |
//! |---|---|
//! | `name` | of the volume or snapshot |
//! | `pool` | the pool's name, or its UUID if it has none |
//! | `kind` | `production`, `clone` or `snapshot` |
//! | `uuid` | of the volume or snapshot |
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use kernel::{
    bindings,
    container_of,
    page::PAGE_SIZE,
    prelude::*,
    sync::ArcBorrow, //
};
use rwsnap_core::control::rows::{
    KIND_CLONE,
    KIND_PRODUCTION, //
};

use super::disk::Disk;
use crate::text;

/// What may be shared because nobody writes to it.
#[repr(transparent)]
struct AssertSync<T>(T);

// SAFETY: nobody writes to it.
unsafe impl<T> Sync for AssertSync<T> {}

type Show = unsafe extern "C" fn(
    *mut bindings::device,
    *mut bindings::device_attribute,
    *mut c_char,
) -> isize;

#[cfg_attr(
    not(CONFIG_DEBUG_LOCK_ALLOC),
    expect(
        clippy::needless_update,
        reason = "with lockdep an attribute has more fields"
    )
)]
#[expect(clippy::disallowed_methods, reason = "`as_char_ptr` is not `const`")]
const fn attribute(name: &'static CStr, show: Show) -> AssertSync<bindings::device_attribute> {
    AssertSync(bindings::device_attribute {
        attr: bindings::attribute {
            name: name.as_ptr().cast(),
            mode: 0o444,
            ..pin_init::zeroed()
        },
        __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 { show: Some(show) },
        ..pin_init::zeroed()
    })
}

/// One attribute: its table entry, and the call that shows it.
macro_rules! attributes {
    ($($entry:ident, $callback:ident = $name:literal, $show:expr;)*) => {
        $(
            static $entry: AssertSync<bindings::device_attribute> = attribute($name, $callback);

            /// # Safety
            ///
            /// sysfs calls it with a disk of ours and a page to be filled.
            unsafe extern "C" fn $callback(
                device: *mut bindings::device,
                _attribute: *mut bindings::device_attribute,
                page: *mut c_char,
            ) -> isize {
                // SAFETY: by the caller.
                unsafe { show(device, page, $show) }
            }
        )*

        static ATTRIBUTES: AssertSync<[*const bindings::attribute; 5]> =
            AssertSync([$(&raw const $entry.0.attr,)* core::ptr::null()]);
    };
}

attributes! {
    NAME, name_callback = c"name", |disk, line| line.push(disk.face().name.bytes());
    POOL, pool_callback = c"pool", |disk, line| disk.pool.with_title(|title| line.push(title));
    KIND, kind_callback = c"kind", |disk, line| line.push(kind(disk.kind));
    UUID, uuid_callback = c"uuid", |disk, line| line.push(&text::uuid(disk.face().uuid));
}

#[expect(clippy::disallowed_methods, reason = "`as_char_ptr` is not `const`")]
static GROUP: AssertSync<bindings::attribute_group> = AssertSync(bindings::attribute_group {
    name: c"rwsnap".as_ptr().cast(),
    __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 {
        attrs_const: ATTRIBUTES.0.as_ptr(),
    },
    ..pin_init::zeroed()
});

static GROUPS: AssertSync<[*const bindings::attribute_group; 2]> =
    AssertSync([&raw const GROUP.0, core::ptr::null()]);

/// For `device_add_disk`.
pub(super) fn groups() -> *mut *const bindings::attribute_group {
    GROUPS.0.as_ptr().cast_mut()
}

/// What a volume of this kind is called.
pub(crate) fn kind(kind: u32) -> &'static [u8] {
    match kind {
        KIND_PRODUCTION => b"production",
        KIND_CLONE => b"clone",
        _ => b"snapshot",
    }
}

/// A line of a sysfs file.
#[derive(Default)]
pub(crate) struct Line<'a> {
    page: &'a mut [u8],
    len: usize,
}

impl Line<'_> {
    /// Adds bytes, as many as fit.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.page.get_mut(self.len..).unwrap_or_default();
        let len = bytes.len().min(room.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = self.len.saturating_add(len);
    }
}

/// # Safety
///
/// The device is that of a disk of ours, and the page can be written.
unsafe fn show(
    device: *mut bindings::device,
    page: *mut c_char,
    say: impl FnOnce(ArcBorrow<'_, Disk>, &mut Line<'_>),
) -> isize {
    // SAFETY: by the caller.
    let disk = unsafe {
        let bdev = container_of!(device, bindings::block_device, bd_device);
        ArcBorrow::from_raw((*(*bdev).bd_disk).private_data.cast::<Disk>().cast_const())
    };
    // SAFETY: by the caller.
    let page = unsafe { core::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE_SIZE) };
    let mut line = Line { page, len: 0 };
    say(disk, &mut line);
    line.push(b"\n");
    line.len as isize
}
