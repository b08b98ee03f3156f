//! The first word of the MD5 of several short texts at once.
//!
//! Each of MD5's 64 steps needs the result of the one before it, so that a processor that could do
//! several things at a time does one. Texts have nothing to do with each other: here each step is
//! done for eight of them, with the vector instructions that every processor has, which takes a
//! quarter of the time.

use wide::u32x8;

/// Texts hashed together.
pub const LANES: usize = 8;
/// Longest text in bytes that fits into one block, with its end mark and its length.
pub const SHORT: usize = 55;

/// The 16 words of one block for each text.
type Blocks = [[u32; LANES]; 16];

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

const TURNS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// RFC 1321: the integer part of 2^32 times the sine of each step's number, by round.
const SINES: [[u32; 16]; 4] = [
    [
        0xd76a_a478,
        0xe8c7_b756,
        0x2420_70db,
        0xc1bd_ceee,
        0xf57c_0faf,
        0x4787_c62a,
        0xa830_4613,
        0xfd46_9501,
        0x6980_98d8,
        0x8b44_f7af,
        0xffff_5bb1,
        0x895c_d7be,
        0x6b90_1122,
        0xfd98_7193,
        0xa679_438e,
        0x49b4_0821,
    ],
    [
        0xf61e_2562,
        0xc040_b340,
        0x265e_5a51,
        0xe9b6_c7aa,
        0xd62f_105d,
        0x0244_1453,
        0xd8a1_e681,
        0xe7d3_fbc8,
        0x21e1_cde6,
        0xc337_07d6,
        0xf4d5_0d87,
        0x455a_14ed,
        0xa9e3_e905,
        0xfcef_a3f8,
        0x676f_02d9,
        0x8d2a_4c8a,
    ],
    [
        0xfffa_3942,
        0x8771_f681,
        0x6d9d_6122,
        0xfde5_380c,
        0xa4be_ea44,
        0x4bde_cfa9,
        0xf6bb_4b60,
        0xbebf_bc70,
        0x289b_7ec6,
        0xeaa1_27fa,
        0xd4ef_3085,
        0x0488_1d05,
        0xd9d4_d039,
        0xe6db_99e5,
        0x1fa2_7cf8,
        0xc4ac_5665,
    ],
    [
        0xf429_2244,
        0x432a_ff97,
        0xab94_23a7,
        0xfc93_a039,
        0x655b_59c3,
        0x8f0c_cc92,
        0xffef_f47d,
        0x8584_5dd1,
        0x6fa8_7e4f,
        0xfe2c_e6e0,
        0xa301_4314,
        0x4e08_11a1,
        0xf753_7e82,
        0xbd3a_f235,
        0x2ad7_d2bb,
        0xeb86_d391,
    ],
];

/// The first word of each text's digest, in the order of its bytes. A text longer than [`SHORT`] is
/// cut; the caller keeps those out. Of fewer than [`LANES`] texts, the other words mean nothing.
pub fn first_words<'a>(texts: impl Iterator<Item = &'a [u8]>) -> [u32; LANES] {
    let mut blocks: Blocks = [[0; LANES]; 16];
    for (lane, text) in texts.take(LANES).enumerate() {
        fill(&mut blocks, lane, text);
    }
    let start = START.map(u32x8::splat);
    let state = round::<0>(start, &blocks, |b, c, d| d ^ (b & (c ^ d)), |i| i);
    let state = round::<1>(state, &blocks, |b, c, d| c ^ (d & (b ^ c)), |i| 5 * i + 1);
    let state = round::<2>(state, &blocks, |b, c, d| b ^ c ^ d, |i| 3 * i + 5);
    let [a, ..] = round::<3>(state, &blocks, |b, c, d| c ^ (b | !d), |i| 7 * i);
    (a + start[0]).to_array().map(u32::swap_bytes)
}

/// Puts a text, its end mark and its length in bits into one lane.
fn fill(blocks: &mut Blocks, lane: usize, text: &[u8]) {
    let mut block = [0u8; 64];
    let length = text.len().min(SHORT);
    block[..length].copy_from_slice(&text[..length]);
    block[length] = 0x80;
    block[56] = (length << 3) as u8;
    block[57] = (length >> 5) as u8;
    for (word, bytes) in blocks.iter_mut().zip(block.chunks_exact(4)) {
        word[lane] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// One of the four rounds of 16 steps. `word` says which word of the block a step takes.
#[inline(always)]
fn round<const ROUND: usize>(
    [mut a, mut b, mut c, mut d]: [u32x8; 4],
    blocks: &Blocks,
    mix: impl Fn(u32x8, u32x8, u32x8) -> u32x8,
    word: impl Fn(usize) -> usize,
) -> [u32x8; 4] {
    // Two loops, because the compiler unrolls each of them, and not one of sixteen.
    for four in 0..4 {
        for (at, turn) in TURNS[ROUND].into_iter().enumerate() {
            let step = four * 4 + at;
            let added = u32x8::new(blocks[word(step) % 16]) + u32x8::splat(SINES[ROUND][step]);
            let sum = a + mix(b, c, d) + added;
            let turned = (sum << turn) | (sum >> (32 - turn));
            (a, d, c, b) = (d, c, b, b + turned);
        }
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    fn one_by_one(text: &[u8]) -> u32 {
        let digest = Md5::digest(text);
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    #[test]
    fn every_length_in_every_lane_is_the_same_as_alone() {
        let text: Vec<u8> = (0..SHORT as u8).map(|n| n.wrapping_mul(37)).collect();
        for from in 0..=SHORT {
            let texts = (0..LANES).map(|lane| &text[..(from + lane * 7) % (SHORT + 1)]);
            let expected: Vec<u32> = texts.clone().map(one_by_one).collect();
            assert_eq!(first_words(texts)[..], expected);
        }
    }

    #[test]
    fn fewer_texts_than_lanes() {
        let words = first_words([&b"alice"[..], b"bob"].into_iter());
        assert_eq!(words[..2], [one_by_one(b"alice"), one_by_one(b"bob")]);
    }
}
