//! doveadm on the proxy finds a user's backend by the director's userdb socket, and works there.

use crate::rig::admin::rows;
use crate::rig::{BACKENDS, Case, Client, DirectorPlacement, Tier, TierSpec, User, Version};

for_each_case!(doveadm_reaches_the_users_backend, crate::doveadm::doveadm);

for_each_case!(
    doveadm_works_on_one_some_and_all_users,
    crate::doveadm::many_users
);

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

/// What a mail command has fetched: for each user a header that names the backend.
fn fetched(tier: &Tier, users: &[&str]) -> Vec<String> {
    let command = ["fetch"].iter().chain(users);
    let query = ["hdr.x-backend", "mailbox", "INBOX"];
    let words: Vec<_> = command.chain(&query).copied().collect();
    let (said, status) = tier.proxy.doveadm(&words);
    assert_eq!(status, Some(0), "{said}");
    // Field names come with the first user only, where proxy and backends are of two versions.
    let words = said.split_whitespace();
    let backends = words.filter(|word| word.starts_with("backend-"));
    let mut found: Vec<_> = backends.map(str::to_owned).collect();
    found.sort_unstable();
    found
}

pub fn many_users(case: Case) {
    let names: Vec<_> = (0..12).map(|number| format!("user{number}")).collect();
    let users = names.iter().map(User::proxied).collect();
    let tier = Tier::start(&TierSpec::new(case, users));
    let mut client = Client::new();
    // Where users go first is where doveadm must find them.
    let visit = |client: &mut Client, name: &String| tier.visit(client, "imap", name);
    let homes: Vec<_> = names.iter().map(|name| visit(&mut client, name)).collect();
    for (name, home) in names.iter().zip(&homes) {
        assert_eq!(
            fetched(&tier, &["-u", name]),
            std::slice::from_ref(home),
            "{name}"
        );
    }
    let mut some: Vec<_> = homes[1..2].iter().chain(&homes[10..]).cloned().collect();
    some.sort_unstable();
    assert_eq!(fetched(&tier, &["-u", "user1*"]), some);
    let mut all = homes.clone();
    all.sort_unstable();
    if (case.proxy, case.backends) == (Version::V23, Version::V24) {
        // A backend of 2.4 lists users itself when 2.3 asks for all, behind Dovecot's director too.
        let (said, _) = tier.proxy.doveadm(&["fetch", "-A", "hdr.x-backend", "all"]);
        assert!(said.contains("User listing returned failure"), "{said}");
    } else {
        assert_eq!(fetched(&tier, &["-A"]), all);
    }
    let after: Vec<_> = names.iter().map(|name| visit(&mut client, name)).collect();
    assert_eq!(after, homes);
}

for_each_placement!(
    the_admin_socket_is_where_doveadm_looks,
    crate::doveadm::admin_socket
);

pub fn admin_socket(case: Case) {
    let names: Vec<_> = (0..3).map(|number| format!("user{number}")).collect();
    let users = names.iter().map(User::proxied).collect();
    let tier = Tier::start(&TierSpec::new(case, users));
    let mut client = Client::new();
    for name in &names {
        tier.visit(&mut client, "imap", name);
    }
    let hosts = rows(&tier.director.admin_socket(), "HOST-LIST");
    let counts = hosts.iter().map(|row| row[2].parse::<u64>());
    let counted: u64 = counts.map(|count| count.expect("a count")).sum();
    assert_eq!((hosts.len(), counted), (BACKENDS.len(), names.len() as u64));
    // Dovecot 2.4's doveadm has no such command.
    if case.proxy == Version::V23 && case.placement == DirectorPlacement::DovecotService {
        let (said, status) = tier.proxy.doveadm(&["director", "status"]);
        assert_eq!(status, Some(0), "{said}");
        assert!(hosts.iter().all(|row| said.contains(&row[0])), "{said}");
    }
}
