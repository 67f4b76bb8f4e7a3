//! Memory for the arguments of a call. The host allocates each text and list that it lowers, 49 times for 16 events; here
//! that is a pointer moved on, and freeing them all is moving it back when the call has returned.
//!
//! Why that is safe: the arena serves only while no code of the guest runs, from the return of one export to the entry of
//! the next. What is allocated then can be nothing but that export's arguments, which this crate alone receives, hands out
//! as borrowed texts, and never frees. Whatever is allocated while the guest runs, results of imports among it, comes from
//! the global allocator and may live as long as it likes. Before the first call (constructors of the C library run then) the
//! arena is off.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Smallest block, in bytes: 16 events of 1 KiB fit.
const BLOCK_BYTES_MIN: usize = 32 * 1024;
/// Largest block that is kept from call to call, in bytes. What a call needs beyond it is given back after it.
const BLOCK_BYTES_MAX: usize = 1024 * 1024;
/// Alignment of a block: no type of the component model needs more.
const BLOCK_ALIGN: usize = 16;

/// A block that is handed out from its beginning on, and further ones when it was too small.
#[derive(Debug)]
pub(crate) struct Arena {
    block: *mut u8,
    size: usize,
    used: usize,
    /// What did not fit.
    more: Vec<(*mut u8, Layout)>,
    more_bytes: usize,
}

// === impl Arena ===

impl Arena {
    /// Without a block: the first allocation makes one.
    pub(crate) const fn new() -> Self {
        Self { block: std::ptr::null_mut(), size: 0, used: 0, more: Vec::new(), more_bytes: 0 }
    }

    /// Memory that is valid until [`Self::reset`], not initialized. `size` is not 0.
    #[inline]
    pub(crate) fn alloc(&mut self, size: usize, align: usize) -> *mut u8 {
        let start = self.used.next_multiple_of(align);
        match start.checked_add(size) {
            Some(end) if end <= self.size && align <= BLOCK_ALIGN => {
                self.used = end;
                // SAFETY: `start` is within the block.
                unsafe { self.block.add(start) }
            }
            _ => self.alloc_more(size, align),
        }
    }

    #[cold]
    fn alloc_more(&mut self, size: usize, align: usize) -> *mut u8 {
        if self.block.is_null() && size <= BLOCK_BYTES_MIN && align <= BLOCK_ALIGN {
            self.block = allocate(block_layout(BLOCK_BYTES_MIN));
            self.size = BLOCK_BYTES_MIN;
            self.used = size;
            return self.block;
        }
        // A layout that cannot be is one that no memory has room for.
        let Ok(layout) = Layout::from_size_align(size, align) else { std::process::abort() };
        let block = allocate(layout);
        self.more.push((block, layout));
        self.more_bytes = self.more_bytes.saturating_add(size);
        block
    }

    /// Frees all that was allocated. The next call may need as much, so the block grows to it, within its bound.
    #[inline]
    pub(crate) fn reset(&mut self) {
        let used = std::mem::take(&mut self.used);
        if !self.more.is_empty() {
            self.shrink_to_one(used);
        }
    }

    #[cold]
    fn shrink_to_one(&mut self, used: usize) {
        for (block, layout) in self.more.drain(..) {
            // SAFETY: it was allocated with this layout, and is not in the list any more.
            unsafe { dealloc(block, layout) };
        }
        let needed = used.saturating_add(std::mem::take(&mut self.more_bytes)).next_multiple_of(BLOCK_BYTES_MIN);
        let size = needed.min(BLOCK_BYTES_MAX);
        if size > self.size {
            self.free_block();
            self.block = allocate(block_layout(size));
            self.size = size;
        }
    }

    fn free_block(&mut self) {
        if !self.block.is_null() {
            // SAFETY: the block was allocated with this layout.
            unsafe { dealloc(self.block, block_layout(self.size)) };
            self.block = std::ptr::null_mut();
            self.size = 0;
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.shrink_to_one(0);
        self.free_block();
    }
}

fn block_layout(size: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and sizes are far below the limit.
    unsafe { Layout::from_size_align_unchecked(size, BLOCK_ALIGN) }
}

fn allocate(layout: Layout) -> *mut u8 {
    // SAFETY: no layout here has a size of 0.
    let block = unsafe { alloc(layout) };
    if block.is_null() { handle_alloc_error(layout) } else { block }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_do_not_overlap_and_are_aligned() {
        let mut arena = Arena::new();
        for round in 0..4_usize {
            let mut taken: Vec<(*mut u8, usize, u8)> = Vec::new();
            let sizes = [1, 7, 20, 1024, 3, 40_000, 8, 200_000, 1, 16].into_iter().cycle().take(30 * (round + 1));
            for (mark, size) in (0..=255_u8).cycle().zip(sizes) {
                let align = 1 << (usize::from(mark) % 4);
                let memory = arena.alloc(size, align);
                assert_eq!(memory as usize % align, 0);
                // SAFETY: the arena gave that many bytes.
                unsafe { memory.write_bytes(mark, size) };
                taken.push((memory, size, mark));
            }
            for (memory, size, mark) in taken {
                // SAFETY: they were written above, and nothing was reset since.
                let bytes = unsafe { std::slice::from_raw_parts(memory, size) };
                assert!(bytes.iter().all(|byte| *byte == mark));
            }
            arena.reset();
            assert!(arena.more.is_empty() && arena.used == 0 && arena.size <= BLOCK_BYTES_MAX);
        }
        assert_eq!(arena.size, BLOCK_BYTES_MAX);
    }

    #[test]
    fn a_block_grows_to_what_a_call_needs_and_stays() {
        let mut arena = Arena::new();
        arena.alloc(BLOCK_BYTES_MIN + 1, 1);
        arena.reset();
        let block = arena.block;
        assert_eq!(arena.alloc(BLOCK_BYTES_MIN + 1, 1), block);
        arena.reset();
        assert_eq!(arena.alloc(1, 1), block);
    }
}
