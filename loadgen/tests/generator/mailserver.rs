//! A fake mail server: a thread per connection, one protocol, with or without TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use loadgen::{Amount, Connections, MailProtocol, MailTarget, Plan, Security, Target, Users};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What becomes of one login.
pub enum Verdict {
    /// It succeeds, on this backend.
    In(String),
    /// It succeeds, and the backend does not say who it is.
    Silent,
    Refused,
    Temporary,
    Close,
    Nonsense,
}

/// Number of the login (from 1), name, password.
pub type Script = fn(u64, &str, &str) -> Verdict;

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub logins: AtomicU64,
    pub held: AtomicU64,
    pub most_held: AtomicU64,
    pub idled: AtomicU64,
    pub goodbyes: AtomicU64,
}

pub struct Server {
    pub target: Target,
    pub seen: Arc<Seen>,
}

pub fn backend(user: &str) -> String {
    let number: u32 = user.trim_start_matches("user").parse().unwrap();
    format!("10.0.0.{}", number % 3 + 1)
}

/// Any user with the password `pw`, on the backend that is his.
pub fn right(_: u64, user: &str, password: &str) -> Verdict {
    match password {
        "pw" => Verdict::In(backend(user)),
        _ => Verdict::Refused,
    }
}

/// A certificate for `localhost` and the server's side of TLS; one for all tests.
fn tls() -> &'static (String, Arc<ServerConfig>) {
    static TLS: OnceLock<(String, Arc<ServerConfig>)> = OnceLock::new();
    TLS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        (made.cert.pem(), Arc::new(config))
    })
}

/// The certificate as a file.
pub fn ca(directory: &Path) -> PathBuf {
    let path = directory.join("ca.pem");
    std::fs::write(&path, &tls().0).unwrap();
    path
}

/// Serves until the test ends.
pub fn start(protocol: MailProtocol, security: Security, script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&shared));
            // The generator has gone: not this side's concern.
            std::thread::spawn(move || drop(serve(stream, protocol, security, script, &seen)));
        }
    });
    let mail = MailTarget {
        protocol,
        security,
        host: "127.0.0.1".to_owned(),
        port,
    };
    Server {
        target: Target::Mail(mail),
        seen,
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

struct Session<'a> {
    stream: BufReader<Box<dyn Both>>,
    script: Script,
    seen: &'a Seen,
}

fn serve(
    stream: TcpStream,
    protocol: MailProtocol,
    security: Security,
    script: Script,
    seen: &Seen,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let over_tls = |stream: TcpStream| -> Box<dyn Both> {
        let tls = ServerConnection::new(Arc::clone(&tls().1)).unwrap();
        Box::new(StreamOwned::new(tls, stream))
    };
    let imap = protocol == MailProtocol::Imap;
    let greeting = if imap {
        "* OK [CAPABILITY IMAP4rev1] ready"
    } else {
        "+OK ready"
    };
    let stream: Box<dyn Both> = match security {
        Security::Plain => Box::new(stream),
        Security::Tls => over_tls(stream),
        Security::StartTls => {
            (&stream).write_all(format!("{greeting}\r\n").as_bytes())?;
            let mut line = String::new();
            BufReader::with_capacity(1, &stream).read_line(&mut line)?;
            let (ask, begin) = if imap {
                ("t STARTTLS", "t OK")
            } else {
                ("STLS", "+OK")
            };
            assert_eq!(line.trim_end(), ask);
            (&stream).write_all(format!("{begin} begin\r\n").as_bytes())?;
            over_tls(stream)
        }
    };
    let stream = BufReader::new(stream);
    let mut session = Session {
        stream,
        script,
        seen,
    };
    if security != Security::StartTls {
        session.say(greeting)?;
    }
    if imap { session.imap() } else { session.pop3() }
}

