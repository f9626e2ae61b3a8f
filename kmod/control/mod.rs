// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/rwsnap-control`: commands in, replies out (`rwsnap_core::control::module`).

mod commands;
mod device;
mod pools;
pub(crate) mod refused;
pub(crate) mod uevent;

pub(crate) use device::Control;
pub(crate) use pools::init;
