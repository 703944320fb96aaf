//! The commit log: headers of segments, payloads of frames, whole segments.

use std::path::Path;

use dormouse::codecs::format::frame::{self, Place};
use dormouse::codecs::format::log_entry::{self, Entry};
use dormouse::codecs::format::log_header::SegmentHeader;
use dormouse::ground::clock::Timestamp;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{Disk as _, Open};
use dormouse::shells::commit_log::{LOG_DIR, scan, segment_file};
use dormouse::shells::run_dir::root_file::{RootJson, RootState};

use super::choice;

const BLOCK: usize = 4096;
/// Where the sum of a header stands, over all bytes before it.
const HEADER_SUM_AT: usize = BLOCK - 4;
const SEGMENT_BYTES_MAX: usize = 32 * BLOCK;

/// Gives a header the sum that its bytes have, so that what stands behind the sum is looked at.
fn seal_header(block: &mut [u8]) {
    if let Some((body, sum)) = block.split_at_mut_checked(HEADER_SUM_AT)
        && sum.len() >= 4
    {
        sum[..4].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
}

/// A header that is found is written again as it was.
pub fn segment_header(data: &[u8]) {
    let (how, data) = choice(data);
    let mut start = data.to_vec();
    if how % 2 == 1 {
        start.resize(start.len().max(BLOCK), 0);
        seal_header(&mut start);
    }
    let Ok((header, _)) = SegmentHeader::find(&start) else { return };
    let mut printed = vec![0xff; 2 * header.block_bytes as usize];
    header.encode(&mut printed);
    assert_eq!(SegmentHeader::find(&printed), Ok((header, false)));
}

fn header() -> SegmentHeader {
    SegmentHeader {
        block_bytes: 4096,
        root: [0; 16],
        segno: 1,
        generation: 1,
        first_seq: 1,
        prev_last_seq: 0,
        prev_last_crc: 0,
        settled: true,
        buffered: false,
        segment_bytes: SEGMENT_BYTES_MAX as u64,
        nonce: [7; 16],
        boot: [0; 16],
        created: Timestamp::from_micros(0),
    }
}

/// The frame of these entries, at the beginning of the segment.
fn framed(entries: &[Entry]) -> Vec<u8> {
    let segment = header();
    let offset = segment.frames_at();
    let mut out = vec![0; frame::bytes_max(entries.iter()).next_multiple_of(BLOCK)];
    let now = Timestamp::from_micros(0);
    let place = Place { segment: &segment, offset, tip: segment.tip(), now };
    let written = frame::encode(place, entries.iter(), &mut out);
    let (_, bytes) = written.unwrap_or_else(|| panic!("there is room for what was read"));
    out.truncate(bytes);
    out
}

/// A payload that decodes is the payload of the frame that its entries give.
pub fn log_payload(data: &[u8]) {
    let mut at = 0;
    while let Some((start, append, bytes)) = data.get(at..).and_then(log_entry::find_append) {
        assert!(bytes > 0 && at + start + bytes <= data.len());
        let _ = append.verifies();
        at += start + bytes;
    }
    let Some(entries) = log_entry::decode(data) else { return };
    if entries.is_empty() {
        return;
    }
    let frame = framed(&entries);
    let payload = &frame[frame::HEADER_BYTES..frame::HEADER_BYTES + data.len()];
    assert_eq!(payload, data, "another payload means the same");
}

/// A log of one segment gets a verdict; what is given back verifies, and is the same twice.
pub fn log_scan(data: &[u8]) {
    let (how, data) = choice(data);
    let mut bytes = vec![0; 2 * BLOCK];
    header().encode(&mut bytes);
    match how % 4 {
        // The bytes are the whole file, header and all.
        0 => bytes = data.to_vec(),
        // The first header is sealed over whatever it says.
        1 => {
            bytes = data.to_vec();
            bytes.resize(bytes.len().max(2 * BLOCK), 0);
            seal_header(&mut bytes[..BLOCK]);
        }
        2 => bytes.extend_from_slice(data),
        // Behind a frame that is whole.
        _ => {
            bytes.extend_from_slice(&framed(&[]));
            bytes.extend_from_slice(data);
        }
    }
    bytes.resize(SEGMENT_BYTES_MAX, 0);
    let disk = MemoryDisk::new(0);
    let dir = disk.open_dir(Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
    let written = dir
        .ensure_dir(LOG_DIR)
        .and_then(|log| log.create_excl(&segment_file(1))?.write_at(0, &bytes));
    written.unwrap_or_else(|e| panic!("{e}"));
    let json = RootJson {
        v: 1,
        root: "00000000-0000-0000-0000-000000000000".into(),
        generation: 1,
        state: RootState::Open,
        boot_id: String::new(),
        oldest_segment: 1,
        max_segment: 1,
        last_seq: 0,
        epoch_floor: 0,
    };
    let Ok(found) = scan::scan(&*dir, &json, Open::Read) else { return };
    for logged in &found.entries {
        assert!(logged.seq <= found.last_seq);
        if let Entry::Append(append) = &logged.entry {
            assert!(append.verifies(), "lines that do not follow from each other");
        }
    }
    let again = scan::scan(&*dir, &json, Open::Read).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again, found);
}
