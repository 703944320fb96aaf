//! Invocation keys, the digests that replay compares, and the deterministic random stream.
//!
//! May not know how a process is executed or where values come from. Invariant: a key is at most
//! [`KEY_BYTES_MAX`] bytes long and two different calls of one run differ in it.

use crate::codecs::json::{Json, Numbers, canonical};
use crate::ground::digest::{Digest, hex};
use crate::ground::limits::KEY_BYTES_MAX;

/// What stands for the run directory in digested text, so that a moved run still replays.
pub const RUN_DIR_MARK: &str = "${RUN_DIR}";

/// What stands for the effect's own id in a digested definition.
pub const EFFECT_MARK: &str = "${EFFECT}";

/// A name, branch label or user key with the characters that have a meaning in keys escaped.
#[must_use]
pub fn escape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        if matches!(c, '%' | '/' | '#' | '=' | '[' | ']') || c.is_control() {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                out.push('%');
                out.push_str(&hex(&[byte]).to_uppercase());
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The key of the `n`-th call of `name` in `scope` that gave no key of its own.
#[must_use]
pub fn counted(scope: &str, name: &str, n: u64) -> String {
    let slash = if scope.is_empty() { "" } else { "/" };
    shortened(format!("{scope}{slash}{}#{n}", escape(name)))
}

/// The key of a call that gave its own: without scope or counter, global in the run per name.
#[must_use]
pub fn explicit(name: &str, user_key: &str) -> String {
    shortened(format!("{}={}", escape(name), escape(user_key)))
}

/// The scope of one branch of the `group`-th group opened in `scope`.
#[must_use]
pub fn branch_scope(scope: &str, group: u64, branch: &str) -> String {
    let slash = if scope.is_empty() { "" } else { "/" };
    format!("{scope}{slash}p{group}[{}]", escape(branch))
}

/// Cuts what is too long and completes it with 16 hex digits of the digest of the whole.
pub(in crate::machines) fn shortened(key: String) -> String {
    if key.len() <= KEY_BYTES_MAX {
        return key;
    }
    let tail = &Digest::of(key.as_bytes()).hex()[..16];
    let mut cut = KEY_BYTES_MAX - tail.len() - 1;
    while !key.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}~{tail}", &key[..cut])
}

/// Digest of what identifies a call. Absent arguments are the empty text.
#[must_use]
pub fn args_digest(args: Option<&Json>, run_dir: &str) -> Digest {
    let replace = Some((run_dir, RUN_DIR_MARK));
    let text = args.map(|json| canonical(json, Numbers::EcmaScript, replace)).unwrap_or_default();
    Digest::of(text.as_bytes())
}

/// Digest of a built definition, independent of the effect's number and of the run's place.
#[must_use]
pub fn def_digest(def: &Json, effect_id: &str, run_dir: &str) -> Digest {
    let text = canonical(def, Numbers::EcmaScript, Some((run_dir, RUN_DIR_MARK)));
    Digest::of(text.replace(effect_id, EFFECT_MARK).as_bytes())
}

