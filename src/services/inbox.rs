//! x. Invariant: x
