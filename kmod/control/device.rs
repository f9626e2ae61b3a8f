// SPDX-License-Identifier: GPL-2.0-only

//! The device and its one ioctl.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use kernel::{
    bindings,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use rwsnap_core::control::{
    module::{
        Exchange,
        COMMAND_MAX,
        EXCHANGE, //
    },
    Command,
    MAGIC,
    VERSION, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

use super::{
    commands,
    uevent, //
};
use crate::{
    block::gendisk,
    queue, //
};

/// The registered device.
#[pin_data(PinnedDrop)]
pub(crate) struct Control {
    #[pin]
    device: MiscDeviceRegistration<Door>,
}

impl Control {
    /// Registers it.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions {
            name: c"rwsnap-control",
        };
        try_pin_init!(Self {
            device <- MiscDeviceRegistration::register(options),
            _: {
                // SAFETY: it is registered, and `drop` says when it is not any more.
                unsafe { uevent::set((*device.as_raw()).this_device) };
            },
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Control {
    fn drop(self: Pin<&mut Self>) {
        uevent::clear();
        queue::flush_slow();
        gendisk::wait_for_all();
    }
}

/// An opened control device. It keeps nothing.
struct Door;

#[vtable]
impl MiscDevice for Door {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    fn ioctl(_door: &Self, _file: &File, request: u32, argument: usize) -> Result<isize> {
        if request != EXCHANGE {
            return Err(ENOTTY);
        }
        // SAFETY: it only looks at the current task.
        if !unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) } {
            return Err(EPERM);
        }
        exchange(UserPtr::from_addr(argument)).map(|()| 0)
    }

    #[cfg(CONFIG_COMPAT)]
    fn compat_ioctl(door: &Self, file: &File, request: u32, argument: usize) -> Result<isize> {
        // The envelope is the same for programs of 32 bits.
        Self::ioctl(door, file, request, argument)
    }
}

/// Takes a command, has it carried out, and gives the reply.
fn exchange(argument: UserPtr) -> Result {
    let mut bytes = [0; size_of::<Exchange>()];
    let (mut reader, mut writer) = UserSlice::new(argument, size_of::<Exchange>()).reader_writer();
    reader.read_slice(&mut bytes)?;
    let mut envelope = Exchange::read_from_bytes(&bytes).map_err(|_| EINVAL)?;
    if envelope.magic.get() != MAGIC || envelope.version.get() != VERSION {
        return Err(EPROTO);
    }
    let len = envelope.command_bytes.get() as usize;
    let sound = (size_of::<Command>()..=COMMAND_MAX).contains(&len);
    if !sound || envelope.flags.get() != 0 || envelope.reserved != [0; 28] {
        return Err(EINVAL);
    }
    let mut command = KVVec::new();
    user(envelope.command.get(), len)?.read_all(&mut command, GFP_KERNEL)?;
    let reply = commands::carry_out(envelope.pool.bytes(), command)?;
    envelope.reply_bytes = u32::try_from(reply.len()).map_err(|_| EOVERFLOW)?.into();
    writer.write_slice(envelope.as_bytes())?;
    if reply.len() > envelope.reply_room.get() as usize {
        return Err(ENOBUFS);
    }
    user(envelope.reply.get(), reply.len())?
        .writer()
        .write_slice(&reply)
}

/// The caller's memory.
fn user(at: u64, len: usize) -> Result<UserSlice> {
    let at = usize::try_from(at).map_err(|_| EFAULT)?;
    Ok(UserSlice::new(UserPtr::from_addr(at), len))
}
