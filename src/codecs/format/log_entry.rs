//! What a commit-log frame says: entries as MessagePack arrays, their order of fields fixed.
//!
//! May not know where a frame stands or what a journal holds. Invariant: decoding consumes every
//! byte of a payload; an entry names a well-formed run.

use super::line;
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};
use std::fmt;

const APPEND: u8 = 1;
const REBASE: u8 = 2;
const GONE: u8 = 3;

/// An entry without its lines takes no more than this, the array's own head included.
pub const ENTRY_BYTES_MAX: usize = 192;

/// Bytes of one journal segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The journal segment, by the place of its first record.
    pub file: Seq,
    /// Where in it the bytes stand.
    pub off: u64,
    /// Place of the first record; 1 makes the run.
    pub seq: Seq,
    /// How many records.
    pub n: u32,
    /// The sum that the first one builds on.
    pub prev: Sum,
    /// The last one's sum.
    pub last: Sum,
    /// The lines, exactly as the journal holds them.
    pub lines: Vec<u8>,
}

/// One entry of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Records of one run.
    Append(Append),
    /// The journal files are durable and complete up to here: earlier entries of the run are void.
    Rebase {
        /// The run.
        run: RunId,
        /// Its head.
        seq: Seq,
        /// The head's sum.
        sum: Sum,
    },
    /// The run was deleted: earlier entries of it are void.
    Gone {
        /// The run.
        run: RunId,
    },
}

impl Append {
    /// The place of the last record.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.seq.0.saturating_add(u64::from(self.n)).saturating_sub(1))
    }

    /// Where the bytes end in the journal segment.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.off.saturating_add(self.lines.len() as u64)
    }

    /// Whether there are `n` lines, numbered from `seq`, that lead from `prev` to `last`.
    #[must_use]
    pub fn verifies(&self) -> bool {
        let (mut sum, mut seq, mut count) = (self.prev, self.seq, 0);
        for line in self.lines.split_inclusive(|b| *b == b'\n') {
            let Some((body, stated)) = line::split(line) else { return false };
            let numbered = std::str::from_utf8(body).ok().and_then(|b| line::envelope(b).ok());
            if numbered.is_none_or(|e| e.seq != seq) || line::chain(sum, body) != stated {
                return false;
            }
            (sum, seq, count) = (stated, seq.next(), count + 1);
        }
        count == self.n && count > 0 && sum == self.last
    }
}

impl Entry {
    /// The run that it is about.
    #[must_use]
    pub const fn run(&self) -> &RunId {
        match self {
            Self::Append(Append { run, .. }) | Self::Rebase { run, .. } | Self::Gone { run } => run,
        }
    }

    /// How many records it holds.
    #[must_use]
    pub const fn records(&self) -> u32 {
        match self {
            Self::Append(append) => append.n,
            Self::Rebase { .. } | Self::Gone { .. } => 0,
        }
    }

    /// At least as many bytes as it takes in a payload.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        match self {
            Self::Append(append) => ENTRY_BYTES_MAX + append.lines.len(),
            Self::Rebase { .. } | Self::Gone { .. } => ENTRY_BYTES_MAX,
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Append(a) => {
                let mut out = s.serialize_tuple(9)?;
                out.serialize_element(&APPEND)?;
                out.serialize_element(&a.run)?;
                out.serialize_element(&a.file)?;
                out.serialize_element(&a.off)?;
                out.serialize_element(&a.seq)?;
                out.serialize_element(&a.n)?;
                out.serialize_element(Bytes::new(a.prev.as_bytes()))?;
                out.serialize_element(Bytes::new(a.last.as_bytes()))?;
                out.serialize_element(Bytes::new(&a.lines))?;
                out.end()
            }
            Self::Rebase { run, seq, sum } => {
                (REBASE, run, seq, Bytes::new(sum.as_bytes())).serialize(s)
            }
            Self::Gone { run } => (GONE, run).serialize(s),
        }
    }
}

struct EntryVisitor;

/// The next field of an entry.
fn field<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("a field is missing"))
}

fn sum_field<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Sum, A::Error> {
    let bytes: ByteBuf = field(seq)?;
    let bytes = bytes.into_vec().try_into().map_err(|_| A::Error::custom("no sum"))?;
    Ok(Sum::from_bytes(bytes))
}

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
        let tag: u8 = field(&mut seq)?;
        let run = field(&mut seq)?;
        let entry = match tag {
            APPEND => Entry::Append(Append {
                run,
                file: field(&mut seq)?,
                off: field(&mut seq)?,
                seq: field(&mut seq)?,
                n: field(&mut seq)?,
                prev: sum_field(&mut seq)?,
                last: sum_field(&mut seq)?,
                lines: field::<_, ByteBuf>(&mut seq)?.into_vec(),
            }),
            REBASE => Entry::Rebase { run, seq: field(&mut seq)?, sum: sum_field(&mut seq)? },
            GONE => Entry::Gone { run },
            _ => return Err(A::Error::custom("an unknown entry")),
        };
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an entry has more fields than it should"));
        }
        Ok(entry)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(EntryVisitor)
    }
}

/// All entries of a payload; nothing unless it is one array of entries and nothing else.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<Vec<Entry>> {
    let mut rest = payload;
    let entries = rmp_serde::from_read(&mut rest).ok()?;
    rest.is_empty().then_some(entries)
}

