//! A ring of members, and what all of them should know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::backends::{Backends, Change, TAG, user_hash};
use super::complaints;
use super::door::{Door, Outcome};
use super::load::Load;
use super::member::{Member, Wanted, kind};
use super::orders::in_a_row;
use super::view::{self, Expected};
use crate::authority::{self, Authority};
use crate::e2e::admin::rows;
use crate::e2e::dovecot::HOMING;
use crate::e2e::seat::{Seat, over_ipv6};
use crate::e2e::{Director, DirectorKind, Site, StubAuth, now};

const PORT: u16 = 9090;
/// The preferred right neighbour is dialled every 30 s; nothing else takes as long, but for the
/// back-off of 60 s that a test must not run into.
const AGREE_LIMIT: Duration = Duration::from_secs(45);
/// Between two looks at all members.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// New users that every member is asked for in each comparison.
const PROBES: usize = 8;
/// Backends of every ring at its start.
const BACKENDS: u8 = 6;

/// What the flush script notes.
const FLUSHED: &str = "flushed";

/// A host name among the backends. Homings look it up every second.
pub const NAME: &str = "mail.homing.test";

/// An address that [`NAME`] may have.
pub fn named(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, number)
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct RingSpec {
    /// A letter for each member: Dovecot or Homing.
    pub members: &'static str,
    /// `director_user_expire` in seconds.
    pub expire: u32,
    /// `director_ping_idle_timeout` in seconds.
    pub ping_idle: u32,
    /// Addresses ([`named`]) that [`NAME`] has, a further backend of all members; none: it is not there.
    pub named: &'static [u8],
    /// Homings have certificates, and take neighbours without.
    pub tls: bool,
    /// Numbers of the backends that have [`super::backends::TAG`].
    pub tagged: &'static [u8],
    /// The members are at IPv6 addresses, which are added to this machine's loopback interface: only in a
    /// network namespace of the test's own.
    pub ipv6: bool,
    /// Homings run a flush script, which notes who has run it ([`Ring::flushed`]).
    pub flush: bool,
}

impl RingSpec {
    /// The usual settings.
    pub fn of(members: &'static str) -> Self {
        Self {
            members,
            expire: 900,
            ping_idle: 30,
            named: &[],
            tls: false,
            tagged: &[],
            ipv6: false,
            flush: false,
        }
    }
}

/// A ring under test.
pub struct Ring {
    // Before the site, which looks at the logs when it is dropped.
    members: Vec<Member>,
    backends: Backends,
    users: BTreeMap<String, Ipv4Addr>,
    probes: usize,
    /// Orders that were given by doveadm.
    turn: AtomicUsize,
    /// The only member that is given orders; none: all by turns.
    ordered: Option<usize>,
    /// Members that the test has cut off: others may complain about them.
    cut: BTreeSet<Ipv4Addr>,
    /// How much of each log was looked at.
    read: BTreeMap<PathBuf, usize>,
    site: Site,
}

