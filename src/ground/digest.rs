//! Digests: BLAKE3-256 as `b3:` text, and the 16-byte sums that chain journal lines.
//!
//! May not know what is digested. Invariant: one digest has one spelling (lower-case hex).

use std::fmt;
use std::str::FromStr;

/// A text that is not a digest or a sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: wanted {1}")]
pub struct NotADigest(String, &'static str);

/// BLAKE3-256 of some bytes. Text form: `b3:` and 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest that an incremental hasher arrived at.
    #[must_use]
    pub fn from_hasher(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    /// The raw 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the prefix: the name of a blob file.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.strip_prefix("b3:").and_then(unhex).map(Self).ok_or_else(|| {
            NotADigest(text.chars().take(80).collect(), "b3: and 64 lower-case hex digits")
        })
    }
}

/// The link of a journal line to the line before it: the first 16 bytes of a BLAKE3 digest. Text
/// form: 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sum([u8; 16]);

impl Sum {
    /// Wraps 16 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The first 16 bytes of the hasher's digest.
    #[must_use]
    pub fn from_hasher(hasher: &blake3::Hasher) -> Self {
        let mut out = [0; 16];
        out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(out)
    }

    /// The raw 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Sum {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        unhex(text)
            .map(Self)
            .ok_or_else(|| NotADigest(text.chars().take(80).collect(), "32 lower-case hex digits"))
    }
}

crate::ground::id::serde_as_text!(Digest);
crate::ground::id::serde_as_text!(Sum);

/// Lower-case hex of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Every line that is read prints several of these: bytes are pushed, not characters.
    let mut text = Vec::with_capacity(2 * bytes.len());
    for b in bytes {
        text.extend([DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    }
    String::from_utf8(text).unwrap_or_else(|_| unreachable!("hex digits are ASCII"))
}

/// The `N` bytes behind `2 N` lower-case hex digits; nothing for any other text.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_sums_have_one_spelling() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!(digest.hex().parse::<Digest>().is_err());
        let sum = Sum::from_bytes([0xab; 16]);
        assert_eq!(sum.to_string(), "ab".repeat(16));
        assert_eq!(sum.to_string().parse(), Ok(sum));
        assert!("AB".repeat(16).parse::<Sum>().is_err());
    }
}
