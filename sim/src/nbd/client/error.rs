// SPDX-License-Identifier: MIT

//! What can go wrong for a client.

use std::{fmt, io};

use super::super::NbdError;

/// Of this client.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Why a request or a connection failed.
#[derive(Debug)]
pub enum ClientError {
    /// The address is none.
    Address(String),
    /// The connection failed or broke.
    Io(io::Error),
    /// The server refused an option: the reply type, and its words.
    Refused(u32, String),
    /// The server answered a request with an error, and maybe a sentence.
    Failed(NbdError, String),
    /// The server does not keep to the protocol, or lacks what is needed.
    Protocol(&'static str),
}

impl ClientError {
    /// The error that a request was answered with.
    #[must_use]
    pub const fn nbd(&self) -> Option<NbdError> {
        match self {
            Self::Failed(error, _) => Some(*error),
            _ => None,
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => f.write_str(why),
            Self::Io(error) => write!(f, "NBD connection: {error}"),
            Self::Refused(kind, why) => write!(f, "NBD server refused ({kind:#x}): {why}"),
            Self::Failed(error, why) if why.is_empty() => write!(f, "NBD request: {error:?}"),
            Self::Failed(error, why) => write!(f, "NBD request: {why} ({error:?})"),
            Self::Protocol(why) => write!(f, "NBD server broke the protocol: {why}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}
