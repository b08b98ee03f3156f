//! A director alone, to be ordered about.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::e2e::{
    Director, DirectorKind, DirectorPlacement, DirectorSpec, PATIENCE, Site, Sockets, StubAuth,
};

pub const GREETING: &[u8] = b"VERSION\tdirector-doveadm\t1\t0\n";
/// A director may hold a command for 30 s.
const ANSWER_LIMIT: Duration = PATIENCE;

/// A director without others, and what belongs to it. Its backends are only names.
pub struct Stage {
    // Before the site, which looks at the logs when it is dropped.
    pub director: Director,
    pub site: Site,
}

impl Stage {
    /// Backends 127.61.0.11 to 127.61.0.13 and, with tag t1, 127.61.0.14.
    pub fn start(kind: DirectorKind) -> Stage {
        let site = Site::new();
        let auth = site.path().join("auth");
        StubAuth::start(&auth);
        let socket = |name: &str| site.path().join(name);
        let spec = DirectorSpec {
            kind,
            placement: DirectorPlacement::Standalone,
            name: "director".to_owned(),
            address: site.address(1),
            backends: "127.61.0.11 127.61.0.12 127.61.0.13 127.61.0.14@t1".to_owned(),
            expire: 900,
            sockets: Sockets {
                login: socket("login"),
                userdb: socket("userdb"),
                notify: socket("notify"),
                authreply: None,
            },
            auth_login: auth.clone(),
            auth_userdb: auth,
            director_settings: String::new(),
            seat: None,
        };
        let director = Director::start(&site, spec);
        Stage { director, site }
    }

    /// A client that has said hello, and read the greeting.
    pub fn client(&self) -> Client {
        let stream = UnixStream::connect(self.director.admin_socket()).expect("the admin socket");
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .expect("a time limit");
        let mut client = Client(stream);
        let mut greeting = vec![0; GREETING.len()];
        client.0.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(greeting, GREETING);
        client.say(GREETING);
        client
    }

    /// The answer to one command, as far as its empty line or end of the only line.
    pub fn ask(&self, command: &str) -> String {
        let mut client = self.client();
        client.say(format!("{command}\nwhat is this\n").as_bytes());
        client.rest()
    }
}

/// A connection to the admin socket.
pub struct Client(UnixStream);

impl Client {
    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the director takes it");
    }

    /// All that the director says before it closes.
    pub fn rest(mut self) -> String {
        let mut text = Vec::new();
        // A peer that closes with our bytes unread resets the connection.
        let _ = self.0.read_to_end(&mut text);
        String::from_utf8(text).expect("text")
    }
}
