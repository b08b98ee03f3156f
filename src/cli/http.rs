//! The HTTP interface from the settings.

use super::run::Refused;
use crate::settings::ListenerKind;
use crate::settings::{Place, Settings};
use crate::shell::dovecot_master::Inherited;
use crate::shell::http_io::Config;

/// Tokens and certificates.
pub(super) fn config(settings: &Settings) -> Result<Config, Refused> {
    Config::load(settings).map_err(|error| Refused::config(error.to_string()))
}

/// Dovecot's master may hand over sockets that the settings do not know; they need no less.
pub(super) fn check_handed(settings: &Settings, listeners: &[Inherited]) -> Result<(), Refused> {
    for listener in listeners {
        let Place::Tcp(address) = listener.place else {
            continue;
        };
        if listener.kind != ListenerKind::Http {
            continue;
        }
        let name = &listener.name;
        if settings.http_tokens.is_none() {
            return Err(Refused::config(format!(
                "Dovecot's listener {name} is HTTP on an address, and whoever may connect could do everything: \
                 set http_tokens, or make it a unix_listener"
            )));
        }
        if settings.http_tls.is_none() && settings.http_tls_required && !address.ip().is_loopback()
        {
            return Err(Refused::config(format!(
                "Dovecot's listener {name} is HTTP on an address, and tokens would cross the network in clear \
                 text: set http_tls_cert and http_tls_key, or http_tls_required = false"
            )));
        }
    }
    Ok(())
}
