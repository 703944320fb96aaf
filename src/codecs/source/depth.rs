//! How deep a text may be nested, estimated before anything recursive looks at it.
//!
//! May not know the grammar: strings and comments are read as if they were code, which errs on the
//! side of deeper. Invariant: one pass, and memory only for open brackets.

/// Brackets that may be open at once. People stay below 30, generated code below 100.
const BRACKETS_MAX: usize = 5_000;
/// Words and signs that may follow each other, in all open brackets together, without a comma or a
/// semicolon: chains such as `a.b().c()…`, `x => y => …` and `else if …` nest without brackets.
const CHAIN_MAX: usize = 100_000;
/// Up to here the stack of any thread is enough.
const SHALLOW: Depth = Depth { brackets: 40, chain: 1_000 };
/// Stack for texts between shallow and too deep: 8 KiB for a bracket, 1 KiB for a link, rounded up.
pub(super) const DEEP_STACK_BYTES: usize = 256 * 1024 * 1024;

const _: () = assert!(BRACKETS_MAX * 8192 + CHAIN_MAX * 1024 < DEEP_STACK_BYTES);

/// The deepest that a text gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Depth {
    brackets: usize,
    chain: usize,
}

impl Depth {
    /// Measures a text.
    pub(super) fn of(text: &str) -> Self {
        let mut deepest = Self::default();
        // For each open bracket what closes it, and the links since its last separator.
        let mut open: Vec<(u8, usize)> = vec![(0, 0)];
        let (mut chain, mut last) = (0, b' ');
        // How many of the open brackets wait for each kind of closing one.
        let mut waiting = [0_usize; 3];
        for byte in text.bytes() {
            match byte {
                b'(' | b'[' | b'{' => {
                    open.push((closing(byte), 0));
                    waiting[row_of(closing(byte))] += 1;
                }
                b')' | b']' | b'}' => {
                    // A bracket that never closes, such as one in a string, ends with those around.
                    // It is looked for only as far as everything passed is taken out.
                    while waiting[row_of(byte)] > 0
                        && let Some((close, links)) = open.pop()
                    {
                        waiting[row_of(close)] -= 1;
                        chain -= links;
                        if close == byte {
                            break;
                        }
                    }
                }
                b',' | b';' => {
                    if let Some((_, links)) = open.last_mut() {
                        chain -= std::mem::take(links);
                    }
                }
                _ if is_link(byte, last) => {
                    if let Some((_, links)) = open.last_mut() {
                        *links += 1;
                        chain += 1;
                    }
                }
                _ => {}
            }
            last = byte;
            deepest.brackets = deepest.brackets.max(open.len() - 1);
            deepest.chain = deepest.chain.max(chain);
            if deepest.is_too_deep() {
                break;
            }
        }
        deepest
    }

    /// Whether a text of this depth needs [`DEEP_STACK_BYTES`].
    pub(super) const fn is_deep(self) -> bool {
        self.brackets > SHALLOW.brackets || self.chain > SHALLOW.chain
    }

    /// Whether a text of this depth is refused.
    pub(super) const fn is_too_deep(self) -> bool {
        self.brackets > BRACKETS_MAX || self.chain > CHAIN_MAX
    }
}

const fn closing(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

const fn row_of(close: u8) -> usize {
    match close {
        b')' => 0,
        b']' => 1,
        _ => 2,
    }
}

/// Whether a word or sign begins here. Rows of one sign, as in `===` or under headings, are one.
fn is_link(byte: u8, last: u8) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || !b.is_ascii();
    if byte.is_ascii_whitespace() {
        return false;
    }
    let row = byte == last && b"-=*/#.|&".contains(&byte);
    let inside = word(byte) && word(last);
    !(row || inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_and_links() {
        let depth = |text: &str| {
            let Depth { brackets, chain } = Depth::of(text);
            (brackets, chain)
        };
        assert_eq!(depth(""), (0, 0));
        assert_eq!(depth("f(g[1], {a})"), (2, 3));
        assert_eq!(depth("a.b.c"), (0, 5));
        assert_eq!(depth("a, b, c; d"), (0, 1));
        assert_eq!(depth("// ======\n"), (0, 2));
        assert_eq!(depth("{ s = ':(' }; a"), (2, 5));
        assert_eq!(depth(")))"), (0, 0));
        assert!(Depth::of(&"[".repeat(5_001)).is_too_deep());
        assert!(Depth::of(&"!".repeat(100_001)).is_too_deep());
        assert!(!Depth::of(&"a = [1, 2];\n".repeat(100_000)).is_too_deep());
        assert!(!Depth::of(&"f(() => { g(1) });\n".repeat(10_000)).is_deep());
    }
}
