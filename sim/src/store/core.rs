// SPDX-License-Identifier: MIT

//! The core as an [`Engine`].

use super::engine::Engine;
use super::Volume;

/// Begins to open the pool on a save volume.
///
/// # Errors
///
/// A sentence.
pub fn begin(_save: &Volume) -> Result<Box<dyn Engine>, String> {
    Err("this build has no core".to_owned())
}
