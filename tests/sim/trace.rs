//! What happened, as a number that must be the same for the same seed, and as text when a seed is
//! replayed.

use std::fmt;

use crate::options::SECOND;

pub struct Trace {
    hash: u64,
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            print,
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn is_printed(&self) -> bool {
        self.print
    }

    pub fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn line(&self, now: u64, text: fmt::Arguments<'_>) {
        if self.print {
            println!("{:>5}.{:06} {text}", now / SECOND, now % SECOND / 1000);
        }
    }
}

/// Says what happens, when somebody reads along.
macro_rules! say {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_printed() {
            $world.trace.line($world.now, format_args!($($text)*));
        }
    };
}
pub(crate) use say;
