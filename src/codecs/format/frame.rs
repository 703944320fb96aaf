//! One frame of the commit log: a batch of entries that became durable together, or a mark.
//!
//! Its sums begin with a seed of segment and place, so no old, moved or foreign frame fits. May
//! not know files or what a failed check means for the log. Invariant: a frame that verifies is
//! byte for byte what encoding it gives, padding aside.

use super::log_entry::{self, Entry};
use super::log_header::{Put, SegmentHeader, Take};
use crate::ground::clock::Timestamp;
use crate::ground::limits::LOG_FRAME_BYTES_MAX;

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 64;

const MAGIC: &[u8; 4] = b"DFRM";
const CODEC_MESSAGEPACK: u8 = 1;
const RESERVED: std::ops::Range<usize> = 48..60;
const SUM_AT: usize = 60;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It holds entries.
    Data,
    /// It holds nothing: it proves that the frame before it was durable.
    Mark,
}

/// The checks of a frame, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// a: magic, length of the header, kind, codec, reserved bytes.
    Shape,
    /// b: the header's sum.
    HeaderSum,
    /// c: the payload fits the segment and the hard limit.
    Length,
    /// d: the payload's sum.
    PayloadSum,
    /// e: the generation is the segment's.
    Generation,
    /// f: the number is the next one.
    Order,
    /// g: it builds on the frame before.
    Chain,
    /// h: the payload decodes exactly and holds as many records as the header says.
    Payload,
    /// i: each line follows from the one before.
    Lines,
}

impl Check {
    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Shape => 'a',
            Self::HeaderSum => 'b',
            Self::Length => 'c',
            Self::PayloadSum => 'd',
            Self::Generation => 'e',
            Self::Order => 'f',
            Self::Chain => 'g',
            Self::Payload => 'h',
            Self::Lines => 'i',
        }
    }

    /// Whether a frame that fails it may be a torn write; otherwise nothing legitimate explains it.
    #[must_use]
    pub fn may_be_torn(self) -> bool {
        self <= Self::PayloadSum
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is for.
    pub kind: Kind,
    /// Its number: one more for each frame of the root.
    pub seq: u64,
    /// The opening of the root that wrote it.
    pub generation: u64,
    /// Length of the payload.
    pub payload_len: u32,
    /// Records in the payload.
    pub record_count: u32,
    /// Header sum of the frame before.
    pub prev_crc: u32,
    /// Sum of the payload.
    pub payload_crc: u32,
    /// When it was put together.
    pub committed: Timestamp,
    /// Its own header sum.
    pub crc: u32,
}

/// Where the next frame goes on: the number and header sum of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Number of the last frame.
    pub seq: u64,
    /// Its header sum.
    pub crc: u32,
}

impl SegmentHeader {
    /// What the first frame of this segment builds on.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        Tip { seq: self.prev_last_seq, crc: self.prev_last_crc }
    }
}

/// A frame that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// What it says.
    pub entries: Vec<Entry>,
    /// Bytes that it takes in the segment, padding included.
    pub bytes: u64,
    /// Its padding is not zero: rot, of no consequence (L9).
    pub dirty_padding: bool,
}

/// The sum that all sums of a frame at `offset` begin with.
#[must_use]
pub fn seed(segment: &SegmentHeader, offset: u64) -> u32 {
    let seed = crc32c::crc32c(&segment.nonce);
    let seed = crc32c::crc32c_append(seed, &segment.root);
    let seed = crc32c::crc32c_append(seed, &segment.segno.to_le_bytes());
    crc32c::crc32c_append(seed, &offset.to_le_bytes())
}

/// `bytes` and the padding behind them.
#[must_use]
pub const fn padded(bytes: u64, block_bytes: u32) -> u64 {
    bytes.div_ceil(block_bytes as u64) * block_bytes as u64
}

/// At least as many bytes as a frame of these entries takes, padding aside.
#[must_use]
pub fn bytes_max<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    HEADER_BYTES + 5 + entries.map(Entry::bytes_max).sum::<usize>()
}

/// Where and when a frame is written.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The segment.
    pub segment: &'a SegmentHeader,
    /// The frame's offset in it.
    pub offset: u64,
    /// The frame before.
    pub tip: Tip,
    /// Now.
    pub now: Timestamp,
}

