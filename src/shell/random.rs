//! Randomness from the kernel, for seeds.

use nix::errno::Errno;

/// A random seed. Falls back to the clock and the process number where the kernel has none to
/// give yet, at the first seconds of a boot: it only scatters a hash table and jitters retries.
pub fn seed() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: eight bytes to write to.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), 8, libc::GRND_NONBLOCK) };
    if Errno::result(got) == Ok(8) {
        u64::from_ne_bytes(bytes)
    } else {
        super::clock::mono().0 ^ u64::from(std::process::id()) << 32
    }
}
