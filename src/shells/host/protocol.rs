//! The host protocol on the wire: framed MessagePack over two pipes.
//!
//! May not know what a message means. Invariant: a frame is a `u32` little-endian length and that
//! many bytes of one message, no more than [`FRAME_BYTES_MAX`].

pub use crate::codecs::turn::*;

/// Longest frame: a value of the largest size, its definition and room for the rest.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
