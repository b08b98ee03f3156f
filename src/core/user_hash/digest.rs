//! Digest variables: `%{sha256:user}`, `%{md5;salt=x,rounds=2,truncate=32:user}`.

use md5::Digest;

use super::Value;
use super::modifier::append_hex;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// One digest variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DigestSpec {
    pub(super) method: Method,
    /// The salt goes in front of the text, again in every round.
    pub(super) salt: Box<[u8]>,
    /// How often the function is applied, to the digest of the round before; at least 1.
    pub(super) rounds: u32,
    /// Bits kept of the result; 0: all.
    pub(super) truncate: usize,
    /// What is digested.
    pub(super) of: Value,
}

/// Longest digest: SHA-512.
const MAX_LEN: usize = 64;

impl Method {
    pub(super) fn of_name(name: &str) -> Option<Method> {
        Some(match name {
            "md5" => Method::Md5,
            "sha1" => Method::Sha1,
            "sha256" => Method::Sha256,
            "sha384" => Method::Sha384,
            "sha512" => Method::Sha512,
            _ => return None,
        })
    }

    fn digest(self, salt: &[u8], text: &[u8], out: &mut [u8; MAX_LEN]) -> usize {
        match self {
            Method::Md5 => digest::<md5::Md5>(salt, text, out),
            Method::Sha1 => digest::<sha1::Sha1>(salt, text, out),
            Method::Sha256 => digest::<sha2::Sha256>(salt, text, out),
            Method::Sha384 => digest::<sha2::Sha384>(salt, text, out),
            Method::Sha512 => digest::<sha2::Sha512>(salt, text, out),
        }
    }
}

fn digest<D: Digest>(salt: &[u8], text: &[u8], out: &mut [u8; MAX_LEN]) -> usize {
    let digest = D::new().chain_update(salt).chain_update(text).finalize();
    out[..digest.len()].copy_from_slice(&digest);
    digest.len()
}

impl DigestSpec {
    /// Replaces `out[start..]` by its digest in hexadecimal.
    pub(super) fn apply(&self, out: &mut Vec<u8>, start: usize) {
        let mut current = [0; MAX_LEN];
        let mut len = self.method.digest(&self.salt, &out[start..], &mut current);
        for _ in 1..self.rounds {
            let mut next = [0; MAX_LEN];
            len = self.method.digest(&self.salt, &current[..len], &mut next);
            current = next;
        }
        out.truncate(start);
        append_hex(keep_bits(&mut current[..len], self.truncate), out);
    }
}

/// The first `bits` bits, as a number that ends on a byte boundary: 12 bits of 18 7e are 01 87.
fn keep_bits(digest: &mut [u8], bits: usize) -> &[u8] {
    if bits == 0 || bits >= digest.len() * 8 {
        return digest;
    }
    let kept = &mut digest[..bits.div_ceil(8)];
    let shift = (8 - bits % 8) % 8;
    if shift > 0 {
        let mut above = 0;
        for byte in kept.iter_mut() {
            let old = *byte;
            *byte = old >> shift | above;
            above = old << (8 - shift);
        }
    }
    kept
}
