//! stub
use super::*;
use std::net::IpAddr;
#[derive(Debug, Default, Clone)]
pub struct HashRing(Vec<BackendSlot>);
impl HashRing {
    pub fn build(i: impl Iterator<Item = (IpAddr, u32, BackendSlot)>) -> Self {
        HashRing(i.map(|x| x.2).collect())
    }
    pub fn lookup(&self, h: UserHash) -> Option<BackendSlot> {
        if self.0.is_empty() {
            None
        } else {
            Some(self.0[h.0 as usize % self.0.len()])
        }
    }
}
