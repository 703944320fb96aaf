//! Ed25519 signatures over sealed text, and the spelling of their keys.
//!
//! May not know where keys are kept, nor whom to trust. Invariant: a key and a signature have one
//! spelling, lower-case hex; what is signed begins with the name of its format, so that a
//! signature never passes for one over something else.

use std::fmt;
use std::str::FromStr;

use crate::ground::digest::{hex, unhex};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

const SECRET: &str = "dormouse-signing-key/1 ";
const SIGNED: &str = "ed25519";
const UNSIGNED: &[u8] = b"unsigned\n";

/// Why a text is no key, or a line no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the text of a public key.
    #[error("a public key is 64 lower-case hex digits")]
    NotPublic,
    /// Not the content of a key file.
    #[error("it is not a key file of dormouse")]
    NotSecret,
    /// The line says nothing about a signature.
    #[error("the line of its signature cannot be read")]
    Line,
    /// The signature is not one of that key over these bytes.
    #[error("its signature is wrong")]
    Wrong,
}

/// Whose signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = unhex::<32>(text).ok_or(Error::NotPublic)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| Error::NotPublic)
    }
}

/// What signs. Is wiped from memory when it is dropped.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

impl SecretKey {
    /// The key that follows from random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is not one.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotSecret)?;
        let seed = text.trim_end().strip_prefix(SECRET).and_then(unhex::<32>);
        seed.map(|seed| Self::from_seed(&seed)).ok_or(Error::NotSecret)
    }

    /// The content of its file.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{SECRET}{}\n", hex(self.0.as_bytes()))
    }

    /// What others need to check its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

/// The line that says who signed `bytes`.
#[must_use]
pub fn line(key: Option<&SecretKey>, bytes: &[u8]) -> Vec<u8> {
    let Some(key) = key else { return UNSIGNED.to_vec() };
    let signature = hex(&key.0.sign(bytes).to_bytes());
    format!("{SIGNED} {} {signature}\n", key.public()).into_bytes()
}

/// Who signed `bytes`, by such a line; nobody if it says so.
///
/// # Errors
/// It says nothing, or what it says is wrong.
pub fn check(line: &[u8], bytes: &[u8]) -> Result<Option<PublicKey>, Error> {
    if line == UNSIGNED {
        return Ok(None);
    }
    let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
    let mut words = text.ok_or(Error::Line)?.split(' ');
    let (Some(SIGNED), Some(key), Some(signature), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Error::Line);
    };
    let key: PublicKey = key.parse().map_err(|_| Error::Line)?;
    let signature = Signature::from_bytes(&unhex::<64>(signature).ok_or(Error::Line)?);
    key.0.verify_strict(bytes, &signature).map_err(|_| Error::Wrong)?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_belongs_to_its_key_and_bytes() {
        let key = SecretKey::from_seed(&[7; 32]);
        let read = SecretKey::read(key.text().as_bytes()).unwrap();
        assert_eq!(read.public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        let signed = line(Some(&key), b"what");
        assert_eq!(check(&signed, b"what"), Ok(Some(key.public())));
        assert_eq!(check(&signed, b"that"), Err(Error::Wrong));
        assert_eq!(check(&line(None, b"what"), b"what"), Ok(None));
        for bit in 0..signed.len() * 8 {
            let mut bad = signed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad, b"what").is_err(), "bit {bit}");
        }
        assert!(!format!("{key:?}").contains(&"07".repeat(4)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let text = SecretKey::from_seed(&[7; 32]).text();
        for bad in ["", "x", &text[1..], &text[..text.len() - 2], &text.to_uppercase()] {
            assert_eq!(SecretKey::read(bad.as_bytes()).unwrap_err(), Error::NotSecret, "{bad}");
        }
        for bad in ["", "00", &"A".repeat(64), &"g".repeat(64)] {
            assert_eq!(bad.parse::<PublicKey>(), Err(Error::NotPublic), "{bad}");
        }
    }
}
