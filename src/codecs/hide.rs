//! Hiding texts: whoever must not keep them finds them in bytes and puts marks in their places.
//!
//! Finds a text as it is, percent-encoded, escaped as in JSON, and in base64 at any offset, also
//! where that goes over several lines. May not know whose texts these are. Invariant: what comes
//! out holds none of them in one of these forms, also where it came in parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

/// Bytes that the longest spelling of one byte takes: an escape of JSON.
const SPELLED_BYTES_MAX: usize = 6;
/// Bytes of a line's end and the indentation after it, between two symbols of base64.
const BREAK_BYTES_MAX: usize = 24;
/// What may stand between two lines of base64, read from its end.
const BREAKS: [&str; 13] =
    ["\n", "\r", " ", "\t", "\\n", "\\r", "\\t", "%0A", "%0D", "%0a", "%0d", "\\u000a", "\\u000d"];

/// How a text may spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Plain,
    Percent,
    Json,
}

const SPELLINGS: [Spelling; 3] = [Spelling::Plain, Spelling::Percent, Spelling::Json];

/// One form of one secret.
struct Needle {
    mark: String,
    bytes: Zeroizing<Vec<u8>>,
    base64: bool,
    /// A character of base64 before and after tells some bits of the secret.
    ragged: (bool, bool),
}

/// Hides some texts.
#[derive(Default)]
pub struct Hider(Vec<Needle>);

/// What became of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// Without what was hidden.
    pub bytes: Vec<u8>,
    /// How many of the bytes that were given this is about; the others belong to the next part.
    pub taken: usize,
    /// How often something was hidden.
    pub count: u64,
}

impl Hider {
    /// Hides these texts, each behind a mark of its own.
    #[must_use]
    pub fn of<'a>(texts: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        let needles = texts.into_iter().flat_map(|(mark, text)| needles_of(&mark, text));
        let mut needles: Vec<Needle> = needles.collect();
        // A text that begins with another one is hidden whole.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.bytes.len()));
        Self(needles)
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes without the texts; nothing if they hold none.
    #[must_use]
    pub fn hide(&self, bytes: &[u8]) -> Option<Hidden> {
        let hidden = self.part(bytes, true);
        (hidden.count > 0).then_some(hidden)
    }

    /// The same for bytes that may go on: what could be the beginning of a text is left for later.
    #[must_use]
    pub fn part(&self, bytes: &[u8], is_last: bool) -> Hidden {
        // No text that begins before this place ends after the bytes.
        let sure = if is_last { bytes.len() } else { bytes.len().saturating_sub(self.reach()) };
        let (mut out, mut at, mut taken, mut count) = (Vec::new(), 0, 0, 0);
        while at < sure {
            let Some((needle, length)) = self.at(&bytes[at..]) else {
                at += 1;
                continue;
            };
            let before = if needle.ragged.0 { symbol_before(&bytes[taken..at]) } else { 0 };
            out.extend_from_slice(&bytes[taken..at - before]);
            out.extend_from_slice(needle.mark.as_bytes());
            count += 1;
            at += length;
            taken = at;
        }
        // The last symbol may tell something of a text that begins after it, or on the next line.
        let kept = BREAK_BYTES_MAX + 1;
        let end = if is_last { at } else { at.saturating_sub(kept).max(taken) };
        out.extend_from_slice(&bytes[taken..end]);
        Hidden { bytes: out, taken: end, count }
    }

    /// How many bytes the longest form of a text takes at most, with what tells something of it.
    fn reach(&self) -> usize {
        let longest = self.0.first().map_or(0, |needle| needle.bytes.len());
        if longest == 0 {
            return 0;
        }
        let after = BREAK_BYTES_MAX + SPELLED_BYTES_MAX;
        longest * SPELLED_BYTES_MAX + passed_max(longest) + after
    }

    /// The text that some bytes begin with, and how many bytes it takes there.
    fn at(&self, bytes: &[u8]) -> Option<(&Needle, usize)> {
        self.0.iter().find_map(|needle| {
            let length = SPELLINGS.iter().filter_map(|how| spells(bytes, needle, *how)).max()?;
            Some((needle, length))
        })
    }
}

