//! The files that a run leaves: read back by other programs than the one that wrote them.
