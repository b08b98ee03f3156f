//! Arguments, settings, executors.

fn main() {}
