//! One segment's file: spare, active, read back.
//!
//! May not know runs. Invariant: a spare is zero from end to end and durable, name and bytes; no
//! frame is written before both copies of the header are; no durable byte is written again.

use super::{LOG_DIR, segment_file};
use crate::codecs::format::frame::{self, Place, Tip};
use crate::codecs::format::log_entry::Entry;
use crate::codecs::format::log_header::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SegmentHeader};
use crate::ground::clock::Timestamp;
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::aligned::AlignedBuffer;
use crate::ports::disk::{self, Dir, FileHandle, Kind, Open, Rename};
use std::sync::Arc;

/// Zeros are written in pieces of this length.
const ZEROS: usize = 1 << 20;

/// A segment that waits for its first frame.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) segno: u64,
    file: Box<dyn FileHandle>,
    block_bytes: u32,
    buffered: bool,
}

/// Opens the directory of the segments, making it if it is missing.
pub(super) fn open_dir(meta: &dyn Dir) -> disk::Result<Arc<dyn Dir>> {
    meta.ensure_durable_dir(LOG_DIR)
}

impl Spare {
    /// Makes a spare. Its number has never been active, so what an earlier attempt left under it
    /// may go. It must not be used before `root.json` names it.
    pub(super) fn make(dir: &dyn Dir, segno: u64, bytes: u64) -> disk::Result<Self> {
        let name = segment_file(segno);
        let temporary = format!("{name}.tmp");
        for left in [&temporary, &name] {
            disk::optional(dir.unlink(left))?;
        }
        let made = (|| {
            let file = dir.create_excl(&temporary)?;
            let zeros = vec![0; ZEROS];
            let mut at = 0;
            while at < bytes {
                let piece = usize::try_from(bytes - at).unwrap_or(ZEROS).min(ZEROS);
                file.write_at(at, &zeros[..piece])?;
                at += piece as u64;
            }
            file.sync_file()?;
            dir.rename(&temporary, dir, &name, Rename::NoReplace)?;
            dir.sync()
        })();
        if let Err(e) = made {
            // Whatever is left is removed by the next attempt or the next opening.
            let _ = dir.unlink(&temporary);
            return Err(e);
        }
        Self::open(dir, segno)
    }

    fn open(dir: &dyn Dir, segno: u64) -> disk::Result<Self> {
        let name = segment_file(segno);
        let file = dir.open(&name, Open::Write)?;
        let align = file.dio_alignment()?.filter(|align| *align <= BLOCK_BYTES_MAX);
        let (file, buffered) = match align {
            Some(_) if !sabotage::is_removed(Guard::NoSync) => {
                (dir.open(&name, Open::Direct)?, false)
            }
            _ => (file, true),
        };
        let block_bytes = align.unwrap_or(BLOCK_BYTES_MIN).max(BLOCK_BYTES_MIN);
        Ok(Self { segno, file, block_bytes, buffered })
    }
}

/// What is the same for all segments of one opening of the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) root: [u8; 16],
    pub(super) boot: [u8; 16],
    pub(super) generation: u64,
    pub(super) segment_bytes: u64,
}

/// A segment that frames are written to, or were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) header: SegmentHeader,
    /// The last frame in it, or before it.
    pub(super) tip: Tip,
    /// Where the next frame stands.
    pub(super) end: u64,
}

impl Extent {
    pub(super) const fn is_empty(&self) -> bool {
        self.end == self.header.frames_at()
    }

    /// Bytes that frames still have in it.
    pub(super) const fn room(&self) -> u64 {
        self.header.segment_bytes.saturating_sub(self.end)
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    file: Box<dyn FileHandle>,
    pub(super) extent: Extent,
    buffer: AlignedBuffer,
}

impl Active {
    /// Writes the header. `before` is the last frame of the segment before, unless everything
    /// before is settled; then only its number counts.
    pub(super) fn activate(
        spare: Spare,
        origin: &Origin,
        before: Tip,
        settled: bool,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> disk::Result<Self> {
        let header = SegmentHeader {
            block_bytes: spare.block_bytes,
            root: origin.root,
            segno: spare.segno,
            generation: origin.generation,
            first_seq: before.seq + 1,
            prev_last_seq: before.seq,
            prev_last_crc: if settled { 0 } else { before.crc },
            settled,
            buffered: spare.buffered,
            segment_bytes: origin.segment_bytes,
            nonce,
            boot: origin.boot,
            created: now,
        };
        let block = spare.block_bytes as usize;
        let mut buffer = AlignedBuffer::new(64 * block, block);
        header.encode(&mut buffer[..2 * block]);
        let extent = Extent { header, tip: header.tip(), end: header.frames_at() };
        let active = Self { file: spare.file, extent, buffer };
        active.put(0, 2 * block)?;
        Ok(active)
    }

    /// Writes the front of the buffer durably.
    fn put(&self, offset: u64, bytes: usize) -> disk::Result<()> {
        self.file.write_at(offset, &self.buffer[..bytes])?;
        let needs_sync = self.extent.header.buffered && !sabotage::is_removed(Guard::NoSync);
        if needs_sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Writes one frame of these entries (none: a mark) and returns when it is durable. Gives its
    /// padded length. After an error nothing may be written to this segment any more.
    pub(super) fn write<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = &'a Entry> + Clone,
        now: Timestamp,
    ) -> disk::Result<usize> {
        let block = self.extent.header.block_bytes as usize;
        let wanted = frame::bytes_max(entries.clone()).next_multiple_of(block);
        if self.buffer.len() < wanted {
            self.buffer = AlignedBuffer::new(wanted, block);
        }
        let Extent { header: segment, tip, end: offset } = self.extent;
        let place = Place { segment: &segment, offset, tip, now };
        let encoded = frame::encode(place, entries, &mut self.buffer);
        let (header, bytes) =
            encoded.filter(|(_, bytes)| *bytes as u64 <= self.extent.room()).ok_or_else(|| {
                let path = segment_file(segment.segno);
                disk::Error::of_kind("write", path, Kind::Broken, "the frame does not fit")
            })?;
        self.put(offset, bytes)?;
        self.extent.tip = Tip { seq: header.seq, crc: header.crc };
        self.extent.end += bytes as u64;
        if self.buffer.len() > 1 << 22 {
            // Large frames are rare; their memory is not kept.
            self.buffer = AlignedBuffer::new(64 * block, block);
        }
        Ok(bytes)
    }
}

/// Everything that the frames of a segment say, read from the device.
pub(super) fn read_back(dir: &dyn Dir, extent: &Extent) -> disk::Result<Vec<Entry>> {
    let segment = &extent.header;
    let name = segment_file(segment.segno);
    let bytes = dir.read_file(&name, Open::Truth, segment.segment_bytes)?;
    let (mut at, mut tip, mut entries) = (segment.frames_at(), segment.tip(), Vec::new());
    while at < extent.end {
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let frame = frame::verify(segment, at, tip, rest).map_err(|check| {
            let why = format!("frame {} at {at} fails check {}", tip.seq + 1, check.letter());
            disk::Error::of_kind("read back", dir.path().join(&name), Kind::Broken, &why)
        })?;
        entries.extend(frame.entries);
        tip = Tip { seq: frame.header.seq, crc: frame.header.crc };
        at += frame.bytes;
    }
    Ok(entries)
}
