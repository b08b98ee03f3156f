//! Codecs: total functions from bytes to messages, or "incomplete", or a typed error.
