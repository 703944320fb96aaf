//! The allocator of an instance: counts bytes and remembers that it refused some.
//!
//! May not know JavaScript. Invariant: a refusal is never forgotten, even when the author's code
//! catches the error that it caused.
#![allow(unsafe_code)] // The allocator interface of the engine is an unsafe trait.

use rquickjs::allocator::{Allocator, RustAllocator};
use std::cell::Cell;
use std::rc::Rc;

/// What the allocator and the instance share.
#[derive(Debug)]
pub(super) struct Meter {
    used: Cell<usize>,
    limit: Cell<usize>,
    refused: Cell<bool>,
}

impl Meter {
    /// A meter without a limit yet.
    pub(super) fn new() -> Rc<Self> {
        let limit = Cell::new(usize::MAX);
        Rc::new(Self { used: Cell::new(0), limit, refused: Cell::new(false) })
    }

    /// From now on at most `bytes` may be in use.
    pub(super) fn limit_to(&self, bytes: u64) {
        self.limit.set(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Bytes in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.get() as u64
    }

    /// Whether an allocation was ever refused.
    pub(super) fn refused(&self) -> bool {
        self.refused.get()
    }

    /// Takes `more` bytes into account, or refuses.
    fn admits(&self, more: usize) -> bool {
        let fits = self.used.get().checked_add(more).is_some_and(|sum| sum <= self.limit.get());
        if !fits {
            self.refused.set(true);
        }
        fits
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_add(bytes));
    }

    fn sub(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }
}

/// Rust's allocator behind a [`Meter`].
pub(super) struct Metered(pub(super) Rc<Meter>);

// SAFETY: every pointer handed out comes from `RustAllocator`, which fulfils the contract of the
// trait, and is given back to it unchanged; this wrapper only counts and sometimes answers null,
// which the contract allows.
unsafe impl Allocator for Metered {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.admits(size) {
            return std::ptr::null_mut();
        }
        let ptr = RustAllocator.alloc(size);
        self.count(ptr);
        ptr
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        let fits = count.checked_mul(size).is_some_and(|bytes| self.0.admits(bytes));
        if !fits {
            self.0.refused.set(true);
            return std::ptr::null_mut();
        }
        let ptr = RustAllocator.calloc(count, size);
        self.count(ptr);
        ptr
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: the caller hands back a pointer of this allocator, so it is the inner one's.
        unsafe {
            self.0.sub(RustAllocator::usable_size(ptr));
            RustAllocator.dealloc(ptr);
        }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        if ptr.is_null() {
            return self.alloc(new_size);
        }
        // SAFETY: as in `dealloc`; on failure the old block stays valid and stays counted.
        unsafe {
            let before = RustAllocator::usable_size(ptr);
            if !self.0.admits(new_size.saturating_sub(before)) {
                return std::ptr::null_mut();
            }
            let moved = RustAllocator.realloc(ptr, new_size);
            if !moved.is_null() {
                self.0.sub(before);
                self.0.add(RustAllocator::usable_size(moved));
            }
            moved
        }
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: as in `dealloc`.
        unsafe { RustAllocator::usable_size(ptr) }
    }
}

impl Metered {
    fn count(&self, ptr: *mut u8) {
        if !ptr.is_null() {
            // SAFETY: the pointer was returned by `RustAllocator` a moment ago.
            self.0.add(unsafe { RustAllocator::usable_size(ptr) });
        }
    }
}