fn needles_of(mark: &str, text: &str) -> Vec<Needle> {
    let plain = text.as_bytes();
    let mut needles = vec![Needle {
        mark: mark.to_owned(),
        bytes: Zeroizing::new(plain.to_vec()),
        base64: false,
        ragged: (false, false),
    }];
    // Inside a longer text it may begin at any of three places of a group.
    for before in 0..3 {
        let padded = Zeroizing::new([&[0; 2][..before], plain].concat());
        let whole = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
        let first = [0, 2, 3][before];
        let last = padded.len() * 8 / 6;
        needles.push(Needle {
            mark: mark.to_owned(),
            bytes: Zeroizing::new(whole.as_bytes()[first..last].to_vec()),
            base64: true,
            ragged: (before > 0, padded.len() % 3 > 0),
        });
    }
    needles
}

fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

fn is_break(decoded: &[u8]) -> bool {
    matches!(decoded, [b'\n' | b'\r' | b' ' | b'\t'])
}

/// How many bytes all ends of lines within so many symbols may take: lines of four symbols are
/// found with the longest usual end.
fn passed_max(symbols: usize) -> usize {
    symbols + BREAK_BYTES_MAX
}

/// How many bytes a symbol of base64 at the end takes, with the end of its line.
fn symbol_before(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some(less) = BREAKS.iter().find_map(|end| rest.strip_suffix(end.as_bytes())) {
        if text.len() - less.len() > BREAK_BYTES_MAX {
            return 0;
        }
        rest = less;
    }
    let found = rest.last().is_some_and(|b| is_symbol(*b));
    if found { text.len() - rest.len() + 1 } else { 0 }
}

/// How many bytes a symbol of base64 at the beginning takes, with the end of the line before it.
fn symbol_after(text: &[u8], how: Spelling) -> usize {
    let mut at = 0;
    let mut decoded = [0; 4];
    while let Some((count, taken)) = decode(&text[at..], how, &mut decoded) {
        if count == 1 && is_symbol(decoded[0]) {
            return at + taken;
        }
        at += taken;
        if !is_break(&decoded[..count]) || at > BREAK_BYTES_MAX {
            break;
        }
    }
    0
}

/// How many bytes of `text` spell the needle, if it begins with it, with what tells of its end.
fn spells(text: &[u8], needle: &Needle, how: Spelling) -> Option<usize> {
    let (mut at, mut matched, mut passed) = (0, 0, 0);
    while matched < needle.bytes.len() {
        let mut decoded = [0; 4];
        let (count, taken) = decode(text.get(at..)?, how, &mut decoded)?;
        if needle.base64 && matched > 0 && is_break(&decoded[..count]) {
            passed += taken;
            at += taken;
            if passed > passed_max(needle.bytes.len()) {
                return None;
            }
            continue;
        }
        for byte in &decoded[..count] {
            let wanted = *needle.bytes.get(matched)?;
            let same = match (wanted, byte) {
                (b'+', b'-') | (b'/', b'_') => needle.base64,
                // Forms write a space as a plus.
                (b' ', b'+') => how == Spelling::Percent,
                (wanted, byte) => wanted == *byte,
            };
            if !same {
                return None;
            }
            matched += 1;
        }
        at += taken;
    }
    let after = if needle.ragged.1 { symbol_after(&text[at..], how) } else { 0 };
    Some(at + after)
}

