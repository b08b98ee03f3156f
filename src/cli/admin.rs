//! Who may connect to admin and HTTP listeners that were handed over.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::settings::{ListenerKind, Place, Settings, kind_name};
use crate::shell::admin_io::serve::Gate;

/// The gate of a listener at this place. Dovecot's master knows no list of networks: it is that of the
/// listener in the settings that has the same type and address, or only this machine.
pub(super) fn gate(settings: &Settings, kind: ListenerKind, place: &Place) -> Gate {
    let Place::Tcp(address) = place else {
        return Gate::default();
    };
    let own = settings
        .listeners
        .iter()
        .find(|listener| listener.kind == kind && is_at(&listener.place, *address));
    if let Some(listener) = own {
        return Gate(listener.allow.clone());
    }
    let kind = kind_name(kind);
    tracing::warn!(
        "{kind} listener {address}: only this machine may connect. A [[listener]] with type = \
         \"{kind}\", this address and allow, the list of networks, says otherwise"
    );
    Gate(this_machine())
}

fn is_at(place: &Place, address: SocketAddr) -> bool {
    matches!(place, Place::Tcp(own) if *own == address)
}

fn this_machine() -> Vec<IpNet> {
    let v4: [IpAddr; 1] = [[127, 0, 0, 0].into()];
    let v4 = v4.map(|ip| IpNet::new_assert(ip, 8));
    let v6 = IpNet::from(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]));
    v4.into_iter().chain([v6]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Listener;

    #[test]
    fn a_list_of_networks_goes_with_its_address() {
        let address = |port| Place::Tcp(SocketAddr::from(([10, 0, 0, 1], port)));
        let listener = Listener {
            kind: ListenerKind::Admin,
            place: address(1),
            mode: 0,
            owner: None,
            group: None,
            allow: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let settings = Settings {
            listeners: vec![listener.clone()],
            ..Settings::default()
        };
        assert_eq!(
            gate(&settings, ListenerKind::Admin, &address(1)).0,
            listener.allow
        );
        let local = gate(&settings, ListenerKind::Admin, &address(2)).0;
        let has = |ip: &str| {
            local
                .iter()
                .any(|net| net.contains(&ip.parse::<IpAddr>().unwrap()))
        };
        assert!(has("127.9.9.9") && has("::1") && !has("10.0.0.1") && !has("::2"));
        let path = Place::Unix("/run/x".into());
        assert!(gate(&settings, ListenerKind::Admin, &path).0.is_empty());
    }
}
