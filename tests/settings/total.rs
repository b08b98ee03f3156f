//! Whatever a file holds, there is an answer: settings or at least one problem, never a panic.

use std::path::Path;

use homing::settings::import::import_text;
use homing::settings::{Sockets, parse};
use proptest::prelude::*;

use super::support::Lab;

/// Parts of settings files, to be put together at random.
const TOML: &[&str] = &[
    "director_servers",
    "director_mail_servers",
    "director_user_expire",
    "listener",
    "mode",
    " = ",
    "= ",
    "\"",
    "'",
    "[[listener]]\n",
    "type = 'ring'\n",
    "type = 'notify'\n",
    "address = '*:9090'\n",
    "path = '/a'\n",
    "10.1.0.2",
    "::1",
    "[::1]",
    ":",
    "-",
    "@",
    "%",
    "%{",
    "0x",
    "1",
    "9999999999999999999999",
    " min",
    "[",
    "]",
    ",",
    "\n",
    "\t",
    "ä",
    "\u{85}",
    "\\u0085",
    "unix:",
    "tcp:",
    "director_flush_socket",
    "director_username_hash",
    "director_ring_tls_required",
    "1.5",
    "true",
];

/// Likewise of Dovecot's configurations.
const DOVECOT: &[&str] = &[
    "service director {\n",
    "unix_listener login/director {\n",
    "inet_listener x-admin {\n",
    "fifo_listener a {\n",
    "}\n",
    "mode = 0666\n",
    "mode = 9\n",
    "port = 9090\n",
    "address = ",
    "director_mail_servers = ",
    "director_flush_socket = ",
    "director_servers = ",
    "unix:/x",
    "protocol lmtp {\n",
    "\n",
    "\\\n",
    "\"",
    "'",
    "#",
    "$base_dir",
    "!include_try",
    "!include",
    " ",
    "10.1.0.2",
    "::1",
    "*",
    "ä",
    "\u{85}",
    "{",
    "director_username_hash = %",
    "master_user_separator = ä\n",
];

fn mixture(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(parts), 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn loading_always_ends(text in prop_oneof![mixture(TOML), ".*"]) {
        if let Err(problems) = parse(Path::new("t"), &text, &Lab, &Sockets::FromSettings) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn lists_always_end(text in "[-0-9a-f:.@ \\[\\],]{0,40}") {
        let text = format!("director_mail_servers = '{text}'\ndirector_servers = '{text}'\n\
            [[listener]]\ntype = 'ring'\naddress = '127.0.0.1:9'");
        let _ = parse(Path::new("t"), &text, &Lab, &Sockets::FromSettings);
    }

    #[test]
    fn importing_always_ends(text in prop_oneof![mixture(DOVECOT), ".*"]) {
        if let Ok(imported) = import_text("t", &text) {
            // What was made is TOML, whatever its values are worth.
            prop_assert!(imported.toml.parse::<toml::Table>().is_ok(), "{}", imported.toml);
        }
    }
}
