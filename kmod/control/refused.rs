// SPDX-License-Identifier: GPL-2.0-only

//! Why a command was not done: a refusal, its blockers, or a sentence.

use kernel::{
    alloc::AllocError,
    fmt,
    prelude::*,
    str::CString, //
};
use rwsnap_core::control::{
    NameRow,
    Refusal,
    Reply,
    MAGIC,
    VERSION, //
};
use zerocopy::IntoBytes;

/// A refusal.
pub(crate) struct Refused {
    why: Refusal,
    blockers: KVec<NameRow>,
    said: Option<CString>,
    /// The ioctl itself fails.
    pub(crate) errno: Option<Error>,
}

impl Refused {
    /// For this reason.
    pub(crate) fn because(why: Refusal) -> Self {
        Self {
            why,
            blockers: KVec::new(),
            said: None,
            errno: None,
        }
    }

    /// For this reason, because of these.
    pub(crate) fn blocked(why: Refusal, blockers: KVec<NameRow>) -> Self {
        Self {
            why,
            blockers,
            said: None,
            errno: None,
        }
    }

    /// As this sentence says.
    pub(crate) fn said(sentence: fmt::Arguments<'_>) -> Self {
        let said = CString::try_from_fmt(sentence).ok();
        Self {
            why: Refusal::Io,
            blockers: KVec::new(),
            said,
            errno: None,
        }
    }

    /// The sentence, or what the refusal is called.
    pub(crate) fn text(&self) -> &str {
        match &self.said {
            Some(said) => said.to_str().unwrap_or("?"),
            None if self.why == Refusal::NoMemory => "no memory",
            None => "it cannot be opened",
        }
    }

    /// The bytes of the reply.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn reply(&self) -> Result<KVVec<u8>> {
        match &self.said {
            Some(said) => reply(self.why, 1, said.to_bytes()),
            None => reply(
                self.why,
                size_of::<NameRow>(),
                self.blockers.as_slice().as_bytes(),
            ),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let why = if error == ENOMEM {
            Refusal::NoMemory
        } else {
            Refusal::Io
        };
        Self {
            errno: Some(error),
            ..Self::because(why)
        }
    }
}

impl From<AllocError> for Refused {
    fn from(_: AllocError) -> Self {
        Self::from(ENOMEM)
    }
}

/// The bytes of a reply with rows of this width.
///
/// # Errors
///
/// No memory.
pub(crate) fn reply(why: Refusal, width: usize, rows: &[u8]) -> Result<KVVec<u8>> {
    told(why, width, rows, None)
}

/// The bytes of a reply with some of the rows; if there are more, with where to go on asking.
///
/// # Errors
///
/// No memory.
pub(crate) fn portion(width: usize, rows: &[u8], next: Option<u64>) -> Result<KVVec<u8>> {
    told(Refusal::None, width, rows, next)
}

fn told(why: Refusal, width: usize, rows: &[u8], next: Option<u64>) -> Result<KVVec<u8>> {
    let count = rows.len().checked_div(width).unwrap_or(0);
    let head = Reply {
        magic: MAGIC.into(),
        version: VERSION.into(),
        refusal: (why as u16).into(),
        count: (count as u32).into(),
        row_bytes: (width as u32).into(),
        next: next.unwrap_or(u64::MAX).into(),
        value: 0.into(),
    };
    let mut bytes =
        KVVec::with_capacity(size_of::<Reply>().saturating_add(rows.len()), GFP_KERNEL)?;
    bytes.extend_from_slice(head.as_bytes(), GFP_KERNEL)?;
    bytes.extend_from_slice(rows, GFP_KERNEL)?;
    Ok(bytes)
}
