//! why.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::json;

use crate::e2e::{DirectorKind, Site, for_both};
use crate::stand::{Stand, homing, names, text};

for_both!(
    a_users_place_is_explained,
    super::a_users_place_is_explained
);

fn a_users_place_is_explained(kind: DirectorKind) {
    let stand = Stand::new(kind);
    stand.log_in();
    let [first, second] = [11, 12].map(|number| stand.backend(number));
    let config = stand.settings("");
    let name = &names()[0];
    let said = stand.json(&["why", name, "-c", &config]);
    assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
    let why = &said[0];
    assert_eq!(why["current"], why["hashed"]);
    assert_eq!(why["current_state"], "up");
    assert_eq!(why["current_vhosts"], 100);
    assert_eq!(why["tag"], "");
    let extra = why["extra"].as_array().expect("a list");
    match stand.kind() {
        DirectorKind::Dovecot23 => assert!(extra.is_empty(), "{why}"),
        DirectorKind::Homing => assert!(extra.contains(&json!(["state", "normal"])), "{why}"),
    }
    let [expires, seen] = ["expires", "last_refresh"].map(|key| why[key].as_u64().expect("a time"));
    assert_eq!(expires - seen, 900);
    let (hash, _) = stand.doveadm(&["map", "-u", name]);
    assert_eq!(why["hash"].to_string(), hash.trim());

    // It did not even notice that it was asked for more.
    let log = stand.log_text();
    assert!(!log.to_lowercase().contains("error"), "{log}");

    let text = |words: &[&str]| stand.homing(&[&["why"], words].concat()).ok();
    assert!(text(&[name]).contains("where the hash ring says; stays"));
    let own = why["current"].as_str().expect("a backend");
    stand.homing(&["down", own]).ok();
    assert!(text(&[name]).contains("its backend is down"));
    stand.homing(&["up", own]).ok();
    let other = if own == first { &second } else { &first };
    stand.homing(&["move", name, other]).ok();
    assert!(text(&[name]).contains("elsewhere than the hash ring says"));
    let nobody = text(&["nobody"]);
    assert_eq!(
        nobody.matches("unknown: the next login goes where").count(),
        2,
        "{nobody}"
    );
    assert_eq!(
        stand.json(&["why", "nobody", "-t", "t1"])[0]["hashed"],
        json!(stand.backend(13))
    );
    assert!(text(&["nobody", "-t", "zz"]).contains("no backend of the tag is usable"));
    // Another hash than the director's is another user.
    let other = stand.json(&["why", &name.to_uppercase(), "--username-hash", "%u"]);
    assert_eq!(other[0]["current"], json!(null));
}

/// A director that knows more than Dovecot's: it answers each connection's commands from a list.
#[test]
fn what_only_homing_knows_is_shown() {
    let site = Site::new();
    let path = site.path().join("admin");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || {
        let mut heard = Vec::new();
        {
            let (mut client, _) = listener.accept().expect("a client");
            client
                .write_all(b"VERSION\tdirector-doveadm\t1\t0\n")
                .expect("a greeting");
            let lines = BufReader::new(client.try_clone().expect("a descriptor")).lines();
            for line in lines.skip(1) {
                let line = line.expect("a line");
                let reply: &[u8] = match line.split('\t').next().expect("a word") {
                    "HOST-LIST" => b"10.0.0.1\t100\t1\t\tU\t0\n\n",
                    "USER-LOOKUP" => {
                        b"10.0.0.1\t1795460003\t10.0.0.1\t10.0.0.1\thash=1\tstate=moving\tmove=delay\n"
                    }
                    other => panic!("{other}"),
                };
                heard.push(line);
                client.write_all(reply).expect("a reply");
            }
        }
        heard
    });
    let socket = text(&path);
    let said = homing(&["why", "alice", "-a", &socket], "").ok();
    assert!(said.contains("state:          moving\n"), "{said}");
    assert!(
        said.contains("why:            where the hash ring says"),
        "{said}"
    );
    let heard = server.join().expect("the director");
    assert_eq!(heard, ["HOST-LIST", "USER-LOOKUP\t1669653170\t\twhy",]);
}
