//! IP addresses as text, exactly as glibc prints them (docs/protocol/placement.md, addresses).
