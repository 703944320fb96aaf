//! The host protocol on the wire: framed MessagePack over two pipes.
//!
//! May not know what a message means. Invariant: a frame is a `u32` little-endian length and that
//! many bytes of one message, no more than [`FRAME_BYTES_MAX`].

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::codecs::turn::*;

/// Longest frame: a value of the largest size, its definition and room for the rest.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The frame of one message: its length and its bytes.
///
/// # Errors
/// A message longer than [`FRAME_BYTES_MAX`].
pub fn encode_frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    rmp_serde::encode::write_named(&mut frame, message).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|n| *n as usize <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "a message is longer than a frame may be")
    })?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// How many bytes the message behind a frame's first four bytes has.
///
/// # Errors
/// More than [`FRAME_BYTES_MAX`].
pub fn frame_length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length <= FRAME_BYTES_MAX {
        return Ok(length);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than it may be"))
}

/// The message in the bytes of one frame, without the length.
///
/// # Errors
/// Bytes that are not one message.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
