//! Which 32-bit number a user name has (docs/protocol/placement.md, user hash).