/// Writes a frame of `entries` (none: a mark) into `out`, which has room for [`bytes_max`] of them
/// and padding. Gives the header and the padded length; nothing if the room was too small.
pub fn encode<'a>(
    place: Place<'_>,
    entries: impl ExactSizeIterator<Item = &'a Entry> + Clone,
    out: &mut [u8],
) -> Option<(FrameHeader, usize)> {
    let kind = if entries.len() == 0 { Kind::Mark } else { Kind::Data };
    let record_count = entries.clone().map(Entry::records).sum();
    let payload_len = match kind {
        Kind::Mark => 0,
        Kind::Data => log_entry::encode(entries, out.get_mut(HEADER_BYTES..)?)?,
    };
    let used = HEADER_BYTES + payload_len;
    let whole = usize::try_from(padded(used as u64, place.segment.block_bytes)).ok()?;
    out.get_mut(used..whole)?.fill(0);
    let seed = seed(place.segment, place.offset);
    let mut header = FrameHeader {
        kind,
        seq: place.tip.seq + 1,
        generation: place.segment.generation,
        payload_len: u32::try_from(payload_len).ok()?,
        record_count,
        prev_crc: place.tip.crc,
        payload_crc: crc32c::crc32c_append(seed, &out[HEADER_BYTES..used]),
        committed: place.now,
        crc: 0,
    };
    header.put(seed, &mut out[..HEADER_BYTES]);
    Some((header, whole))
}

impl FrameHeader {
    fn put(&mut self, seed: u32, out: &mut [u8]) {
        let kind = match self.kind {
            Kind::Data => 1,
            Kind::Mark => 2,
        };
        let mut put = Put { out, at: 0 };
        put.bytes(MAGIC);
        put.bytes(&[kind, CODEC_MESSAGEPACK, 64, 0]);
        put.bytes(&self.seq.to_le_bytes());
        put.bytes(&self.generation.to_le_bytes());
        put.bytes(&self.payload_len.to_le_bytes());
        put.bytes(&self.record_count.to_le_bytes());
        put.bytes(&self.prev_crc.to_le_bytes());
        put.bytes(&self.payload_crc.to_le_bytes());
        put.bytes(&self.committed.micros().to_le_bytes());
        put.bytes(&[0; 12]);
        self.crc = crc32c::crc32c_append(seed, &out[..SUM_AT]);
        out[SUM_AT..HEADER_BYTES].copy_from_slice(&self.crc.to_le_bytes());
    }

    /// Reads the header of the frame that `bytes` begin with: checks a and b.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn read(segment: &SegmentHeader, offset: u64, bytes: &[u8]) -> Result<Self, Check> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Check::Shape)?;
        let kind = match (&bytes[..4], bytes[4]) {
            (m, 1) if m == MAGIC => Kind::Data,
            (m, 2) if m == MAGIC => Kind::Mark,
            _ => return Err(Check::Shape),
        };
        let plain = bytes[5..8] == [CODEC_MESSAGEPACK, 64, 0];
        if !plain || bytes[RESERVED].iter().any(|b| *b != 0) {
            return Err(Check::Shape);
        }
        let mut take = Take { bytes, at: 8 };
        let header = Self {
            kind,
            seq: take.u64(),
            generation: take.u64(),
            payload_len: take.u32(),
            record_count: take.u32(),
            prev_crc: take.u32(),
            payload_crc: take.u32(),
            committed: Timestamp::from_micros(take.i64()),
            crc: {
                take.at = SUM_AT;
                take.u32()
            },
        };
        let sum = crc32c::crc32c_append(seed(segment, offset), &bytes[..SUM_AT]);
        if sum == header.crc { Ok(header) } else { Err(Check::HeaderSum) }
    }

    /// Bytes that the frame takes, padding included.
    #[must_use]
    pub const fn whole(&self, segment: &SegmentHeader) -> u64 {
        padded(HEADER_BYTES as u64 + self.payload_len as u64, segment.block_bytes)
    }
}

