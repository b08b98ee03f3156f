//! Finds a password in a log, in clear or in base64.

/// Where the password shows: as it is, or inside base64 (a SASL response) at any alignment.
pub fn find(text: &[u8], password: &str) -> Option<String> {
    let needles = std::iter::once(password.to_owned())
        .chain((0..3).map(|shift| inner_base64(password.as_bytes(), shift)));
    needles
        .into_iter()
        .find(|needle| memchr::memmem::find(text, needle.as_bytes()).is_some())
}

/// The base64 digits of `secret` that do not depend on what stands before or after it, when it
/// begins `shift` bytes into a group of three.
fn inner_base64(secret: &[u8], shift: usize) -> String {
    let skip = (3 - shift) % 3;
    let whole = &secret[skip..];
    whole.chunks_exact(3).flat_map(digits).collect()
}

fn digits(group: &[u8]) -> [char; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = group
        .iter()
        .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
}

#[test]
fn finds_both_forms() {
    assert!(find(b"x secret-word y", "secret-word").is_some());
    // printf '\0bob\0secret-word' | base64, and the same for bobb and bobby
    for response in [
        "AGJvYgBzZWNyZXQtd29yZA==",
        "AGJvYmIAc2VjcmV0LXdvcmQ=",
        "AGJvYmJ5AHNlY3JldC13b3Jk",
    ] {
        assert!(
            find(response.as_bytes(), "secret-word").is_some(),
            "{response}"
        );
    }
    assert!(find(b"resp=<hidden>", "secret-word").is_none());
}
