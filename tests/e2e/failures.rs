//! A user for whom there is no backend.

use std::time::Duration;

use crate::rig::{Case, Client, DirectorKind, Heartbeat, Home, Tier, TierSpec, User, now};

for_each_case!(
    no_backend_is_a_temporary_failure,
    crate::failures::no_backend
);

/// Dovecot's director gives up between 30 and 60 s after the request; Homing at its own limit.
const DOVECOT_LIMIT: Duration = Duration::from_secs(65);
const HOMING_LIMIT: Duration = Duration::from_secs(10);

/// Nothing may turn this into "no such user": a mail server would bounce the message.
pub fn no_backend(case: Case) {
    let homeless = User {
        name: "homeless".to_owned(),
        home: Home::Tagged("nowhere"),
    };
    let tier = Tier::start(&TierSpec {
        director_settings: "lookup_timeout = \"4 s\"\n",
        ..TierSpec::new(case, vec![homeless, User::proxied("other")])
    });
    let limit = match case.director {
        DirectorKind::Dovecot23 => DOVECOT_LIMIT,
        DirectorKind::Homing => HOMING_LIMIT,
    };
    let heartbeat = Heartbeat::start();
    let asked = now();
    let mut mail_reader = Client::new();
    let login = tier.order("imap.visit", "homeless");
    let waiting = std::thread::spawn(move || {
        let answer = mail_reader.ask(&login);
        (answer, asked.elapsed())
    });

    // The delivery waits beside the login, and holds up nobody else.
    let mut other = Client::new();
    tier.visit(&mut other, "imap", "other");
    let limit_of_others = Duration::from_secs(10);
    heartbeat.in_time("another user's login", asked.elapsed(), limit_of_others);
    let delivery = tier.deliver(&mut other, &["homeless", "other"], "nowhere");
    assert_eq!(delivery["codes"]["homeless"], 451, "{delivery}");
    assert_eq!(delivery["codes"]["other"], 250, "{delivery}");

    let (answer, waited) = waiting.join().expect("an answer");
    let error = answer["error"].as_str().expect("the login fails");
    assert!(error.contains("[UNAVAILABLE]"), "{error}");
    heartbeat.in_time("the failure", waited, limit);
    assert_eq!(tier.find_message("homeless", "nowhere"), [""; 0]);
}