impl Session<'_> {
    fn say(&mut self, line: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        stream.flush()
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches("\r\n").to_owned())
    }

    fn verdict(&mut self, user: &str, password: &str) -> Verdict {
        let number = self.seen.logins.fetch_add(1, SeqCst) + 1;
        let verdict = (self.script)(number, user, password);
        if matches!(verdict, Verdict::In(_) | Verdict::Silent) {
            let held = self.seen.held.fetch_add(1, SeqCst) + 1;
            self.seen.most_held.fetch_max(held, SeqCst);
        }
        verdict
    }

    fn goodbye(&mut self, inside: bool) {
        self.seen.goodbyes.fetch_add(1, SeqCst);
        if inside {
            self.seen.held.fetch_sub(1, SeqCst);
        }
    }

    fn imap(&mut self) -> io::Result<()> {
        let mut host = None;
        loop {
            let line = self.hear()?;
            let words: Vec<_> = line.split(' ').collect();
            let bare = |word: &str| word.trim_matches('"').to_owned();
            match words[..] {
                [tag, "LOGIN", user, password] => {
                    match self.verdict(&bare(user), &bare(password)) {
                        Verdict::In(backend) => host = Some(Some(backend)),
                        Verdict::Silent => host = Some(None),
                        Verdict::Refused => {
                            self.say(&format!("{tag} NO [AUTHENTICATIONFAILED] no"))?;
                            continue;
                        }
                        Verdict::Temporary => {
                            self.say(&format!("{tag} NO [UNAVAILABLE] later"))?;
                            continue;
                        }
                        Verdict::Close => return Ok(()),
                        Verdict::Nonsense => return self.say("250 2.0.0 what?"),
                    }
                    self.say(&format!("{tag} OK [CAPABILITY IDLE] Logged in"))?;
                }
                [tag, "ID", _] => {
                    if let Some(Some(host)) = &host {
                        let reply =
                            format!("* ID (\"name\" \"fake\" \"remark\" \"backend={host}\")");
                        self.say(&reply)?;
                    }
                    self.say(&format!("{tag} OK"))?;
                }
                [tag, "IDLE"] => {
                    self.seen.idled.fetch_add(1, SeqCst);
                    self.say("+ idling")?;
                    assert_eq!(self.hear()?, "DONE");
                    self.say(&format!("{tag} OK"))?;
                }
                [tag, "LOGOUT"] => {
                    self.goodbye(host.is_some());
                    self.say("* BYE")?;
                    return self.say(&format!("{tag} OK"));
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn pop3(&mut self) -> io::Result<()> {
        let (mut name, mut host) = (String::new(), None);
        loop {
            let line = self.hear()?;
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["USER", user] => {
                    name = user.to_owned();
                    self.say("+OK")?;
                }
                ["PASS", password] => match self.verdict(&name, password) {
                    Verdict::In(backend) => {
                        host = Some(Some(backend));
                        self.say("+OK Logged in.")?;
                    }
                    Verdict::Silent => {
                        host = Some(None);
                        self.say("+OK Logged in.")?;
                    }
                    Verdict::Refused => self.say("-ERR [AUTH] no")?,
                    Verdict::Temporary => self.say("-ERR [SYS/TEMP] later")?,
                    Verdict::Close => return Ok(()),
                    Verdict::Nonsense => return self.say("250 2.0.0 what?"),
                },
                ["CAPA"] => {
                    self.say("+OK\r\nUIDL")?;
                    if let Some(Some(host)) = &host {
                        let reply = format!("IMPLEMENTATION backend={host}");
                        self.say(&reply)?;
                    }
                    self.say(".")?;
                }
                ["QUIT"] => {
                    self.goodbye(host.is_some());
                    return self.say("+OK bye");
                }
                _ => panic!("{line}"),
            }
        }
    }
}

/// 200 logins of 30 users, five at a time.
pub fn plan(servers: &[&Server]) -> Plan {
    let mut plan = Plan {
        targets: servers.iter().map(|server| server.target.clone()).collect(),
        connections: 5,
        in_flight: 1,
        lifetime: Connections::PerLogin,
        users: Users::Known {
            count: 30,
            preload: true,
        },
        amount: Amount::Lookups(200),
        warm_up: Duration::ZERO,
        time_limit: Duration::from_secs(60),
        reply_timeout: Duration::from_secs(10),
        ..Plan::new(servers[0].target.clone())
    };
    plan.session.backend_mark = Some("backend=".to_owned());
    plan.session.tls_name = Some("localhost".to_owned());
    plan
}
