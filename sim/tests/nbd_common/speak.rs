// SPDX-License-Identifier: MIT

//! What a client says, as bytes.

use rwsnap::nbd::wire::{OptionHeader, RequestHeader, OPTION_MAGIC, REQUEST_MAGIC};
use zerocopy::IntoBytes;

/// Fixed newstyle, no zeroes.
pub(crate) const FLAGS: [u8; 4] = [0, 0, 0, 3];

pub(crate) fn option(option: u32, data: &[u8]) -> Vec<u8> {
    [&header(option, data.len() as u32)[..], data].concat()
}

/// An option's header alone, whatever it claims.
pub(crate) fn header(option: u32, len: u32) -> Vec<u8> {
    let header =
        OptionHeader { magic: OPTION_MAGIC.into(), option: option.into(), len: len.into() };
    header.as_bytes().to_vec()
}

pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

/// Data of INFO and GO.
pub(crate) fn go(name: &[u8], infos: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((infos.len() as u16).to_be_bytes());
    data.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    data
}

/// Data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(crate) fn queries(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((queries.len() as u32).to_be_bytes());
    data.extend(queries.iter().flat_map(|query| string(query)));
    data
}

pub(crate) fn request(kind: u16, flags: u16, cookie: u64, at: u64, len: u32) -> Vec<u8> {
    let header = RequestHeader {
        magic: REQUEST_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: cookie.into(),
        at: at.into(),
        len: len.into(),
    };
    header.as_bytes().to_vec()
}
