//! doveadm on the proxy finds a user's backend by the director's userdb socket, and works there.

use crate::rig::{BACKENDS, Case, Client, Tier, TierSpec, User};

for_each_case!(doveadm_reaches_the_users_backend, crate::doveadm::doveadm);

pub fn doveadm(case: Case) {
    let names: Vec<_> = (0..12).map(|number| format!("user{number}")).collect();
    let users = names.iter().map(User::proxied).collect();
    let tier = Tier::start(&TierSpec::new(case, users));
    let mut client = Client::new();
    let socket = tier.director.sockets().userdb.display().to_string();
    for name in &names {
        let (said, status) = tier.proxy.doveadm(&["auth", "lookup", "-a", &socket, name]);
        assert_eq!(status, Some(0), "{said}");
        let field = |wanted: &str| {
            let mut fields = said.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(field, _)| field.trim() == wanted);
            found
                .unwrap_or_else(|| panic!("no {wanted} in {said}"))
                .1
                .trim()
        };
        assert_eq!(field("proxy_refresh"), "450");
        let backend = BACKENDS[tier.backend_number(field("host"))];

        let (said, status) = tier.proxy.doveadm(&["mailbox", "list", "-u", name]);
        assert_eq!(status, Some(0), "{said}");
        let mut mailboxes: Vec<_> = said.lines().collect();
        mailboxes.sort_unstable();
        assert_eq!(mailboxes, ["INBOX", &format!("at-{backend}")], "{name}");
        assert_eq!(tier.visit(&mut client, "imap", name), backend);
    }
    let (said, status) = tier
        .proxy
        .doveadm(&["auth", "lookup", "-a", &socket, "stranger"]);
    assert_ne!(status, Some(0), "{said}");
    assert_eq!(tier.director.users().total, names.len() as u64);
}
