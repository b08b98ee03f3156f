//! The fuzzer's bytes as a sequence of choices.

/// What is left of the bytes. Every choice takes a few, so that a byte changed changes one choice.
#[derive(Debug)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte; `None`: the script is over.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number below `count`, which must not be 0; 0 when the script is over.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % count
    }

    /// A yes or no.
    pub fn bool(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Bytes, after a byte that says how many.
    pub fn bytes(&mut self) -> &'a [u8] {
        let count = self.below(256).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
}
