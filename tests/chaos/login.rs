//! The login processes beside each director, and the sessions that they have: who is where, and who ends them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use homing::core::user_hash::Template;
use parking_lot::Mutex;

use crate::e2e::now;

/// How long a client waits for its login.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// After a partition: until both sides have found each other, compared, and ended sessions.
const SETTLE: Duration = Duration::from_secs(25);
/// A login that was under way while its user was kicked is looked after once more.
const LATE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct Session {
    pub number: u64,
    /// The director whose login process has it.
    pub beside: usize,
    pub backend: Ipv4Addr,
    asked: Instant,
}

/// All sessions of all login processes; a backend is where a session says that it is.
#[derive(Default)]
pub struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    by_user: HashMap<String, Vec<Session>>,
    /// When sessions of a user were last ended by a director.
    kicked: HashMap<u32, Instant>,
    /// Until then users may be on two backends: directors do not reach each other.
    parted: Option<Instant>,
    faults: Vec<String>,
    kicks: u64,
    /// Logins of users who were elsewhere as well, while directors were parted.
    doubles: u64,
}

pub fn hash(user: &str) -> u32 {
    let template = Template::parse("%Lu", &|_| None).expect("the default");
    template.hash(user.as_bytes(), &mut Vec::new()).0
}

impl Sessions {
    /// A login that was asked for at some time has succeeded.
    pub fn begin(&self, user: &str, beside: usize, backend: Ipv4Addr, asked: Instant) {
        let mut state = self.0.lock();
        state.last += 1;
        let session = Session {
            number: state.last,
            beside,
            backend,
            asked,
        };
        let kicked = state.kicked.get(&hash(user)).copied();
        let was_kicked =
            |it: &Session| kicked.is_some_and(|kicked| it.asked <= kicked && kicked + LATE > now());
        let is_parted = state.parted.is_some_and(|until| now() < until);
        let State {
            by_user,
            doubles,
            faults,
            ..
        } = &mut *state;
        let sessions = by_user.entry(user.to_owned()).or_default();
        let other = sessions
            .iter()
            .find(|it| it.backend != backend && !was_kicked(it));
        *doubles += u64::from(other.is_some() && is_parted);
        let fault = other
            .filter(|_| !is_parted && !was_kicked(&session))
            .map(|other| format!("{user} is on two backends: {other:?}, {session:?}"));
        sessions.push(session);
        faults.extend(fault);
    }

    pub fn of(&self, user: &str) -> Vec<Session> {
        self.0.lock().by_user.get(user).cloned().unwrap_or_default()
    }

    /// A client goes.
    pub fn end(&self, user: &str, number: u64) {
        if let Some(sessions) = self.0.lock().by_user.get_mut(user) {
            sessions.retain(|it| it.number != number);
        }
    }

    /// How many there are, how many were ended by directors, and how many logins made a user double.
    pub fn count(&self) -> (usize, u64, u64) {
        let state = self.0.lock();
        let sessions = state.by_user.values().map(Vec::len).sum();
        (sessions, state.kicks, state.doubles)
    }

    /// Users with sessions, each with one of its backends.
    pub fn places(&self) -> HashMap<String, Ipv4Addr> {
        let state = self.0.lock();
        let of = |(user, all): (&String, &Vec<Session>)| Some((user.clone(), all.first()?.backend));
        state.by_user.iter().filter_map(of).collect()
    }

    /// Users on two backends.
    pub fn doubles(&self) -> Vec<String> {
        let state = self.0.lock();
        let is_double = |all: &[Session]| all.iter().any(|it| it.backend != all[0].backend);
        let all = state.by_user.iter();
        all.filter(|(_, all)| is_double(all))
            .map(|(user, all)| format!("{user}: {all:?}"))
            .collect()
    }

    /// Directors do not reach each other for so long.
    pub fn part(&self, time: Duration) {
        let until = now() + time + SETTLE;
        let mut state = self.0.lock();
        state.parted = state.parted.max(Some(until));
    }

    /// Nobody may be on two backends any more.
    pub fn is_whole(&self) -> bool {
        self.0.lock().parted.is_none_or(|until| until <= now())
    }

    #[track_caller]
    pub fn no_faults(&self) {
        let state = self.0.lock();
        assert!(state.faults.is_empty(), "{:#?}", state.faults);
    }

    fn kick(&self, beside: usize, is_meant: impl Fn(&str, &Session) -> bool) {
        let mut state = self.0.lock();
        let mut ended = 0;
        for (user, sessions) in &mut state.by_user {
            let before = sessions.len();
            sessions.retain(|it| it.beside != beside || !is_meant(user, it));
            ended += (before - sessions.len()) as u64;
        }
        state.kicks += ended;
    }

    /// What Dovecot's ipc is told (docs/protocol/kicks.md); the answer.
    fn command(&self, beside: usize, line: &str) -> String {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["proxy", "*", "KICK-DIRECTOR-HASH", number, ref except @ ..] => {
                let number: u32 = number.parse().expect("a hash");
                let except: Option<Ipv4Addr> =
                    except.first().map(|it| it.parse().expect("an address"));
                self.0.lock().kicked.insert(number, now());
                self.kick(beside, |user, it| {
                    hash(user) == number && Some(it.backend) != except
                });
                "+1\n".to_owned()
            }
            ["proxy", "*", "KICK", user] => {
                self.0.lock().kicked.insert(hash(user), now());
                self.kick(beside, |own, _| own == user);
                "+1\n".to_owned()
            }
            ["proxy", "*", "LIST-FULL"] => {
                let mut rows = ":username\tservice\tsrc-ip\tdest-ip\tdest-port\n".to_owned();
                for (user, sessions) in &self.0.lock().by_user {
                    for it in sessions.iter().filter(|it| it.beside == beside) {
                        rows += &format!(":{user}\timap\t127.0.0.1\t{}\t143\n", it.backend);
                    }
                }
                rows + "+\n"
            }
            _ => panic!("a command that ipc does not know: {line}"),
        }
    }

    /// Is Dovecot's ipc beside a director.
    pub fn serve_ipc(self: &Arc<Self>, beside: usize, socket: &Path) {
        let listener = UnixListener::bind(socket).expect("a socket for ipc");
        let sessions = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sessions = Arc::clone(&sessions);
                thread::spawn(move || {
                    for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                        let answer = sessions.command(beside, &line);
                        // A director that was killed does not hear it.
                        let _ = (&stream).write_all(answer.as_bytes());
                    }
                });
            }
        });
    }
}

/// A connection of a login process to its director.
pub struct Door {
    stream: BufReader<UnixStream>,
    last: u32,
}

impl Door {
    pub fn open(socket: &Path) -> std::io::Result<Door> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(b"VERSION\t1\t2\nCPID\t4711\n")?;
        let stream = BufReader::new(stream);
        Ok(Door { stream, last: 0 })
    }

    /// The user's backend; `None`: the login has failed. After an error the door is of no use.
    pub fn log_in(&mut self, user: &str) -> std::io::Result<Option<Ipv4Addr>> {
        self.last += 1;
        let number = self.last.to_string();
        // The stub auth takes `session` for the name.
        let request =
            format!("AUTH\t{number}\tPLAIN\tservice=imap\tsession={user}\tresp=AHgAeA==\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut fields = line.trim_end().split('\t');
            let (kind, id) = (fields.next(), fields.next());
            if id != Some(&number) || !matches!(kind, Some("OK" | "FAIL")) {
                continue;
            }
            let host = fields.find_map(|field| field.strip_prefix("host="));
            return Ok(host.map(|host| host.parse().expect("an address")));
        }
    }
}
