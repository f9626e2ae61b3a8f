// SPDX-License-Identifier: MIT

//! The client's socket, Unix or TCP.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::super::Address;
use super::error::Result;

/// A connected socket: a `UnixStream` whatever its family, since both are read and written alike.
#[derive(Debug)]
pub(super) struct Link {
    stream: BufReader<UnixStream>,
}

impl Link {
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let fd: OwnedFd = match address {
            Address::Unix(path) => UnixStream::connect(path)?.into(),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        Ok(Self { stream: BufReader::new(UnixStream::from(fd)) })
    }

    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.stream.get_ref().set_read_timeout(timeout)?;
        Ok(self.stream.get_ref().set_write_timeout(timeout)?)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        Ok(self.stream.read_exact(bytes)?)
    }

    /// A structure of the wire.
    pub(super) fn get<T: FromBytes + IntoBytes>(&mut self) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(value.as_mut_bytes())?;
        Ok(value)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.get()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.get()?))
    }

    /// Bytes of a length that was checked.
    pub(super) fn text(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}
