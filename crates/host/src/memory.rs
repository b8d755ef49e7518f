//! Settings of the C library's memory allocator.
//!
//! In:    calls at start and after bursts
//! Out:   less memory held by the process
//! Holds: two calls with constant arguments, no pointers
//! Upstream: none (there the runtime's own collector)

/// One arena for all threads, so that freed memory is contiguous and can be returned.
pub fn one_arena() {
    #[expect(
        unsafe_code,
        reason = "the allocator is only reached through its C interface"
    )]
    // SAFETY: mallopt takes two integers and may be called at any time.
    let _set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Returns free memory to the kernel.
pub fn give_back() {
    #[expect(
        unsafe_code,
        reason = "the allocator is only reached through its C interface"
    )]
    // SAFETY: malloc_trim takes an integer and may be called at any time.
    let _released = unsafe { libc::malloc_trim(0) };
}