/// Reads the frame at `offset` and makes all checks. `bytes` go from there to the segment's end;
/// `tip` is the frame before it.
///
/// # Errors
/// The first check that failed.
pub fn verify(
    segment: &SegmentHeader,
    offset: u64,
    tip: Tip,
    bytes: &[u8],
) -> Result<Frame, Check> {
    let header = FrameHeader::read(segment, offset, bytes)?;
    let used = HEADER_BYTES as u64 + u64::from(header.payload_len);
    let whole = header.whole(segment);
    if used > LOG_FRAME_BYTES_MAX as u64 || offset.saturating_add(whole) > segment.segment_bytes {
        return Err(Check::Length);
    }
    let length = |n: u64| usize::try_from(n).map_err(|_| Check::Length);
    let (used, end) = (length(used)?, length(whole)?);
    let frame = bytes.get(..end).ok_or(Check::Length)?;
    let payload = &frame[HEADER_BYTES..used];
    if crc32c::crc32c_append(seed(segment, offset), payload) != header.payload_crc {
        return Err(Check::PayloadSum);
    }
    if header.generation != segment.generation {
        return Err(Check::Generation);
    }
    if header.seq != tip.seq.wrapping_add(1) {
        return Err(Check::Order);
    }
    if header.prev_crc != tip.crc {
        return Err(Check::Chain);
    }
    let entries = match header.kind {
        Kind::Data => log_entry::decode(payload).ok_or(Check::Payload)?,
        Kind::Mark if payload.is_empty() => Vec::new(),
        Kind::Mark => return Err(Check::Payload),
    };
    let records: u64 = entries.iter().map(|e| u64::from(e.records())).sum();
    if records != u64::from(header.record_count) {
        return Err(Check::Payload);
    }
    if !entries.iter().all(|e| !matches!(e, Entry::Append(append) if !append.verifies())) {
        return Err(Check::Lines);
    }
    let dirty_padding = frame[used..].iter().any(|b| *b != 0);
    Ok(Frame { header, entries, bytes: whole, dirty_padding })
}

#[cfg(test)]
mod tests {
    use super::super::log_entry::tests::{any_entry, first_line};
    use super::super::log_header::tests::vector;
    use super::*;
    use crate::ground::id::Seq;
    use proptest::prelude::*;

    const TIP: Tip = Tip { seq: 100, crc: 0x1122_3344 };

    fn encoded(segment: &SegmentHeader, offset: u64, entries: &[Entry]) -> (FrameHeader, Vec<u8>) {
        let mut out = vec![0xee; bytes_max(entries.iter()) + segment.block_bytes as usize];
        let place = Place { segment, offset, tip: TIP, now: segment.created };
        let (header, n) = encode(place, entries.iter(), &mut out).unwrap();
        out.truncate(n);
        (header, out)
    }

    #[test]
    fn the_vector_has_its_sums() {
        let segment = vector();
        assert_eq!(seed(&segment, 8192), 0x8720_372c);
        let (header, bytes) = encoded(&segment, 8192, &[Entry::Append(first_line())]);
        assert_eq!((header.seq, header.payload_len, header.record_count), (101, 187, 1));
        assert_eq!((header.payload_crc, header.crc), (0xa97d_7106, 0x68b4_97d1));
        assert_eq!(segment.tip(), TIP);
        let frame = verify(&segment, 8192, TIP, &bytes).unwrap();
        assert_eq!((frame.header, frame.bytes, frame.dirty_padding), (header, 4096, false));
        assert_eq!(frame.entries, [Entry::Append(first_line())]);
    }

