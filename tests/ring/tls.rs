//! Homings with certificates in a ring with Dovecots, which have none (`director_ring_tls_required = no`).

use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    homings_encrypt_among_themselves,
    super::mixed,
    [hd "HD", hhd "HHD", dhh "DHH", hhh "HHH"]
);

/// What a Homing says of a connection that TLS begins on.
const SECURE: &str = "its certificate is right, TLS 1.3 begins";

fn mixed(members: &'static str) {
    let mut ring = Ring::start(RingSpec {
        tls: true,
        ..RingSpec::of(members)
    });
    ring.add_users("user", 120);
    ring.agree();
    let homings = members.matches('H').count();
    // In rings of up to three each is everybody's neighbour.
    let pairs = homings * (homings - 1) / 2;
    let secured = ring.count_log(SECURE);
    assert!(
        secured >= 2 * pairs,
        "{secured} ends of {pairs} connections"
    );
    assert!(pairs > 0 || secured == 0, "a Dovecot has no certificate");

    ring.change(Change::Update(backend(1), 50));
    ring.change(Change::Down(backend(2)));
    ring.agree();
    for number in 0..members.len() {
        ring.stop(number);
        ring.start_member(number);
        ring.agree();
    }
    let again = ring.count_log(SECURE);
    assert!(
        pairs == 0 || again > secured,
        "{again}, not more than {secured}"
    );
    ring.check_logs(&[]);
}
