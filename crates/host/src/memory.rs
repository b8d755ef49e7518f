//! What the C library's allocator is told.
//!
//! In:    calls at start and after bursts
//! Out:   less memory kept
//! Holds: two calls with constant arguments, no pointer passes
//! Upstream: none (there the runtime's own collector)

/// One arena for all threads: what is freed lies together and can be given back.
pub fn one_arena() {
    #[expect(
        unsafe_code,
        reason = "the allocator is only reached through its C interface"
    )]
    // SAFETY: mallopt takes two integers and may be called at any time.
    let _set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives free memory back to the kernel.
pub fn give_back() {
    #[expect(
        unsafe_code,
        reason = "the allocator is only reached through its C interface"
    )]
    // SAFETY: malloc_trim takes an integer and may be called at any time.
    let _released = unsafe { libc::malloc_trim(0) };
}
