//! Settings files as an operator writes them: what loads, and every message about what does not.

mod support {
    use std::io;
    use std::net::IpAddr;

    use homing::settings::network::Network;

    /// Knows three names; the machine has the addresses 10.1.0.2, 10.1.9.2 and all of 127/8, and all users
    /// and groups but two.
    pub struct Lab;

    impl Network for Lab {
        fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            let ips: &[&str] = match host {
                "two" | "two-more" => &["10.3.0.2", "10.3.0.1"],
                "one.example.org" => &["10.3.0.9"],
                "empty" => &[],
                _ => return Err(io::Error::other("no such name")),
            };
            Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect())
        }

        fn is_local(&self, ip: IpAddr) -> bool {
            ip.is_loopback() || ["10.1.0.2", "10.1.9.2"].contains(&ip.to_string().as_str())
        }

        fn has_user(&self, name: &str) -> bool {
            name != "nobody-here"
        }

        fn has_group(&self, name: &str) -> bool {
            name != "none-such"
        }
    }
}

#[path = "settings/errors.rs"]
mod errors;
#[path = "settings/good.rs"]
mod good;
#[path = "settings/importing.rs"]
mod importing;
#[path = "settings/total.rs"]
mod total;
