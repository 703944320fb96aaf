//! Overwriting parts of a text so that nothing else moves.
//!
//! May not know what is overwritten or why. Invariant: the result has as many bytes as the text,
//! its lines break where they broke, and what is not overwritten keeps its offset, in bytes and in
//! UTF-16 units.

/// Ranges to blank, and single characters to write over them.
#[derive(Default)]
pub(super) struct Blanks {
    ranges: Vec<(usize, usize)>,
    marks: Vec<(usize, u8)>,
}

impl Blanks {
    /// Blanks `start..end`.
    pub(super) fn blank(&mut self, start: usize, end: usize) {
        if start < end {
            self.ranges.push((start, end));
        }
    }

    /// Writes an ASCII character over a single ASCII byte at `at`.
    pub(super) fn mark(&mut self, at: usize, with: u8) {
        self.marks.push((at, with));
    }

    /// The start of a blanked range that ends at `end`.
    pub(super) fn start_of_range_to(&self, end: usize) -> Option<usize> {
        self.ranges.iter().rev().find(|range| range.1 == end).map(|range| range.0)
    }

    /// The text with everything overwritten.
    pub(super) fn apply(mut self, text: &str) -> String {
        self.ranges.sort_unstable();
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in self.ranges {
            let start = start.max(at);
            if start >= end {
                continue;
            }
            out.push_str(&text[at..start]);
            text[start..end].chars().for_each(|c| out.push_str(blank_for(c)));
            at = end;
        }
        out.push_str(&text[at..]);
        for (at, with) in self.marks {
            if out.as_bytes().get(at).is_some_and(u8::is_ascii) {
                out.replace_range(at..=at, char::from(with).encode_utf8(&mut [0; 4]));
            }
        }
        out
    }
}

/// White space of the same length, in UTF-8 bytes and in UTF-16 units; line ends stay.
fn blank_for(c: char) -> &'static str {
    match (c, c.len_utf8()) {
        ('\n', _) => "\n",
        ('\r', _) => "\r",
        ('\t', _) => "\t",
        ('\u{2028}', _) => "\u{2028}",
        ('\u{2029}', _) => "\u{2029}",
        (_, 1) => " ",
        (_, 2) => "\u{a0}",
        (_, 3) => "\u{3000}",
        (_, _) => "\u{a0}\u{a0}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_keep_every_position() {
        let text = "aä€😀\r\n\u{2028}\tz";
        let mut blanks = Blanks::default();
        blanks.blank(0, text.len() - 1);
        blanks.mark(0, b';');
        let out = blanks.apply(text);
        assert_eq!(out, ";\u{a0}\u{3000}\u{a0}\u{a0}\r\n\u{2028}\tz");
        assert_eq!(out.len(), text.len());
        assert_eq!(out.encode_utf16().count(), text.encode_utf16().count());
    }

    #[test]
    fn overlapping_ranges_are_one() {
        let mut blanks = Blanks::default();
        blanks.blank(2, 6);
        blanks.blank(0, 4);
        blanks.blank(3, 4);
        assert_eq!(blanks.apply("abcdefgh"), "      gh");
    }
}