/// Backend `number` of every ring.
pub fn backend(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

impl Ring {
    /// A ring of which no member runs yet.
    pub fn new(spec: RingSpec) -> Self {
        let site = Site::new();
        let auth = site.path().join("auth");
        StubAuth::start(&auth);
        let count = u8::try_from(spec.members.len()).expect("few members");
        let seat = Seat {
            directors: (1..=count).map(|host| site.address(host)).collect(),
            port: PORT,
            ping_idle: spec.ping_idle,
            ipv6: spec.ipv6,
        };
        if spec.ipv6 {
            seat.directors.iter().copied().for_each(add_address);
        }
        let mut backends: Vec<_> = (1..=BACKENDS).map(backend).collect();
        let tagged: Vec<_> = spec.tagged.iter().copied().map(backend).collect();
        let text = |address: &Ipv4Addr| match tagged.contains(address) {
            true => format!("{address}@{TAG}"),
            false => address.to_string(),
        };
        let mut texts: Vec<_> = backends.iter().map(text).collect();
        if !spec.named.is_empty() {
            write_hosts(&site, spec.named);
            backends.extend(spec.named.iter().copied().map(named));
            texts.push(NAME.to_owned());
        }
        let wanted = Wanted {
            seat: &seat,
            backends: &texts.join(" "),
            settings: &settings_of(&spec, &site, &seat),
            expire: spec.expire,
            auth: &auth,
        };
        let member = |(number, letter)| Member::new(&site, number, kind(letter), wanted);
        Self {
            members: spec.members.chars().enumerate().map(member).collect(),
            backends: Backends::configured(&backends, &tagged),
            users: BTreeMap::new(),
            probes: 0,
            turn: AtomicUsize::new(0),
            ordered: None,
            // At the start each is unreachable for a while.
            cut: seat.directors.iter().copied().collect(),
            read: BTreeMap::new(),
            site,
        }
    }

    /// A ring whose members have started together and agree.
    pub fn start(spec: RingSpec) -> Self {
        let mut ring = Self::new(spec);
        let site = &ring.site;
        thread::scope(|scope| {
            for member in &mut ring.members {
                scope.spawn(move || member.start(site));
            }
        });
        ring.agree();
        ring.check_logs(&[]);
        ring.cut.clear();
        ring
    }

    /// A ring with users of whom most are not where new ones of the same name would go: one that
    /// is forgotten anywhere shows.
    pub fn start_skewed(spec: RingSpec, users: usize) -> Self {
        let mut ring = Self::start(spec);
        ring.skew(users);
        ring
    }

    /// Logs new users in while only two backends take any, then lets all take them again.
    pub fn skew(&mut self, users: usize) {
        let closed = 3..=BACKENDS;
        for number in closed.clone() {
            self.change(Change::Update(backend(number), 0));
        }
        self.add_users("user", users);
        for number in closed {
            self.change(Change::Update(backend(number), 100));
        }
        let away = self.users_away().len();
        assert!(away > users / 2, "only {away} users are away from home");
        self.agree();
    }

    /// Logs new users in, by turns through all members that are up, and checks where they go.
    pub fn add_users(&mut self, stem: &str, count: usize) -> Vec<String> {
        let names: Vec<_> = (0..count)
            .map(|n| format!("{stem}{n}@Example.org"))
            .collect();
        let up = self.up();
        let homes = self.backends.homes();
        for (turn, number) in up.iter().enumerate() {
            let own: Vec<_> = names.iter().skip(turn).step_by(up.len()).collect();
            for (name, outcome) in own.iter().zip(self.log_in(*number, &own)) {
                let home = homes.of(name);
                assert_eq!(outcome, Ok(home), "new user {name} at member {number}");
                self.users.insert(name.to_string(), home);
            }
        }
        names
    }

    /// Logs users in at a member that must be there.
    pub fn log_in<N: AsRef<str>>(&self, number: usize, names: &[N]) -> Vec<Outcome> {
        let socket = self.members[number].plate().socket;
        let outcomes = Door::open(&socket).and_then(|mut door| door.log_in(names));
        outcomes.unwrap_or_else(|error| panic!("logins at member {number}: {error}"))
    }

    /// Backend of a known user.
    pub fn backend_of(&self, name: &str) -> Ipv4Addr {
        self.users[name]
    }

    /// Where a new user of this name would go.
    pub fn home_of(&self, name: &str) -> Ipv4Addr {
        self.backends.homes().of(name)
    }

    /// Users who are not where new ones of the same name would go.
    pub fn users_away(&self) -> Vec<String> {
        let homes = self.backends.homes();
        let users = self.users.iter();
        users
            .filter(|(name, at)| homes.of(name) != **at)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Logs all users in over and over, through all members.
    pub fn load(&self) -> Load {
        let plates: Vec<_> = self.members.iter().map(Member::plate).collect();
        let users = self.users.iter().map(|(name, at)| (name.clone(), *at));
        Load::start(&plates, users.collect())
    }

    /// From now on [`NAME`] has these addresses; without any it cannot be looked up.
    pub fn name_has(&self, addresses: &[u8]) {
        write_hosts(&self.site, addresses);
    }

    /// A director has done by itself what an administrator could have.
    pub fn expect(&mut self, change: Change) {
        self.backends.apply(change);
    }

    /// Names of the users that a backend has.
    pub fn users_of(&self, backend: Ipv4Addr) -> Vec<String> {
        let users = self.users.iter().filter(|(_, at)| **at == backend);
        users.map(|(name, _)| name.clone()).collect()
    }

    /// How often a text is in the members' logs.
    pub fn count_log(&self, text: &str) -> usize {
        let count = |log: PathBuf| {
            let log = fs::read(log).expect("a log");
            memchr::memmem::find_iter(&log, text).count()
        };
        self.site.logs().into_iter().map(count).sum()
    }

    /// Waits until all members that are up agree: about backends, about users, who their
    /// neighbours are; then that each of them sends every user, and some new ones, where it should.
    pub fn agree(&mut self) {
        self.settle();
        let names: Vec<_> = self.users.keys().cloned().collect();
        for number in self.up() {
            for (name, outcome) in names.iter().zip(self.log_in(number, &names)) {
                assert_eq!(outcome, Ok(self.users[name]), "{name} at member {number}");
            }
        }
        self.probes += 1;
        let count = PROBES * self.up().len();
        self.add_users(&format!("probe{}-", self.probes), count);
        self.settle();
    }

    /// Waits until no member says anything different.
    pub fn settle(&self) {
        let end = now() + AGREE_LIMIT;
        let users = self.users.iter();
        let users: BTreeMap<_, _> = users.map(|(name, at)| (user_hash(name), *at)).collect();
        while let Some(difference) = self.difference(&users) {
            assert!(now() < end, "after {AGREE_LIMIT:?}: {difference}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn difference(&self, users: &BTreeMap<u32, Ipv4Addr>) -> Option<String> {
        let up = self.up();
        up.iter().enumerate().find_map(|(index, number)| {
            let address = |index: usize| self.members[up[index % up.len()]].address;
            let expected = Expected {
                backends: &self.backends,
                users,
                neighbours: (up.len() > 1)
                    .then(|| (address(index + up.len() - 1), address(index + 1))),
            };
            let member = &self.members[*number];
            let difference = view::difference(member.director(), &expected)?;
            let kind = member.kind();
            Some(format!("member {number} ({kind:?}): {difference}"))
        })
    }

    /// The members' addresses.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Numbers of the members that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|number| self.members[*number].is_up())
            .collect()
    }

    /// Starts a member, again or for the first time.
    pub fn start_member(&mut self, number: usize) {
        self.members[number].start(&self.site);
    }

    /// `kill -9` of a member.
    pub fn kill(&mut self, number: usize) {
        self.end(number, Director::kill);
    }

    /// SIGTERM to a member; it has ended when this returns.
    pub fn stop(&mut self, number: usize) {
        self.end(number, Director::stop);
    }

    /// Has another process take over from a Homing, which is there all the time.
    pub fn take_over(&mut self, number: usize) {
        self.members[number].take_over();
    }

    /// Stops a member's process for a while. The others will find out.
    pub fn pause(&mut self, number: usize) {
        self.end(number, |director| director.signal(libc::SIGSTOP));
    }

    /// The opposite of [`Self::pause`].
    pub fn resume(&mut self, number: usize) {
        self.members[number].resume();
    }

    /// The others have let go of a member, which runs on.
    pub fn left_to_itself(&mut self, number: usize) {
        self.end(number, |_| ());
    }

    /// Ends a member of which the others have let go.
    pub fn stop_left(&mut self, number: usize) {
        self.members[number].counts_again();
        self.stop(number);
    }

    fn end(&mut self, number: usize, end: impl FnOnce(&mut Director)) {
        self.cut.insert(self.members[number].address);
        self.members[number].end(end);
    }

    /// Starts a director of another kind in the place of one that is down.
    pub fn replace(&mut self, number: usize, kind: DirectorKind) {
        self.members[number].replace(number, kind);
        self.start_member(number);
    }

    /// Has a member change a backend; waits for the ring's consent, as doveadm
    /// does.
    pub fn change(&mut self, change: Change) {
        let words = change.words();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.doveadm(&words);
        self.backends.apply(change);
        if let Change::Remove(address) = change {
            self.users.retain(|_, at| *at != address);
        }
    }

    /// Has one member give a backend one weight after the other, as fast as it takes them.
    pub fn change_in_a_row(&mut self, number: usize, backend: Ipv4Addr, weights: &[u32]) {
        let command = |weight: &u32| format!("HOST-UPDATE\t{backend}\t{weight}");
        let commands: Vec<_> = weights.iter().map(command).collect();
        in_a_row(&self.members[number].director().admin_socket(), &commands);
        let last = weights.last().expect("a weight");
        self.backends.apply(Change::Update(backend, *last));
    }

    /// Has a member move a user.
    pub fn move_user(&mut self, name: &str, to: Ipv4Addr) {
        self.doveadm(&["move", name, &to.to_string()]);
        self.users.insert(name.to_owned(), to);
    }

    /// From now on this member is given all orders.
    pub fn order_at(&mut self, number: usize) {
        self.ordered = Some(number);
    }

    /// Has users of a backend, or of all, go to where new ones would; waits until all were told to.
    pub fn flush(&mut self, backend: Option<Ipv4Addr>) {
        let word = backend.map_or_else(|| "all".to_owned(), |backend| backend.to_string());
        self.doveadm(&["flush", &word]);
        let homes = self.backends.homes();
        for (name, at) in &mut self.users {
            if backend.is_none_or(|backend| backend == *at) {
                *at = homes.of(name);
            }
        }
    }

    /// Has a backend's users forgotten; their sessions are not ended.
    pub fn forget(&mut self, backend: Ipv4Addr) {
        self.doveadm(&["flush", "-F", &backend.to_string()]);
        self.users.retain(|_, at| *at != backend);
    }

    /// `doveadm director …` at the members that are up by turns, or at the one that is given all orders,
    /// which must succeed; what it says.
    pub fn doveadm(&self, words: &[&str]) -> String {
        let up = self.up();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let number = self.ordered.unwrap_or_else(|| up[turn % up.len()]);
        self.doveadm_at(number, &[], words)
    }

    /// The same at one of them, with options for doveadm itself.
    pub fn doveadm_at(&self, number: usize, options: &[&str], words: &[&str]) -> String {
        let member = &self.members[number];
        let words = [options, &["director"], words].concat();
        let (said, status) = member.director().doveadm(&words);
        let kind = member.kind();
        assert_eq!(status, Some(0), "doveadm {words:?} at {kind:?}: {said}");
        said
    }

    /// `homing …` about a member that is a Homing, which must succeed; what it says.
    pub fn homing_at(&self, number: usize, words: &[&str]) -> String {
        let output = Command::new(HOMING)
            .args(words)
            .arg("-a")
            .arg(self.members[number].director().admin_socket())
            .stdin(Stdio::null())
            .output()
            .expect("homing");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "homing {words:?}: {text}");
        text
    }

    /// Where a member has the users it should know.
    pub fn places_at(&self, number: usize) -> BTreeMap<String, Ipv4Addr> {
        let socket = self.members[number].director().admin_socket();
        let known = view::users(&rows(&socket, "USER-LIST"));
        let names = self.users.keys();
        names
            .filter_map(|name| Some((name.clone(), *known.get(&user_hash(name))?)))
            .collect()
    }

    /// The directors that a member has in its list.
    pub fn listed_at(&self, number: usize) -> Vec<Ipv4Addr> {
        let socket = self.members[number].director().admin_socket();
        let list = rows(&socket, "DIRECTOR-LIST");
        list.iter()
            .filter_map(|row| view::address(&row[0]))
            .collect()
    }

    /// A director has moved a user by itself.
    pub fn expect_user(&mut self, name: &str, at: Ipv4Addr) {
        self.users.insert(name.to_owned(), at);
    }

    /// What the flush script was called with, and by which member.
    pub fn flushed(&self) -> Vec<(usize, String)> {
        let noted = fs::read_to_string(self.site.path().join(FLUSHED)).unwrap_or_default();
        let pids: Vec<_> = self.members.iter().map(Member::homing_pid).collect();
        let member = |line: &str| {
            let (pid, words) = line.split_once(' ')?;
            let by = Some(pid.parse().expect("the number of a process"));
            Some((pids.iter().position(|it| *it == by)?, words.to_owned()))
        };
        let found = noted.lines().map(member);
        found.map(|it| it.expect("run by a member")).collect()
    }

    /// The debug log of a member that is a Dovecot, which has all that comes in on the ring.
    pub fn debug_of(&self, number: usize) -> String {
        let log = self.members[number].director().log();
        let text = fs::read(log.with_extension("debug")).expect("a debug log");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How often a text is in the Dovecots' debug logs, which have all that comes in on the ring.
    pub fn count_debug(&self, text: &str) -> usize {
        let entries = fs::read_dir(self.site.path()).expect("the site").flatten();
        let paths = entries.map(|entry| entry.path());
        let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "debug"));
        logs.map(|log| {
            let log = fs::read(log).expect("a log");
            memchr::memmem::find_iter(&log, text).count()
        })
        .sum()
    }

    /// Checks that since the last check nobody has complained but about members that were cut off,
    /// and with these texts.
    pub fn check_logs(&mut self, allowed: &[&str]) {
        for log in self.site.logs() {
            let name = log.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix('m')?.split('-').next());
            let number: usize = number
                .and_then(|number| number.parse().ok())
                .expect("m<n>-");
            let text = fs::read(&log).expect("a log");
            let from = self.read.insert(log.clone(), text.len()).unwrap_or(0);
            let text = String::from_utf8_lossy(&text[from..]);
            let own = self.members[number].address;
            let found = complaints::find(&text, own, &self.cut, allowed);
            assert!(found.is_empty(), "in {}: {found:#?}", log.display());
        }
    }
}

