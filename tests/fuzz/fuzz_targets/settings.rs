//! Any text as a settings file: settings, or at least one problem that can be printed.

#![no_main]

use std::io;
use std::net::IpAddr;
use std::path::Path;

use homing::settings::network::Network;
use homing::settings::{Sockets, parse};
use libfuzzer_sys::fuzz_target;

/// Two names, and the loopback addresses are ours.
struct Stub;

impl Network for Stub {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match host {
            "two" => Ok(vec![[10, 3, 0, 2].into(), [10, 3, 0, 1].into()]),
            "empty" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        }
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
    }
}

fuzz_target!(|text: &str| {
    match parse(Path::new("fuzz.toml"), text, &Stub, &Sockets::FromSettings) {
        Ok(loaded) => assert!(loaded.settings.director_user_expire >= 10),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let _ = problem.to_string();
            }
        }
    }
});
