//! What a recorder of block writes has seen, and the states in which a power cut leaves the disk.
//!
//! May not know filesystems. Invariant: what was flushed is in every state; of what came after,
//! any subset of sectors is.

use super::dice::Dice;

/// Bytes of a sector.
const SECTOR: usize = 512;
/// What a record begins with.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// `flags` of an entry.
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One thing that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Where it ends in the record.
    end: u64,
    flags: u64,
    sector: usize,
    data: Vec<u8>,
}

/// All that was recorded.
#[derive(Debug, Clone)]
pub(super) struct Record(Vec<Entry>);

/// A disk that is played to some moment.
pub(super) struct Film<'r> {
    record: &'r Record,
    /// What is durable whatever happens.
    durable: Vec<u8>,
    /// Entries that are durable or pending.
    shown: usize,
    /// Written since the last flush.
    pending: Vec<usize>,
}

impl Record {
    /// Reads a record; nothing if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if number(0)? != MAGIC {
            return None;
        }
        let (count, mut at, mut all) = (number(16)?, SECTOR, Vec::new());
        for _ in 0..count {
            let (sector, length, flags) = (number(at)?, number(at + 8)?, number(at + 16)?);
            at += SECTOR;
            let sectors = if flags & DISCARD == 0 { usize::try_from(length).ok()? } else { 0 };
            let data = bytes.get(at..at + sectors * SECTOR)?.to_vec();
            at += data.len();
            let sector = usize::try_from(sector).ok()?;
            all.push(Entry { end: at as u64, flags, sector, data });
        }
        Some(Self(all))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the first `count` entries end in the record.
    pub(super) fn end_of(&self, count: usize) -> u64 {
        count.checked_sub(1).and_then(|last| self.0.get(last)).map_or(SECTOR as u64, |e| e.end)
    }
}

impl<'r> Film<'r> {
    /// Begins with the disk as it was when recording began.
    pub(super) fn new(record: &'r Record, start: Vec<u8>) -> Self {
        Self { record, durable: start, shown: 0, pending: Vec::new() }
    }

    /// Goes on until `count` entries were seen.
    pub(super) fn show(&mut self, count: usize) {
        while self.shown < count.min(self.record.len()) {
            let entry = &self.record.0[self.shown];
            if entry.flags & FLUSH != 0 {
                for before in std::mem::take(&mut self.pending) {
                    write(&mut self.durable, &self.record.0[before], |_| true);
                }
            }
            if entry.flags & FUA != 0 {
                write(&mut self.durable, entry, |_| true);
            } else if !entry.data.is_empty() {
                self.pending.push(self.shown);
            }
            self.shown += 1;
        }
    }

    /// The disk after a power cut now: nothing, everything, or any sectors of what is pending.
    pub(super) fn cut(&self, dice: &mut Dice) -> Vec<u8> {
        let (mut image, how) = (self.durable.clone(), dice.below(4));
        for pending in &self.pending {
            match how {
                0 => {}
                1 => write(&mut image, &self.record.0[*pending], |_| true),
                _ => write(&mut image, &self.record.0[*pending], |_| dice.one_in(2)),
            }
        }
        image
    }
}

/// Writes those sectors of an entry that are chosen.
fn write(image: &mut [u8], entry: &Entry, mut is_chosen: impl FnMut(usize) -> bool) {
    for (n, sector) in entry.data.chunks(SECTOR).enumerate() {
        let at = (entry.sector + n) * SECTOR;
        if is_chosen(n)
            && let Some(place) = image.get_mut(at..at + sector.len())
        {
            place.copy_from_slice(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of these entries: flags, sector, byte of each sector.
    fn record(entries: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let block = |numbers: &[u64]| {
            let mut block: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            block.resize(SECTOR, 0);
            block
        };
        let mut all = block(&[MAGIC, 1, entries.len() as u64, 512]);
        for (flags, sector, bytes) in entries {
            all.extend(block(&[*sector, bytes.len() as u64, *flags, 0]));
            all.extend(bytes.iter().flat_map(|byte| [*byte; SECTOR]));
        }
        all
    }

    fn firsts(image: &[u8]) -> Vec<u8> {
        image.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn what_was_flushed_is_in_every_state_and_the_rest_in_any_part() {
        let bytes = record(&[(0, 0, &[1, 2]), (1, 0, &[]), (0, 1, &[3, 4])]);
        let record = Record::read(&bytes).unwrap();
        assert_eq!((record.len(), record.end_of(3)), (3, bytes.len() as u64));
        let mut film = Film::new(&record, vec![0; 4 * SECTOR]);
        film.show(3);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            seen.insert(firsts(&film.cut(&mut Dice::of(seed, "t"))));
        }
        let all = [[1, 2, 0, 0], [1, 2, 4, 0], [1, 3, 0, 0], [1, 3, 4, 0]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all.map(|a| a.to_vec()));
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        assert!(Record::read(b"").is_none() && Record::read(&[0; 4096]).is_none());
        let mut cut = record(&[(0, 0, &[1])]);
        cut.truncate(700);
        assert!(Record::read(&cut).is_none());
    }
}
