// SPDX-License-Identifier: MIT

//! How a scenario's steps reach the volumes: over NBD, or through the module's block devices.

/// Load in the background; when called, waits for its end, and gives the reads and writes that
/// were served, none of them wrong.
pub(crate) type Load = Box<dyn FnOnce() -> Result<(u64, u64), String>>;

/// A way to all volumes and snapshots. It holds a volume open from its first use until it is told
/// to close it, as a file system would.
pub(crate) trait Door {
    /// Writes; not yet durable.
    fn write(&mut self, name: &str, at: u64, data: &[u8]) -> Result<(), String>;

    /// Reads.
    fn read(&mut self, name: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String>;

    /// Writes zeros; what lies there need not stay allocated.
    fn zero(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String>;

    /// Discards.
    fn discard(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String>;

    /// Makes durable what was written.
    fn flush(&mut self, name: &str) -> Result<(), String>;

    /// What the volume says of itself: size, whether it is read-only, block size.
    fn info(&mut self, name: &str) -> Result<String, String>;

    /// The place where it is found while the pool is served.
    fn node(&mut self, name: &str) -> Result<String, String>;

    /// Lets go of a volume.
    fn close(&mut self, name: &str) -> Result<(), String>;

    /// All of it, read by another client.
    fn whole(&mut self, name: &str) -> Result<Vec<u8>, String>;

    /// Fails unless the two hold the same.
    fn alike(&mut self, a: &str, b: &str) -> Result<(), String>;

    /// Another client writes the byte there, and reads it back.
    fn visit(&mut self, name: &str, at: u64, bytes: u64, byte: u8) -> Result<(), String>;

    /// Random reads and writes, verified, of a range that nobody else uses, for some seconds.
    fn load(&mut self, name: &str, at: u64, bytes: u64, seconds: u64) -> Result<Load, String>;
}
