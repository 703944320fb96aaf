//! Sealed files: one JSON object whose last field is a sum over everything before it.
//!
//! The same trailer as a journal line, with a genesis text of the file's own kind, so that a file
//! of one kind never passes for another. May not know what the fields mean. Invariant: a text that
//! opens is the text that sealing the opened value gives.

use super::compact;
use super::line;
use crate::codecs::json::Json;
use crate::ground::digest::Sum;
use crate::ground::limits::JSON_DEPTH_MAX;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not a sealed file of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The sum is missing or belongs to other bytes.
    #[error("its seal is missing or broken")]
    Seal,
    /// The seal holds but the content is not what this version writes.
    #[error("its content is not understood: {0}")]
    Shape(String),
}

fn genesis(kind: &str) -> Sum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(b"\n");
    Sum::from_hasher(&hasher)
}

/// The bytes of a sealed file. `kind` is the genesis text, such as `dormouse-root/1`; `value` must
/// serialise as an object with at least one field.
#[must_use]
pub fn seal<T: Serialize>(kind: &str, value: &T) -> Vec<u8> {
    let json = Json::of(value);
    let text = json.as_str();
    let mut out = text.strip_suffix('}').unwrap_or(text).as_bytes().to_vec();
    let sum = line::chain(genesis(kind), &out);
    line::push_trailer(&mut out, sum);
    out
}

/// Reads a sealed file.
///
/// # Errors
/// The seal does not hold, or the content has another shape than `T`.
pub fn open<T: DeserializeOwned + Serialize>(kind: &str, bytes: &[u8]) -> Result<T, Error> {
    let (body, stated) = line::split(bytes).ok_or(Error::Seal)?;
    if line::chain(genesis(kind), body) != stated {
        return Err(Error::Seal);
    }
    let shape = |why: String| Error::Shape(why);
    let mut text = String::from_utf8(body.to_vec()).map_err(|e| shape(e.to_string()))?;
    text.push('}');
    compact::check(&text, JSON_DEPTH_MAX).map_err(|why| shape(why.to_owned()))?;
    let value: T = serde_json::from_str(&text).map_err(|e| shape(e.to_string()))?;
    if Json::of(&value).as_str() == text { Ok(value) } else { Err(shape("not canonical".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Thing {
        v: u32,
        name: String,
    }

    #[test]
    fn a_sealed_file_opens_as_its_own_kind_only() {
        let thing = Thing { v: 1, name: "x".into() };
        let bytes = seal("thing/1", &thing);
        assert_eq!(open("thing/1", &bytes), Ok(thing));
        assert_eq!(open::<Thing>("thing/2", &bytes), Err(Error::Seal));
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Thing>("thing/1", &bad).is_err(), "bit {bit}");
        }
    }
}
