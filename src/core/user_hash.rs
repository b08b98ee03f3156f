//! stub
use super::*;
use md5::Digest;
#[derive(Debug, Clone)]
pub struct Template;
impl Template {
    pub fn parse(_: &str) -> Result<Template, String> {
        Ok(Template)
    }
    pub fn hash(&self, u: &[u8], s: &mut Vec<u8>) -> UserHash {
        s.clear();
        s.extend(u.iter().map(|b| b.to_ascii_lowercase()));
        let d = md5::Md5::digest(&s);
        UserHash(u32::from_be_bytes([d[0], d[1], d[2], d[3]]).max(1))
    }
}
pub fn cut_master_user(u: &[u8], s: Option<u8>) -> &[u8] {
    match s {
        Some(s) => &u[..u.iter().position(|b| *b == s).unwrap_or(u.len())],
        None => u,
    }
}
