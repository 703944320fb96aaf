//! The disk port.
