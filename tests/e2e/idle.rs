//! Keep-alive: a session keeps its user's place for as long as it lasts.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::rig::{
    BACKENDS, Case, Client, Heartbeat, PATIENCE, Tier, TierSpec, User, now, wait_until,
};

for_each_case!(idle_session_keeps_its_place, crate::idle::idle);
for_each_placement!(
    idle_session_keeps_its_place_from_elsewhere,
    crate::idle::idle
);

/// The shortest `director_user_expire` that there is.
const EXPIRE: u32 = 10;

/// One user stays in IDLE, another logs out. The second is forgotten when its time is over; the
/// first is not, although nothing but keep-alive lines can have told the director of it.
pub fn idle(case: Case) {
    let spec = TierSpec {
        expire: EXPIRE,
        ..TierSpec::new(case, vec![User::proxied("stays"), User::proxied("leaves")])
    };
    let tier = Tier::start(&spec);
    let mut client = Client::new();
    tier.open(&mut client, "stays");
    let home = client.session("imap.whereami", "stays")["backend"].clone();
    assert_eq!(client.session("imap.idle", "stays")["ok"], true);
    tier.visit(&mut client, "imap", "leaves");
    assert_eq!(tier.director.users().total, 2);

    let limit = Duration::from_secs(u64::from(EXPIRE) + 5);
    let heartbeat = Heartbeat::start();
    let began = now();
    let expires = "the closed session's user expires";
    wait_until(expires, PATIENCE, || tier.director.users().total == 1);
    heartbeat.in_time("forgetting a user", began.elapsed(), limit);
    // Two more life times; looking often, so that the log shows when it went wrong.
    let mut users = tier.director.users();
    for second in 0..2 * EXPIRE {
        assert_eq!(users.total, 1, "idle for {second} s more: {users:?}");
        sleep(Duration::from_secs(1));
        users = tier.director.users();
    }
    let backend = users.by_backend.iter().find(|(_, count)| **count == 1);
    let number = tier.backend_number(backend.expect("one has it").0);
    assert_eq!(home, json!(BACKENDS[number]));

    assert_eq!(client.session("imap.done", "stays")["ok"], true);
    assert_eq!(client.session("imap.logout", "stays")["ok"], true);
    let began = now();
    let expires = "the user expires after the session";
    wait_until(expires, PATIENCE, || tier.director.users().total == 0);
    heartbeat.in_time("forgetting the other user", began.elapsed(), limit);
}