/// The bytes that a text spells first: how many, and how many bytes of the text that takes.
fn decode(text: &[u8], how: Spelling, into: &mut [u8; 4]) -> Option<(usize, usize)> {
    into[0] = *text.first()?;
    let hex = |from: usize, to: usize| {
        let digits = std::str::from_utf8(text.get(from..to)?).ok()?;
        let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all_hex)
    };
    match (how, into[0]) {
        (Spelling::Percent, b'%') => {
            let Some(byte) = hex(1, 3).and_then(|byte| u8::try_from(byte).ok()) else {
                return Some((1, 1));
            };
            into[0] = byte;
            Some((1, 3))
        }
        (Spelling::Json, b'\\') => {
            into[0] = match text.get(1)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let second = text.get(6..8).filter(|next| next == b"\\u");
                    let second = second.and_then(|_| hex(8, 12)).and_then(|n| n.try_into().ok());
                    let units = [u16::try_from(hex(2, 6)?).ok()?, second.unwrap_or(0)];
                    let point = char::decode_utf16(units).next()?.ok()?;
                    return Some((point.encode_utf8(into).len(), 6 * point.len_utf16()));
                }
                other => *other,
            };
            Some((1, 2))
        }
        _ => Some((1, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when it goes in in parts of this size.
    fn in_parts(hider: &Hider, bytes: &[u8], size: usize) -> (String, u64) {
        let (mut held, mut out, mut count) = (Vec::new(), Vec::new(), 0);
        for (n, part) in bytes.chunks(size).enumerate() {
            held.extend_from_slice(part);
            let hidden = hider.part(&held, (n + 1) * size >= bytes.len());
            held.drain(..hidden.taken);
            out.extend(hidden.bytes);
            count += hidden.count;
        }
        assert!(held.is_empty());
        (String::from_utf8(out).unwrap(), count)
    }

    #[test]
    fn parts_hide_what_the_whole_hides() {
        let secret = "p4ss/w+rd \"x\"";
        let hider = Hider::of([("<1>".to_owned(), secret), ("<2>".to_owned(), "abcdefgh")]);
        let base64 = STANDARD_NO_PAD.encode(format!("u:{secret}!"));
        let text =
            format!("a {secret} b abcdefgh{secret} {base64} p4ss/w+rd %70%34ss%2Fw%2Brd+%22x%22");
        let whole = hider.hide(text.as_bytes()).unwrap();
        assert_eq!(whole.count, 5);
        let whole = String::from_utf8(whole.bytes).unwrap();
        assert!(whole.starts_with("a <1> b <2><1> "), "{whole}");
        for size in 1..=text.len() {
            assert_eq!(in_parts(&hider, text.as_bytes(), size), (whole.clone(), 5), "{size}");
        }
        assert!(hider.hide(b"nothing of that").is_none());
        assert_eq!(in_parts(&Hider::default(), b"all of it", 2), ("all of it".to_owned(), 0));
    }

    #[test]
    fn lines_of_base64_and_pairs_of_escapes_are_found() {
        let secret = "a-long-pass-phrase \u{1f600} of several lines?~";
        let hider = Hider::of([("<1>".to_owned(), secret)]);
        for before in ["", "u", "u:"] {
            let whole = STANDARD_NO_PAD.encode(format!("{before}{secret}!"));
            for width in [4, 7, 19, 76] {
                for end in ["\n", "\r\n", "\n      ", "\\n", "\\r\\n", "%0D%0A"] {
                    let lines: Vec<_> =
                        whole.as_bytes().chunks(width).map(String::from_utf8_lossy).collect();
                    // The shortest lines are found where they are not indented.
                    if width == 4 && end.len() > 4 {
                        continue;
                    }
                    let text = format!("({})", lines.join(end));
                    let hidden = hider.hide(text.as_bytes()).unwrap();
                    let hidden = String::from_utf8(hidden.bytes).unwrap();
                    let kept = hidden.replace("<1>", "").replace(end, "");
                    assert!(kept.len() <= 8, "{text} {hidden}");
                    for size in [1, 5, 64] {
                        assert_eq!(in_parts(&hider, text.as_bytes(), size).0, hidden, "{text}");
                    }
                }
            }
        }
        let escaped = secret.replace('\u{1f600}', "\\ud83d\\ude00");
        assert_eq!(hider.hide(escaped.as_bytes()).unwrap().bytes, b"<1>");
        let half = secret.replace('\u{1f600}', "\\ud83d\\u0041");
        assert!(hider.hide(half.as_bytes()).is_none());
    }
}
