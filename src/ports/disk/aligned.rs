//! Memory that starts at a multiple of a block, as direct input and output needs it.
//!
//! May not know what it holds. Invariant: the slice begins at a multiple of the alignment and has
//! the length that was asked for.

/// Bytes of a fixed length, aligned.
#[derive(Debug)]
pub struct AlignedBuffer {
    /// Longer than asked for by one alignment; never grows, so it never moves.
    store: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AlignedBuffer {
    /// `bytes` zeros, aligned to the power of two at or above `align`.
    #[must_use]
    pub fn new(bytes: usize, align: usize) -> Self {
        let align = align.next_power_of_two();
        let store = vec![0; bytes + align];
        // Allocated memory of this length always has an aligned place; the bound is for proofs.
        let start = store.as_ptr().align_offset(align).min(align);
        Self { store, start, bytes }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.store[self.start..self.start + self.bytes]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.start + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_multiple_and_stays_there() {
        for align in [1, 512, 4096, 65_536] {
            for bytes in [0, 1, 4096, 100_000] {
                let mut buffer = AlignedBuffer::new(bytes, align);
                buffer.fill(7);
                let moved = Box::new(buffer);
                assert_eq!((moved.len(), moved.as_ptr().align_offset(align)), (bytes, 0));
            }
        }
    }
}
