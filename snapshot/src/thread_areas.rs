//! A fork that glibc cannot make, and what it would have done beside the call.

use std::io;

/// What glibc registered with the kernel for the calling thread, and expects to
/// find registered in a fork.
pub(crate) struct ThreadAreas {
    tid_address: *mut libc::c_int,
    robust_list: *mut libc::c_void,
    robust_list_bytes: usize,
}

impl ThreadAreas {
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let mut areas = Self {
            tid_address: std::ptr::null_mut(),
            robust_list: std::ptr::null_mut(),
            robust_list_bytes: 0,
        };
        // SAFETY: writes one pointer (prctl(2), PR_GET_TID_ADDRESS).
        let asked = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut areas.tid_address) };
        if asked != 0 || areas.tid_address.is_null() {
            return Err(io::Error::other(
                "the kernel does not tell a thread's tid address (CONFIG_CHECKPOINT_RESTORE)",
            ));
        }
        // SAFETY: writes one pointer and one size (get_robust_list(2)).
        let asked = unsafe {
            libc::syscall(
                libc::SYS_get_robust_list,
                0,
                &raw mut areas.robust_list,
                &raw mut areas.robust_list_bytes,
            )
        };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(areas)
    }

    /// Forks with the caller's parent as the child's; true in the child.
    ///
    /// glibc's fork cannot do that, so what it does beside the call is done here:
    /// the thread id in the child's thread control block, and the robust list.
    pub(crate) fn fork(&self) -> io::Result<bool> {
        let flags = libc::CLONE_PARENT
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        // SAFETY: a copy of this process on a copy of its stack, like fork(2); it
        // is single-threaded (checked by `serve`), so no lock is held by anybody
        // else, and the id is stored where glibc keeps it.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, self.tid_address, 0) };
        match child {
            0 => {
                // SAFETY: the same list that glibc registered in the template.
                unsafe {
                    libc::syscall(
                        libc::SYS_set_robust_list,
                        self.robust_list,
                        self.robust_list_bytes,
                    );
                }
                Ok(true)
            }
            child if child > 0 => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
