//! Journals: lines, events, whole journals, their repair and their fold.

use dormouse::codecs::event::Event;
use dormouse::codecs::format::line::{self, segment_first, segment_name};
use dormouse::ground::digest::Sum;
use dormouse::ground::id::{RunId, Seq};
use dormouse::machines::replay::state::{RunState, fold};
use dormouse::shells::journal::plan::{Edit, Plan, plan};
use dormouse::shells::journal::scan::{Around, File, Scan, Verdict, scan};

use super::choice;

/// The run whose journals these are.
fn run() -> RunId {
    "run-1".parse().unwrap_or_else(|e| panic!("{e}"))
}

/// A line of this body that follows from `previous`.
fn chained(body: &[u8], previous: Sum) -> (Vec<u8>, Sum) {
    let sum = line::chain(previous, body);
    let mut out = body.to_vec();
    out.extend_from_slice(format!(",\"sum\":\"{sum}\"}}\n").as_bytes());
    (out, sum)
}

/// The same lines, each following from the one before.
fn rechained(bytes: &[u8]) -> Vec<u8> {
    let mut sum = line::genesis(&run());
    let mut out = Vec::new();
    for text in bytes.split_inclusive(|b| *b == b'\n') {
        let bare = text.strip_suffix(b"\n").unwrap_or(text);
        let body = line::split(text).map_or(bare, |(body, _)| body);
        let (line, next) = chained(body, sum);
        out.extend(line);
        sum = next;
    }
    out
}

/// A line that decodes is printed as it was read.
pub fn journal_line(data: &[u8]) {
    let (how, data) = choice(data);
    let genesis = line::genesis(&run());
    let line = match how % 2 {
        0 => data.to_vec(),
        _ => chained(data, genesis).0,
    };
    let Ok(record) = line::decode(&line, genesis) else { return };
    let (printed, sum) = line::encode(record.seq, record.at, &record.event, genesis);
    assert_eq!(printed, line);
    assert_eq!(sum, record.sum);
}

/// The first line is the type of an event, the rest its data.
pub fn event(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, data) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(event) = Event::decode(name, data) else { return };
    assert_eq!(event.name(), name);
    let printed = event.data();
    assert!(event.prints_as(printed.as_str()));
    let again = Event::decode(name, printed.as_str());
    let again = again.unwrap_or_else(|e| panic!("what it prints is refused: {e}"));
    assert_eq!(again.data().as_str(), printed.as_str());
}

/// Cuts lines into segments of so many, named after their first record.
fn segments(bytes: &[u8], size: usize) -> Vec<File> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let files = lines.chunks(size).enumerate().map(|(n, lines)| File {
        name: segment_name(Seq((n * size) as u64 + 1)),
        bytes: lines.concat(),
    });
    files.collect()
}

/// Does to files in memory what a plan says.
#[must_use]
pub fn mended(files: &[File], plan: &Plan) -> Vec<File> {
    let mut files = files.to_vec();
    for edit in &plan.edits {
        match edit {
            Edit::Remove { file } => files.retain(|f| f.name != *file),
            Edit::Complete { file } => {
                let found = files.iter_mut().filter(|f| f.name == *file);
                found.for_each(|f| f.bytes.push(b'\n'));
            }
            Edit::Cut { file, offset, bytes } => {
                for f in files.iter_mut().filter(|f| f.name == *file) {
                    assert_eq!(f.bytes.len() as u64, offset + bytes, "what is set aside is all");
                    f.bytes.truncate(usize::try_from(*offset).unwrap_or(usize::MAX));
                }
            }
            Edit::Restore { file, offset, bytes, content } => {
                let before = files.iter().find(|f| f.name == *file);
                let length = before.map_or(0, |f| f.bytes.len()) as u64;
                assert_eq!(length, offset + bytes, "what is set aside is all");
                files.retain(|f| f.name != *file);
                files.push(File { name: file.clone(), bytes: content.clone() });
            }
        }
    }
    files.retain(|f| !f.bytes.is_empty());
    files
}

/// A journal gets a verdict; what verifies is printed as it stands; what a plan makes of it is
/// sound; folding it at once is folding it bit by bit.
pub fn journal_open(data: &[u8]) {
    let (how, data) = choice(data);
    let (witness, data) = choice(data);
    let bytes = if how & 1 == 0 { data.to_vec() } else { rechained(data) };
    let size = [usize::MAX, 1, 2, 5][usize::from(how >> 1) % 4];
    let size = size.min(bytes.len().max(1));
    let files = segments(&bytes, size);
    let witness = (how & 8 != 0).then_some(Seq(u64::from(witness)));
    let around = Around { has_other_files: true, witness };
    let found = scan(&run(), &files, around);
    verified(&found, &files);
    if let Some(plan) = plan(&found) {
        let files = mended(&files, &plan);
        let after = scan(&run(), &files, Around { witness: None, ..around });
        // A journal of which nothing is left has no state to go on with.
        if !found.records.is_empty() {
            assert!(after.verdict() <= Verdict::Note, "{:?} after {plan:?}", after.main);
        }
        assert_eq!(after.records, found.records);
    }
    folded(&found);
}

/// What was called verified is what the records print.
fn verified(found: &Scan, files: &[File]) {
    for (i, segment) in found.segments.iter().enumerate() {
        let file = files.iter().find(|file| file.name == segment.name);
        let Some(file) = file.filter(|_| segment_first(&segment.name).is_some()) else { continue };
        let end = usize::try_from(segment.verified).unwrap_or(usize::MAX);
        let mut stands = file.bytes[..end].to_vec();
        if segment.lacks_feed {
            stands.push(b'\n');
        }
        assert_eq!(found.segment_bytes(i), stands, "{}", segment.name);
    }
}

fn folded(found: &Scan) {
    let whole = fold(&found.records);
    let Some((first, rest)) = found.records.split_first() else { return };
    let Ok(mut state) = RunState::first(first) else { return assert!(whole.is_err()) };
    for record in rest {
        if state.apply(record).is_err() {
            return assert!(whole.is_err());
        }
    }
    assert_eq!(whole.ok().flatten(), Some(state));
}
