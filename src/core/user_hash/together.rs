//! User names whose hashes are wanted together, which costs less than one after the other.

use super::lanes::{LANES, SHORT, first_words};
use super::{Template, hash_of, never_zero};
use crate::core::UserHash;

/// Fewer are hashed faster one by one.
const WORTH_IT: usize = 3;

/// The names, and then their hashes.
#[derive(Debug, Default)]
pub struct Together {
    /// What is hashed of each name, one behind the other.
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    hashes: Vec<UserHash>,
}

impl Together {
    /// Adds a user name.
    pub fn push(&mut self, user: &[u8], template: &Template) {
        template.expand(user, &mut self.text);
        self.ends.push(self.text.len());
    }

    /// The hashes of all names, in the order in which they were added.
    pub fn hashes(&mut self) -> &[UserHash] {
        self.hashes.clear();
        let mut from = 0;
        for ends in self.ends.chunks(LANES) {
            let begins = std::iter::once(from).chain(ends.iter().copied());
            let texts = begins.zip(ends).map(|(from, &end)| &self.text[from..end]);
            from = ends.last().copied().unwrap_or(from);
            if ends.len() < WORTH_IT {
                self.hashes.extend(texts.map(hash_of));
                continue;
            }
            let words = first_words(texts.clone());
            let hashes = texts.zip(words).map(|(text, word)| match text.len() {
                ..=SHORT => never_zero(word),
                _ => hash_of(text),
            });
            self.hashes.extend(hashes);
        }
        &self.hashes
    }

    /// Forgets the names.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn together_as_one_by_one(names: Vec<String>, long in 0usize..200) {
            let template = Template::parse("%Lu", &|_| None).unwrap();
            let mut together = Together::default();
            let mut names: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
            names.insert(names.len() / 2, vec![b'x'; long]);
            for _ in 0..2 {
                together.clear();
                names.iter().for_each(|name| together.push(name, &template));
                let one = |name: &Vec<u8>| template.hash(name, &mut Vec::new());
                let expected: Vec<UserHash> = names.iter().map(one).collect();
                prop_assert_eq!(together.hashes(), expected);
            }
        }
    }
}
