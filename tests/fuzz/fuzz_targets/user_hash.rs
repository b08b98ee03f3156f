//! Any template is refused or hashes any name, always to the same number, never to 0.

#![no_main]

use homing::core::user_hash::{Template, cut_master_user};
use libfuzzer_sys::fuzz_target;

// Input: the template, LF, the name.
fuzz_target!(|data: &[u8]| {
    let end = data
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(data.len());
    let (text, user) = (&data[..end], &data[(end + 1).min(data.len())..]);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let separator = b'*';
    let env = |name: &str| (name.len() < 4).then(|| b"North".to_vec());
    let template = match Template::parse(text, &env) {
        Ok(template) => template,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let user = cut_master_user(user, Some(separator));
    assert!(!user.contains(&separator));
    let hash = template.hash(user, &mut Vec::new());
    assert_ne!(hash.0, 0);
    let mut used = b"left over from another user".to_vec();
    assert_eq!(template.hash(user, &mut used), hash);
});
