//! Consistent hashing of users over backends (docs/protocol/placement.md, hash ring).