/// The first entry with lines that can be read anywhere in `bytes`, with where it begins and how
/// long it is: for what is left of a payload. What it says may be garbage.
#[must_use]
pub fn find_append(bytes: &[u8]) -> Option<(usize, Append, usize)> {
    // An array of nine fields, the first of them the tag.
    const BEGINNING: [u8; 2] = [0x99, APPEND];
    let starts = bytes.windows(2).enumerate().filter(|(_, two)| *two == BEGINNING);
    for (start, _) in starts {
        let mut rest = &bytes[start..];
        if let Ok(Entry::Append(append)) = rmp_serde::from_read(&mut rest) {
            return Some((start, append, bytes.len() - start - rest.len()));
        }
    }
    None
}

/// Writes the entries as one array. `out` has room for [`Entry::bytes_max`] of each and five more.
/// Gives the bytes used; nothing if the room was too small.
pub(super) fn encode<'a>(
    entries: impl ExactSizeIterator<Item = &'a Entry>,
    out: &mut [u8],
) -> Option<usize> {
    let room = out.len();
    let mut rest = out;
    let mut serializer = rmp_serde::Serializer::new(&mut rest);
    serializer.collect_seq(entries).ok()?;
    Some(room - rest.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn first_line() -> Append {
        let run: RunId = "demo-run".parse().unwrap();
        let prev = line::genesis(&run);
        let body = concat!(
            r#"{"seq":1,"at":"2026-11-20T12:00:00.000000Z","#,
            r#""type":"RUN_CREATED","data":{"run":"demo-run"}"#,
        );
        let body = body.as_bytes();
        let last = line::chain(prev, body);
        let mut lines = body.to_vec();
        line::push_trailer(&mut lines, last);
        Append { run, file: Seq(1), off: 0, seq: Seq(1), n: 1, prev, last, lines }
    }

    fn encoded(entries: &[Entry]) -> Vec<u8> {
        let mut out = vec![0; 5 + entries.iter().map(Entry::bytes_max).sum::<usize>()];
        let n = encode(entries.iter(), &mut out).unwrap();
        out.truncate(n);
        out
    }

    #[test]
    fn lines_that_do_not_follow_are_seen() {
        let good = first_line();
        assert!(good.verifies());
        let bad = |change: &dyn Fn(&mut Append)| {
            let mut bad = good.clone();
            change(&mut bad);
            !bad.verifies()
        };
        assert!(bad(&|a| a.n = 2));
        assert!(bad(&|a| a.n = 0));
        assert!(bad(&|a| a.seq = Seq(2)));
        assert!(bad(&|a| a.prev = a.last));
        assert!(bad(&|a| a.last = a.prev));
        assert!(bad(&|a| a.lines.clear()));
        assert!(bad(&|a| a.lines.truncate(a.lines.len() - 1)));
        assert!(bad(&|a| a.lines.extend_from_slice(b"x\n")));
        assert!(bad(&|a| (a.n, a.lines) = (0, Vec::new())));
    }

    #[test]
    fn a_payload_is_consumed_exactly() {
        let entry = Entry::Append(first_line());
        let bytes = encoded(std::slice::from_ref(&entry));
        assert_eq!(bytes.len(), 187);
        assert_eq!(decode(&bytes), Some(vec![entry]));
        let mut longer = bytes.clone();
        longer.push(0xc0);
        assert_eq!(decode(&longer), None);
        // An entry with a field too many, one too few, of an unknown kind, with a bad name.
        let gone = [0x91, 0x92, 3, 0xa1, b'x'];
        assert_eq!(decode(&gone), Some(vec![Entry::Gone { run: "x".parse().unwrap() }]));
        for bad in [
            &[0x91, 0x93, 3, 0xa1, b'x', 0][..],
            &[0x91, 0x91, 3],
            &[0x91, 0x92, 4, 0xa1, b'x'],
            &[0x91, 0x92, 3, 0xa1, b'/'],
            &[0x91, 0x92, 3, 0xa2, b'.', b'.'],
            &[0x92, 0x92, 3, 0xa1, b'x'],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xc0],
            &[],
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    pub(in super::super) fn any_entry() -> impl Strategy<Value = Entry> {
        let sum = any::<[u8; 16]>().prop_map(Sum::from_bytes);
        let run = "[A-Za-z0-9_-]{1,64}".prop_map(|text| text.parse::<RunId>().unwrap());
        (run, any::<[u64; 3]>(), any::<u32>(), sum.clone(), sum, 0..3, any::<Vec<u8>>()).prop_map(
            |(run, [file, off, seq], n, prev, last, kind, lines)| match kind {
                0 => Entry::Append(Append {
                    run,
                    file: Seq(file),
                    off,
                    seq: Seq(seq),
                    n,
                    prev,
                    last,
                    lines,
                }),
                1 => Entry::Rebase { run, seq: Seq(seq), sum: last },
                _ => Entry::Gone { run },
            },
        )
    }

    proptest! {
        #[test]
        fn entries_survive(entries in prop::collection::vec(any_entry(), 0..6), cut: u16) {
            let bytes = encoded(&entries);
            prop_assert_eq!(decode(&bytes), Some(entries.clone()));
            let cut = usize::from(cut) % (bytes.len() + 1);
            if let Some((start, append, length)) = find_append(&bytes[cut..]) {
                let at = cut + start;
                prop_assert!(at + length <= bytes.len());
                // Lines of any bytes may hold what looks like an entry.
                prop_assert!(cut > 0 || entries.contains(&Entry::Append(append)));
            }
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = (decode(&bytes), find_append(&bytes));
        }
    }
}
