//! Frames on their way through pipes: what is not sent yet, what is not whole yet.
//!
//! May not know what a frame says. Invariant: bytes go out and come in whole and in order, however
//! the pipes cut them.

use super::protocol::{decode_message, frame_length};
use rustix::io::{Errno, read, write};
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::AsFd;

/// As much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// Frames that are on their way to a host.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting_bytes() == 0
    }

    /// Sends as much as the pipe takes. Nothing more goes to a host that closed its input: what it
    /// said before counts more, and its end is seen where it is read.
    pub(super) fn flush(&mut self, pipe: impl AsFd) {
        while !self.is_empty() {
            match write(&pipe, &self.bytes[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.sent = self.bytes.len(),
            }
        }
        if self.is_empty() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(CHUNK_BYTES);
        } else if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// What came through a pipe and was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Reads what is there; false at the end of the stream.
    pub(super) fn fill(&mut self, pipe: impl AsFd) -> io::Result<bool> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + CHUNK_BYTES, 0);
        let came = read(&pipe, &mut self.bytes[before..]);
        self.bytes.truncate(before + *came.as_ref().unwrap_or(&0));
        match came {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// The next message, once all of it has arrived.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, body)) = self.bytes[self.taken..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = frame_length(*head)?;
        let Some(body) = body.get(..length) else { return Ok(None) };
        let message = decode_message(body)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }

    /// Whether all that came was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}
