//! The header of a commit-log segment: who wrote it, where its frames continue the ones before.
//!
//! Two identical copies stand in the first two blocks. May not know files or frames. Invariant: a
//! header that decodes has a block size that its segment can hold and a sum over all its bytes.

use crate::ground::clock::Timestamp;

/// The smallest block, and the bytes that the header's sum covers.
pub const BLOCK_BYTES_MIN: u32 = 4096;
/// The largest block that any device asks for.
pub const BLOCK_BYTES_MAX: u32 = 65_536;

const MAGIC: &[u8; 8] = b"DORMLOG1";
const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const FIELDS_END: usize = 120;
const SUM_AT: usize = 4092;
const FLAG_SETTLED: u32 = 1;
const FLAG_BUFFERED: u32 = 2;

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Magic, reserved bytes or a size are not what is written.
    #[error("it is not the header of a commit-log segment")]
    Shape,
    /// The sum belongs to other bytes.
    #[error("its sum is wrong")]
    Sum,
    /// A newer version wrote it.
    #[error("it is of format {0}, this version reads 1")]
    Newer(u16),
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Alignment of frames.
    pub block_bytes: u32,
    /// The root's UUID.
    pub root: [u8; 16],
    /// The segment's number, from 1.
    pub segno: u64,
    /// The opening of the root that wrote it.
    pub generation: u64,
    /// Number of its first frame.
    pub first_seq: u64,
    /// Number of the last frame before it.
    pub prev_last_seq: u64,
    /// That frame's header sum; 0 if everything before is settled.
    pub prev_last_crc: u32,
    /// Everything before it is settled: the chain begins anew.
    pub settled: bool,
    /// Written through the page cache.
    pub buffered: bool,
    /// Size of the segment.
    pub segment_bytes: u64,
    /// Drawn for this segment alone, so that nothing older or foreign fits its sums.
    pub nonce: [u8; 16],
    /// The machine's start.
    pub boot: [u8; 16],
    /// When it was activated.
    pub created: Timestamp,
}

impl SegmentHeader {
    /// Where the first frame stands: behind the two copies.
    #[must_use]
    pub const fn frames_at(&self) -> u64 {
        2 * self.block_bytes as u64
    }

    /// Both copies, as they stand at the start of the segment. `out` has two blocks.
    pub fn encode(&self, out: &mut [u8]) {
        out.fill(0);
        let flags =
            u32::from(self.settled) * FLAG_SETTLED + u32::from(self.buffered) * FLAG_BUFFERED;
        let block = self.block_bytes as usize;
        let (first, second) = out.split_at_mut(block);
        let mut put = Put { out: first, at: 0 };
        put.bytes(MAGIC);
        put.bytes(&MAJOR.to_le_bytes());
        put.bytes(&MINOR.to_le_bytes());
        put.bytes(&self.block_bytes.to_le_bytes());
        put.bytes(&self.root);
        for number in [self.segno, self.generation, self.first_seq, self.prev_last_seq] {
            put.bytes(&number.to_le_bytes());
        }
        put.bytes(&self.prev_last_crc.to_le_bytes());
        put.bytes(&flags.to_le_bytes());
        put.bytes(&self.segment_bytes.to_le_bytes());
        put.bytes(&self.nonce);
        put.bytes(&self.boot);
        put.bytes(&self.created.micros().to_le_bytes());
        let sum = crc32c::crc32c(&first[..SUM_AT]);
        first[SUM_AT..SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        second[..block].copy_from_slice(first);
    }

    /// Reads one copy from its block.
    ///
    /// # Errors
    /// Which check failed first.
    pub fn decode(block: &[u8]) -> Result<Self, Error> {
        let bytes = block.get(..BLOCK_BYTES_MIN as usize).ok_or(Error::Shape)?;
        if &bytes[..8] != MAGIC {
            return Err(Error::Shape);
        }
        let mut take = Take { bytes, at: 8 };
        let (major, _minor) = (take.u16(), take.u16());
        if crc32c::crc32c(&bytes[..SUM_AT]).to_le_bytes() != bytes[SUM_AT..] {
            return Err(Error::Sum);
        }
        if major != MAJOR {
            return Err(Error::Newer(major));
        }
        let header = Self {
            block_bytes: take.u32(),
            root: take.array(),
            segno: take.u64(),
            generation: take.u64(),
            first_seq: take.u64(),
            prev_last_seq: take.u64(),
            prev_last_crc: take.u32(),
            settled: bytes[68] & 1 != 0,
            buffered: bytes[68] & 2 != 0,
            segment_bytes: {
                take.at += 4;
                take.u64()
            },
            nonce: take.array(),
            boot: take.array(),
            created: Timestamp::from_micros(take.i64()),
        };
        let block = header.block_bytes;
        let fits = block.is_power_of_two()
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block)
            && header.segment_bytes > header.frames_at()
            && header.segment_bytes.is_multiple_of(u64::from(block));
        let reserved = bytes[FIELDS_END..SUM_AT].iter().all(|b| *b == 0)
            && bytes[68] <= 3
            && bytes[69..72] == [0; 3];
        if fits && reserved { Ok(header) } else { Err(Error::Shape) }
    }

