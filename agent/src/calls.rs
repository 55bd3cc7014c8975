//! Calls of the system and of the C library that no crate wraps safely → safe functions: the one place where something is
//! unsafe.
#![allow(unsafe_code, reason = "no crate wraps these calls")]

#[cfg(any(feature = "nspawn", target_env = "gnu"))]
use nix::libc;

/// Gives the memory that is free back to the system, which glibc does by itself only where nothing above it is in use:
/// malloc_trim(3). Other C libraries do without.
pub fn give_back_memory() {
    // SAFETY: malloc_trim(3) takes a number and may be called by any thread at any time (MT-Safe).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives a mount the owners' numbers that a user namespace has for them: mount_setattr(2) with `MOUNT_ATTR_IDMAP`.
///
/// # Errors
/// The system's.
#[cfg(feature = "nspawn")]
pub fn map_owners(tree: std::os::fd::BorrowedFd<'_>, namespace: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;

    /// Number of the system call: one of those that are the same on all machines.
    const MOUNT_SETATTR: libc::c_long = 442;
    /// `MOUNT_ATTR_IDMAP`.
    const IDMAP: u64 = 0x0010_0000;

    /// `struct mount_attr`.
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }

    // A file's number is never negative.
    let user_namespace = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    let attributes = MountAttributes { set: IDMAP, clear: 0, propagation: 0, user_namespace };
    // SAFETY: mount_setattr(2) takes a file, a path that ends with a zero byte, flags, and a structure of the size that is given
    // with it. It reads the path and the structure during the call, keeps neither, and writes to no memory of ours; both files
    // are open, since they are borrowed.
    let result = unsafe {
        libc::syscall(
            MOUNT_SETATTR,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    /// Pages of memory that this process has: proc_pid_statm(5).
    fn resident() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_free_between_what_is_in_use_is_given_back() {
        const PIECES: usize = 40_000;
        // 80 MB in pieces of half a page, of which every hundredth stays.
        let mut pieces: Vec<Option<Vec<u8>>> = (0..PIECES).map(|_| Some(vec![1; 2000])).collect();
        for (index, piece) in pieces.iter_mut().enumerate() {
            if index % 100 != 0 {
                *piece = None;
            }
        }
        let before = resident();
        give_back_memory();
        let after = resident();
        // In pages of 4 KiB, and half of it: other tests take some meanwhile.
        assert!(before - after > 10_000, "{before} pages before, {after} after");
        assert_eq!(pieces.iter().flatten().count(), PIECES / 100);
    }
}