/// The randomness of one generation of a run: a function of run, generation, scope and counter.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The stream of `generation` of the run whose id seeds it: in a fork its first ancestor.
    #[must_use]
    pub fn new(seed_run_id: &str, generation: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("dormouse 2026 process randomness v1");
        hasher.update(&generation.to_le_bytes());
        hasher.update(seed_run_id.as_bytes());
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// Fills `out` with the bytes of draw number `counter` in `scope`.
    pub fn fill(&self, scope: &str, counter: u64, out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&counter.to_le_bytes());
        hasher.update(scope.as_bytes());
        hasher.finalize_xof().fill(out);
    }

    /// A number in [0, 1) with 53 random bits.
    #[must_use]
    pub fn number(&self, scope: &str, counter: u64) -> f64 {
        let mut bytes = [0; 8];
        self.fill(scope, counter, &mut bytes);
        let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> 5;
        let low = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) >> 6;
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A UUID of version 4 shape.
    #[must_use]
    pub fn uuid(&self, scope: &str, counter: u64) -> String {
        let mut bytes = [0; 16];
        self.fill(scope, counter, &mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex(&bytes);
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        parts.join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::json::{Surrogates, gate};

    fn json(text: &str) -> Json {
        gate(text.as_bytes(), 100, Surrogates::Lone).unwrap()
    }

    #[test]
    fn keys_are_built_from_scope_name_and_counter() {
        assert_eq!(counted("", "build", 0), "build#0");
        let branch = branch_scope("", 0, "1");
        assert_eq!(branch, "p0[1]");
        assert_eq!(branch_scope(&branch, 2, "a/b"), "p0[1]/p2[a%2Fb]");
        assert_eq!(counted("p0[1]", "@sleep", 7), "p0[1]/@sleep#7");
        assert_eq!(explicit("build", "x=1"), "build=x%3D1");
        assert_eq!(escape("50% [é]#\n\u{85}"), "50%25 %5Bé%5D%23%0A%C2%85");
    }

    #[test]
    fn long_keys_are_cut_and_stay_different() {
        let long = |last: char| format!("{}{last}", "é".repeat(300));
        let (a, b) = (explicit("t", &long('a')), explicit("t", &long('b')));
        assert!(a.len() <= KEY_BYTES_MAX && a.len() > KEY_BYTES_MAX - 4, "{}", a.len());
        assert_ne!(a, b);
        let (head, tail) = a.rsplit_once('~').unwrap();
        assert!(head.starts_with("t=é") && tail.len() == 16);
        assert_eq!(explicit("t", &"x".repeat(510)).len(), 512);
        assert!(!explicit("t", &"x".repeat(510)).contains('~'));
        assert!(explicit("t", &"x".repeat(511)).contains('~'));
    }

    #[test]
    fn digests_ignore_layout_place_and_the_effects_number() {
        // BLAKE3 of the empty text: its published test vector.
        assert_eq!(
            args_digest(None, "/r").to_string(),
            "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        let here = args_digest(Some(&json(r#"{"b":1.0,"a":"/r/1/x"}"#)), "/r/1");
        let there = args_digest(Some(&json(r#"{"a":"/s/2/x","b":1}"#)), "/s/2");
        assert_eq!(here, there);
        assert_eq!(here, Digest::of(br#"{"a":"${RUN_DIR}/x","b":1}"#));
        let def = |id: &str| json(&format!(r#"{{"kind":"agent","io":"tasks/{id}/in.json"}}"#));
        assert_eq!(
            def_digest(&def("e0001"), "e0001", "/r"),
            def_digest(&def("e0002"), "e0002", "")
        );
        assert_eq!(
            def_digest(&def("e0001"), "e0001", "/r"),
            Digest::of(br#"{"io":"tasks/${EFFECT}/in.json","kind":"agent"}"#)
        );
    }

    #[test]
    fn randomness_is_a_function_of_run_generation_scope_and_counter() {
        let stream = Stream::new("r1", 1);
        let number = stream.number("", 0);
        assert!((0.0..1.0).contains(&number));
        assert_eq!(number.to_bits(), Stream::new("r1", 1).number("", 0).to_bits());
        for other in [
            stream.number("", 1),
            stream.number("p0[0]", 0),
            Stream::new("r1", 2).number("", 0),
            Stream::new("r2", 1).number("", 0),
        ] {
            assert_ne!(number.to_bits(), other.to_bits());
        }
        let uuid = stream.uuid("", 0);
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn numbers_spread_over_the_unit_interval() {
        let stream = Stream::new("r1", 1);
        let sum: f64 = (0..10_000).map(|n| stream.number("", n)).sum();
        assert!((4_900.0..5_100.0).contains(&sum), "{sum}");
    }
}