/// What Homings have besides the usual settings.
fn settings_of(spec: &RingSpec, site: &Site, seat: &Seat) -> String {
    let mut settings = String::new();
    if !spec.named.is_empty() {
        settings += "resolve_interval = \"1 s\"\n";
    }
    if spec.tls {
        let authority = Authority::new();
        let given = authority.give_all(&seat.directors);
        let paths = authority::write(site.path(), &given, &authority.pem());
        for (name, path) in ["cert", "key", "ca"].into_iter().zip(&paths) {
            // Homings run as another user.
            fs::set_permissions(path, Permissions::from_mode(0o644)).expect("chmod");
            settings += &format!("director_ring_tls_{name} = {path:?}\n");
        }
        settings += "director_ring_tls_required = false\n";
    }
    if spec.flush {
        let script = site.path().join("flush.sh");
        let noted = site.path().join(FLUSHED);
        let text = format!("#!/bin/sh\necho \"$PPID $*\" >> {}\n", noted.display());
        fs::write(&script, text).expect("a script");
        fs::write(&noted, "").expect("a file");
        for (path, mode) in [(&script, 0o755), (&noted, 0o666)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        }
        settings += &format!("director_flush_command = {script:?}\n");
    }
    settings
}

/// Adds a director's IPv6 address.
fn add_address(address: Ipv4Addr) {
    let address = format!("{}/128", over_ipv6(address));
    let mut command = Command::new("ip");
    command.args(["-6", "address", "add", &address, "dev", "lo"]);
    let status = command.status().expect("ip of iproute2");
    assert!(status.success(), "{command:?}");
}

/// What members of the site see as /etc/hosts. It is mounted there, so it must stay the same file.
fn write_hosts(site: &Site, addresses: &[u8]) {
    let lines = addresses
        .iter()
        .map(|number| format!("{} {NAME}\n", named(*number)));
    let text = format!("127.0.0.1 localhost\n{}", lines.collect::<String>());
    fs::write(site.path().join("hosts"), text).expect("a file of hosts");
}
