//! Counts allocations and live bytes of the whole process.
//!
//! Nothing is counted before the first question: a counter that all threads write to would slow down
//! whoever allocates, and so falsify what else a bench measures.
#![allow(unsafe_code)] // an allocator cannot be written without
#![allow(dead_code)] // each bench asks for some of it

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

impl Counting {
    fn note(&self, allocations: u64, bytes: i64) {
        if ON.load(Relaxed) {
            COUNT.fetch_add(allocations, Relaxed);
            LIVE.fetch_add(bytes, Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(1, layout.size() as i64);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.note(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations since the first question.
pub(crate) fn count() -> u64 {
    ON.store(true, Relaxed);
    COUNT.load(Relaxed)
}

/// Bytes allocated less bytes freed since the first question. Only differences mean something.
pub(crate) fn live() -> i64 {
    ON.store(true, Relaxed);
    LIVE.load(Relaxed)
}