    /// Finds the header of a segment: one good copy is enough. The flag says that the other one is
    /// bad (L9). `start` is the beginning of the file, two of the largest blocks or all of it.
    ///
    /// # Errors
    /// No copy is good: what is wrong with the first.
    pub fn find(start: &[u8]) -> Result<(Self, bool), Error> {
        let copy = |at: usize| start.get(at..).map_or(Err(Error::Shape), Self::decode);
        match copy(0) {
            Ok(header) => {
                let other = copy(header.block_bytes as usize);
                Ok((header, other != Ok(header)))
            }
            Err(why) => {
                // The block size stands in the header, so the second copy is looked for.
                let mut at = BLOCK_BYTES_MIN;
                while at <= BLOCK_BYTES_MAX {
                    if let Ok(header) = copy(at as usize)
                        && header.block_bytes == at
                    {
                        return Ok((header, true));
                    }
                    at *= 2;
                }
                Err(why)
            }
        }
    }
}

/// Fills bytes from the front.
pub(super) struct Put<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) at: usize,
}

impl Put<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// Takes fields from the front of bytes that are long enough.
pub(super) struct Take<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Take<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        out
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Sixteen bytes that count up from `first`.
    pub(in super::super) fn counting(first: u8) -> [u8; 16] {
        std::array::from_fn(|i| first + u8::try_from(i).unwrap())
    }

    pub(in super::super) fn vector() -> SegmentHeader {
        SegmentHeader {
            block_bytes: 4096,
            root: counting(0),
            segno: 5,
            generation: 3,
            first_seq: 101,
            prev_last_seq: 100,
            prev_last_crc: 0x1122_3344,
            settled: false,
            buffered: false,
            segment_bytes: 16 << 20,
            nonce: counting(0xa0),
            boot: counting(0xb0),
            created: Timestamp::from_micros(1_795_000_000_000_000),
        }
    }

    fn encoded(header: &SegmentHeader) -> Vec<u8> {
        let mut out = vec![0xff; 2 * header.block_bytes as usize];
        header.encode(&mut out);
        out
    }

    #[test]
    fn the_vector_has_its_sum() {
        let bytes = encoded(&vector());
        assert_eq!(bytes[SUM_AT..SUM_AT + 4], 0xf32d_8e06_u32.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Ok(vector()));
        assert_eq!(bytes[..4096], bytes[4096..]);
    }

    #[test]
    fn every_bit_counts_and_one_good_copy_is_enough() {
        for block_bytes in [4096, 16_384] {
            let header = SegmentHeader { block_bytes, buffered: true, ..vector() };
            let good = encoded(&header);
            assert_eq!(SegmentHeader::find(&good), Ok((header, false)));
            for bit in 0..4096 * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
                if bit % 97 == 0 {
                    assert_eq!(SegmentHeader::find(&bad), Ok((header, true)), "bit {bit}");
                    bad[block_bytes as usize + bit / 8] ^= 1;
                    assert!(SegmentHeader::find(&bad).is_err(), "bit {bit}");
                }
            }
        }
        assert_eq!(SegmentHeader::find(&[0; 9000]), Err(Error::Shape));
        assert_eq!(SegmentHeader::find(b"DORMLOG1"), Err(Error::Shape));
    }

    #[test]
    fn sizes_that_cannot_be_and_newer_versions_are_refused() {
        let with = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut header = vector();
            change(&mut header);
            // Two blocks of the size that is written, whatever the field says.
            let mut out = vec![0; 8192];
            SegmentHeader { block_bytes: 4096, ..header }.encode(&mut out);
            out[12..16].copy_from_slice(&header.block_bytes.to_le_bytes());
            let sum = crc32c::crc32c(&out[..SUM_AT]);
            out[SUM_AT..SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
            SegmentHeader::decode(&out)
        };
        assert_eq!(with(&|_| ()), Ok(vector()));
        assert_eq!(with(&|h| h.block_bytes = 0), Err(Error::Shape));
        assert_eq!(with(&|h| h.block_bytes = 5000), Err(Error::Shape));
        assert_eq!(with(&|h| h.block_bytes = 1 << 17), Err(Error::Shape));
        assert_eq!(with(&|h| h.segment_bytes = 8192), Err(Error::Shape));
        assert_eq!(with(&|h| h.segment_bytes += 1), Err(Error::Shape));
        let mut newer = encoded(&vector());
        newer[8] = 2;
        let sum = crc32c::crc32c(&newer[..SUM_AT]);
        newer[SUM_AT..SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(Error::Newer(2)));
    }
}