    #[test]
    fn every_flipped_bit_is_found_and_padding_is_only_noted() {
        let segment = vector();
        for entries in [&[][..], &[Entry::Append(first_line())]] {
            let (header, good) = encoded(&segment, 8192, entries);
            let used = HEADER_BYTES + header.payload_len as usize;
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let found = verify(&segment, 8192, TIP, &bad);
                if bit / 8 < used {
                    assert!(found.unwrap_err().may_be_torn(), "bit {bit}");
                } else {
                    assert!(found.unwrap().dirty_padding, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn frames_of_other_places_segments_and_generations_do_not_fit() {
        let segment = vector();
        let (_, bytes) = encoded(&segment, 8192, &[Entry::Append(first_line())]);
        let found = |segment: &SegmentHeader, offset, tip| verify(segment, offset, tip, &bytes);
        assert_eq!(found(&segment, 12_288, TIP), Err(Check::HeaderSum));
        let moved = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut other = segment;
            change(&mut other);
            found(&other, 8192, TIP).map(|_| ())
        };
        assert_eq!(moved(&|s| s.segno = 6), Err(Check::HeaderSum));
        assert_eq!(moved(&|s| s.nonce[3] ^= 1), Err(Check::HeaderSum));
        assert_eq!(moved(&|s| s.root[3] ^= 1), Err(Check::HeaderSum));
        assert_eq!(moved(&|s| s.generation = 4), Err(Check::Generation));
        assert_eq!(moved(&|s| s.segment_bytes = 8192 + 2048), Err(Check::Length));
        let tip = |seq, crc| found(&segment, 8192, Tip { seq, crc }).map(|_| ());
        assert_eq!(tip(99, TIP.crc), Err(Check::Order));
        assert_eq!(tip(100, TIP.crc + 1), Err(Check::Chain));
        assert_eq!(verify(&segment, 8192, TIP, &bytes[..4095]), Err(Check::Length));
        assert_eq!(verify(&segment, 8192, TIP, &[]), Err(Check::Shape));
    }

    /// A frame whose sums are right although its content is not.
    fn forged(change: impl Fn(&mut FrameHeader, &mut Vec<u8>)) -> Check {
        let segment = vector();
        let (mut header, mut bytes) = encoded(&segment, 8192, &[Entry::Append(first_line())]);
        let mut payload = bytes[HEADER_BYTES..HEADER_BYTES + 187].to_vec();
        change(&mut header, &mut payload);
        header.payload_len = u32::try_from(payload.len()).unwrap();
        header.payload_crc = crc32c::crc32c_append(seed(&segment, 8192), &payload);
        header.put(seed(&segment, 8192), &mut bytes[..HEADER_BYTES]);
        bytes[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(&payload);
        let check = verify(&segment, 8192, TIP, &bytes).unwrap_err();
        assert!(!check.may_be_torn());
        check
    }

    #[test]
    fn right_sums_over_impossible_content_are_told_from_tears() {
        assert_eq!(forged(|h, _| h.record_count = 2).letter(), 'h');
        assert_eq!(forged(|_, p| p.push(0)), Check::Payload);
        assert_eq!(forged(|_, p| p.clear()), Check::Payload);
        assert_eq!(forged(|h, _| h.kind = Kind::Mark), Check::Payload);
        assert_eq!(forged(|_, p| p[160] ^= 1).letter(), 'i');
    }

    proptest! {
        #[test]
        fn frames_survive(entries in prop::collection::vec(any_entry(), 0..5), block in 0u32..5) {
            let segment = SegmentHeader { block_bytes: 4096u32 << block, ..vector() };
            // Lines of any bytes do not verify; keep what can be in a frame.
            let mut entries = entries;
            entries.retain(|e| !matches!(e, Entry::Append(_)));
            entries.push(Entry::Append(first_line()));
            let offset = segment.frames_at();
            let (header, bytes) = encoded(&segment, offset, &entries);
            prop_assert_eq!(bytes.len() % segment.block_bytes as usize, 0);
            let frame = verify(&segment, offset, TIP, &bytes).unwrap();
            prop_assert_eq!((frame.header, frame.entries), (header, entries));
            prop_assert_eq!(frame.bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn the_bound_holds_for_the_largest_entry() {
        let mut append = first_line();
        append.run = "x".repeat(64).parse().unwrap();
        (append.file, append.off, append.seq) = (Seq(u64::MAX), u64::MAX, Seq(u64::MAX));
        (append.n, append.lines) = (u32::MAX, vec![b'x'; 70_000]);
        let entries = vec![Entry::Append(append); 3];
        let mut out = vec![0; bytes_max(entries.iter())];
        assert!(log_entry::encode(entries.iter(), &mut out[HEADER_BYTES..]).is_some());
        assert!(log_entry::encode(entries.iter(), &mut out[HEADER_BYTES + 600..]).is_none());
    }
}
