//! Asking the processor to fetch memory in advance.

/// Bytes that are fetched together.
const LINE: usize = 64;

/// Has the memory at `at` fetched, without waiting for it. Any address will do, even one that is not
/// readable. Does nothing where the processor's instruction for it cannot be reached from stable Rust.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which neither reads nor faults; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Has all of a value fetched, likewise.
#[inline]
pub fn prefetch_all<T>(value: &T) {
    let begin = std::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of::<T>()).step_by(LINE) {
        prefetch(begin.wrapping_add(at));
    }
}
