//! Pinning the generator's thread, so that it and the target do not share a CPU.

use std::io;

use crate::error::Error;

/// Pins the calling thread to one CPU.
pub fn pin_this_thread(cpu: usize) -> Result<(), Error> {
    let wrong = |problem: String| Error::Plan {
        setting: "--pin",
        problem,
        right: "the number of a CPU that this process may use, from 0",
    };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(wrong(format!("there is no CPU {cpu}")));
    }
    // SAFETY: a cpu_set_t is plain bits, all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below the number of bits of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is valid for reading, of the size given; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if result == 0 {
        return Ok(());
    }
    Err(wrong(format!(
        "cannot run on CPU {cpu}: {}",
        io::Error::last_os_error()
    )))
}
