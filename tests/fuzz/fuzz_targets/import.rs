//! Any text as a Dovecot configuration: what comes out is a TOML file, or an error.

#![no_main]

use homing::settings::import::import_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Reading the machine's own files would make runs differ from each other.
    if text.contains("!include") || text.contains('<') {
        return;
    }
    match import_text("fuzz.conf", text) {
        Ok(imported) => {
            let read = imported.toml.parse::<toml::Table>();
            assert!(read.is_ok(), "{read:?}\n{}", imported.toml);
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
});
