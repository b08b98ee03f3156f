//! What listeners of type http need besides.

use std::path::Path;

use homing::settings::{Sockets, parse};

use super::errors::{check, check_listener, errors};
use super::support::Lab;

#[test]
fn an_address_needs_tokens_and_a_certificate() {
    check_listener(
        "type = 'http'\naddress = '127.0.0.1:1'\nallow = ['::1']",
        "4: listener.address: An http listener on an address needs tokens: whoever may connect could \
         do everything",
    );
    check(
        "http_tokens = 'tokens'",
        "http_tokens: The path 'tokens' is not absolute",
    );
    check(
        "http_tls_cert = '/c'",
        "http_tls_cert: http_tls_key is missing",
    );
    check(
        "http_tls_key = '/k'",
        "http_tls_key: http_tls_cert is missing",
    );
    let text = |more: &str| {
        format!(
            "director_mail_servers = '10.2.0.11'\nhttp_tokens = '/t'\n{more}\n\
             [[listener]]\ntype = 'http'\naddress = '10.1.0.2:1'\nallow = ['::1']\n"
        )
    };
    let want = "t.toml:6: listener.address: Tokens would cross the network in clear text";
    assert_eq!(errors(&text("")), [want]);
    for enough in [
        "http_tls_required = false",
        "http_tls_cert = '/c'\nhttp_tls_key = '/k'",
    ] {
        let read = parse(
            Path::new("t.toml"),
            &text(enough),
            &Lab,
            &Sockets::FromSettings,
        );
        assert!(read.is_ok(), "{read:?}");
    }
}
