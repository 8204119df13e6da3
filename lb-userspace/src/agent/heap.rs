//! How the C library's allocator serves the agent. It must not run after the first thread has started.

/// Makes all threads allocate from one heap.
///
/// By default glibc gives each thread one of its own, which has two costs here. A thread's own heap grows by a system call for
/// each page, and a large config takes hundreds of megabytes on the way from its text to the maps. And what one thread has freed
/// (the check's tables) another one (the writer) cannot use. The threads are few, and each keeps small pieces in a cache of its
/// own, so they are seldom in each other's way. Other C libraries are left as they are.
pub(super) fn share() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it only sets a number of the allocator, and nobody else sets or reads it meanwhile: there is one thread.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        // Zero: unknown to this version. Then everything works as before.
        if set == 0 {
            tracing::debug!(object = "heap", cause = "mallopt", "each thread has a heap of its own");
        }
    }
}
