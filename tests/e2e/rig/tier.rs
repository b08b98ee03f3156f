//! The usual assembly: one proxy, three backends, one director between the proxy and its auth.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::clock::{PATIENCE, wait_until};
use super::config::{Ports, login_mode, render};
use super::director::{Director, DirectorKind, DirectorPlacement, DirectorSpec, Sockets, owner};
use super::dovecot::{Dovecot, LoginMode, Version};
use super::seat::Seat;
use super::site::Site;
use super::smtp_sink;
use super::stub_auth::StubAuth;
use super::users::{self, PassdbPorts, User};

/// Names of the backends, in the order of their addresses.
pub const BACKENDS: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

const SOCKET_LIMIT: Duration = PATIENCE;
const RING_PORT: u16 = 9090;
const PROXY_PORTS: Ports = Ports::at(10_000);
/// When a proxy and a backend share an address.
const OTHER_PORTS: Ports = Ports::at(20_000);

/// One column of the test matrix.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub director: DirectorKind,
    pub proxy: Version,
    pub backends: Version,
    pub mode: LoginMode,
    pub placement: DirectorPlacement,
}

/// What to assemble.
#[derive(Clone, Debug)]
pub struct TierSpec {
    pub case: Case,
    pub users: Vec<User>,
    /// The proxy has the address of the first backend; the ports differ.
    pub shared_address: bool,
    /// `director_user_expire` in seconds.
    pub expire: u32,
    /// The first backend is the proxy itself.
    pub proxy_is_backend: bool,
    /// Dovecot's setting on the proxy: whether a reload ends sessions. Dovecot's default is yes.
    pub shutdown_clients: bool,
    /// Further lines for the director's settings, in its own syntax; a Dovecot's only as a service. `@BASE@`
    /// is the proxy's `base_dir`, `@SITE@` the site's directory.
    pub director_settings: &'static str,
    /// The director is in a ring with one of the other kind, which takes an administrator's orders.
    pub in_ring: bool,
}

impl TierSpec {
    /// The plain tier with these users.
    pub fn new(case: Case, users: Vec<User>) -> Self {
        Self {
            case,
            users,
            shared_address: false,
            expire: 900,
            proxy_is_backend: false,
            shutdown_clients: true,
            director_settings: "",
            in_ring: false,
        }
    }
}

/// A running tier.
pub struct Tier {
    // Order matters: fields are dropped from first to last, the site when all processes are gone.
    pub director: Director,
    other: Option<Director>,
    pub proxy: Dovecot,
    _backends: Vec<Dovecot>,
    pub site: Site,
    address: Ipv4Addr,
}

impl Tier {
    /// Starts everything.
    pub fn start(spec: &TierSpec) -> Self {
        let site = Site::new();
        let relay = smtp_sink::start(site.address(9));
        let backend_ports = if spec.shared_address {
            OTHER_PORTS
        } else {
            PROXY_PORTS
        };
        let numbers = 0..BACKENDS.len();
        let first = usize::from(spec.proxy_is_backend);
        let backends = numbers
            .clone()
            .skip(first)
            .map(|number| start_backend(&site, spec, number, backend_ports, relay))
            .collect();
        let address = match spec.shared_address || spec.proxy_is_backend {
            true => backend_address(&site, 0),
            false => site.address(21),
        };
        let placement = spec.case.placement;
        let mail_servers = numbers.map(|number| backend_address(&site, number).to_string());
        let base = site.path().join("proxy");
        let director = DirectorSpec {
            kind: spec.case.director,
            placement,
            name: "director".to_owned(),
            address: site.address(31),
            backends: mail_servers.collect::<Vec<_>>().join(" "),
            expire: spec.expire,
            sockets: sockets(&base, placement),
            auth_login: base.join("auth-login"),
            auth_userdb: base.join("auth-userdb"),
            director_settings: spec
                .director_settings
                .replace("@BASE@", &base.display().to_string())
                .replace("@SITE@", &site.path().display().to_string()),
            seat: spec.in_ring.then(|| Seat {
                directors: vec![site.address(31), site.address(32)],
                port: RING_PORT,
                ping_idle: 30,
                ipv6: false,
            }),
        };
        let other = spec.in_ring.then(|| start_other(&site, &director));
        let proxy = start_proxy(&site, spec, address, backend_ports, Some(&director));
        let director = match placement {
            DirectorPlacement::DovecotService => Director::of(&site, &proxy, director),
            DirectorPlacement::Standalone => {
                make_socket_directory(&proxy);
                Director::start(&site, director)
            }
            DirectorPlacement::Unprivileged => {
                let owner = owner(&director.auth_login);
                chown(make_socket_directory(&proxy), Some(owner), None).expect("chown");
                Director::start(&site, director)
            }
            // The keeper makes the directory.
            DirectorPlacement::SystemdLike => Director::start(&site, director),
        };
        Self {
            director,
            other,
            proxy,
            _backends: backends,
            site,
            address,
        }
    }

    /// The order that makes a client visit the proxy; `protocol` is `imap`, `pop3`, `sieve` or
    /// `submission`.
    pub fn order(&self, action: &str, user: &str) -> Value {
        let protocol = action.split('.').next().unwrap_or(action);
        let ports = PROXY_PORTS.by_protocol();
        let port = ports
            .iter()
            .find(|(name, _)| *name == protocol)
            .map(|(_, port)| port);
        json!({
            "do": action,
            "host": self.address,
            "port": port.expect("a known protocol"),
            "user": user,
            "password": self.site.password,
        })
    }

    /// Logs a user in and out again and says which backend it was.
    pub fn visit(&self, client: &mut Client, protocol: &str, user: &str) -> String {
        let answer = client.ask(&self.order(&format!("{protocol}.visit"), user));
        let backend = answer["backend"].as_str();
        backend
            .unwrap_or_else(|| panic!("{user} by {protocol}: {answer}"))
            .to_owned()
    }

    /// Opens an IMAP session that stays; its name is the user's.
    pub fn open(&self, client: &mut Client, user: &str) {
        let mut order = self.order("imap.open", user);
        order["session"] = json!(user);
        let answer = client.ask(&order);
        assert_eq!(answer["ok"], true, "{user}: {answer}");
    }

    /// `doveadm director …`, on the director itself; what it says, and its exit status.
    pub fn order_director(&self, words: &[&str]) -> (String, Option<i32>) {
        let words = [&["director"], words].concat();
        match self.director.is_service() {
            true => self.proxy.doveadm(&words),
            false => self.director.doveadm(&words),
        }
    }

    /// `doveadm director …`, on the other director of the ring or on the proxy with its own; what it
    /// says, and its exit status.
    pub fn administer(&self, words: &[&str]) -> (String, Option<i32>) {
        let words = [&["director"], words].concat();
        match &self.other {
            Some(other) => other.doveadm(&words),
            None => self.proxy.doveadm(&words),
        }
    }

    /// Address of a backend.
    pub fn backend_address(&self, number: usize) -> String {
        backend_address(&self.site, number).to_string()
    }

    /// Delivers one message, marked with `token`, to several users by LMTP in one transaction.
    pub fn deliver(&self, client: &mut Client, to: &[&str], token: &str) -> Value {
        let mut order = self.order("lmtp.deliver", "");
        order["to"] = json!(to);
        order["token"] = json!(token);
        let answer = client.ask(&order);
        assert_eq!(answer["ok"], true, "delivery to {to:?}: {answer}");
        answer
    }

    /// Which backend has this address.
    pub fn backend_number(&self, address: &str) -> usize {
        let mut numbers = 0..BACKENDS.len();
        let found =
            numbers.find(|number| backend_address(&self.site, *number).to_string() == address);
        found.unwrap_or_else(|| panic!("{address} is no backend"))
    }

    /// Where a delivered message is: names of backends, or `proxy`.
    pub fn find_message(&self, user: &str, token: &str) -> Vec<String> {
        let mut places = BACKENDS.to_vec();
        places.push("proxy");
        let has = |place: &&str| {
            let new = self.site.path().join(format!("{place}.mail/{user}/new"));
            let files = fs::read_dir(new).into_iter().flatten().flatten();
            let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
            texts.any(|text| text.contains(token))
        };
        places.into_iter().filter(has).map(str::to_owned).collect()
    }
}

fn backend_address(site: &Site, number: usize) -> Ipv4Addr {
    site.address(11 + u8::try_from(number).expect("few backends"))
}

/// A director of the other kind with the same backends. It has sockets of its own, which nobody uses, and
/// cannot end sessions.
fn start_other(site: &Site, director: &DirectorSpec) -> Director {
    let socket = |name: &str| site.path().join(format!("other-{name}"));
    let auth = socket("auth");
    StubAuth::start(&auth);
    let spec = DirectorSpec {
        kind: match director.kind {
            DirectorKind::Homing => DirectorKind::Dovecot23,
            DirectorKind::Dovecot23 => DirectorKind::Homing,
        },
        placement: DirectorPlacement::Standalone,
        name: "other".to_owned(),
        address: site.address(32),
        sockets: Sockets {
            login: socket("login"),
            userdb: socket("userdb"),
            notify: socket("notify"),
            authreply: None,
        },
        auth_login: auth.clone(),
        auth_userdb: auth,
        director_settings: String::new(),
        ..director.clone()
    };
    Director::start(site, spec)
}

fn start_backend(
    site: &Site,
    spec: &TierSpec,
    number: usize,
    ports: Ports,
    relay: SocketAddr,
) -> Dovecot {
    let (name, version) = (BACKENDS[number], spec.case.backends);
    let mail = mail_dir(site, name);
    users::seed_mail(&mail, &spec.users, name);
    let template = match version {
        Version::V23 => include_str!("conf/backend-2.3.conf"),
        Version::V24 => include_str!("conf/backend-2.4.conf"),
    };
    Dovecot::start(site, name, version, |dovecot| {
        let mut values = dovecot.values();
        values.extend(ports.values());
        values.extend([
            ("ADDRESS", backend_address(site, number).to_string()),
            ("MAIL", mail.display().to_string()),
            ("PASSWORD", site.password.clone()),
            ("RELAY_HOST", relay.ip().to_string()),
            ("DOVEADM_PASSWORD", doveadm_password(site)),
            ("RELAY_PORT", relay.port().to_string()),
            ("LOGIN_MODE", login_mode(version, spec.case.mode)),
        ]);
        render(template, &values)
    })
}

/// A proxy without director and backends, on the address it returns with its IMAP port.
pub fn start_lone_proxy(site: &Site, case: Case) -> (Dovecot, Sockets, SocketAddr) {
    let spec = TierSpec::new(case, Vec::new());
    let address = site.address(21);
    let proxy = start_proxy(site, &spec, address, PROXY_PORTS, None);
    make_socket_directory(&proxy);
    let sockets = sockets(&proxy.base(), DirectorPlacement::Standalone);
    (proxy, sockets, (address, PROXY_PORTS.imap).into())
}

/// A Dovecot 2.3 whose `script` service runs the program for whoever connects to the socket.
pub fn start_script_service(site: &Site, program: &Path, socket: &Path) -> Dovecot {
    Dovecot::start(site, "script", Version::V23, |dovecot| {
        let mut values = dovecot.values();
        values.extend([
            ("SCRIPT", program.display().to_string()),
            ("SOCKET", socket.display().to_string()),
        ]);
        render(include_str!("conf/script-2.3.conf"), &values)
    })
}

/// `director`: what becomes a service of this proxy, if its placement says so.
fn start_proxy(
    site: &Site,
    spec: &TierSpec,
    address: Ipv4Addr,
    backend_ports: Ports,
    director: Option<&DirectorSpec>,
) -> Dovecot {
    let version = spec.case.proxy;
    let template = match version {
        Version::V23 => include_str!("conf/proxy-2.3.conf"),
        Version::V24 => include_str!("conf/proxy-2.4.conf"),
    };
    let (passwd_files, mail) = (site.path().join("users"), mail_dir(site, "proxy"));
    let ports = PassdbPorts {
        ports: backend_ports,
        lmtp: spec.shared_address,
    };
    users::write(&passwd_files, &spec.users, &site.password, ports);
    users::make_mail_dir(&mail);
    if spec.proxy_is_backend {
        users::seed_mail(&mail, &spec.users, BACKENDS[0]);
    }
    let service = director.filter(|spec| spec.placement == DirectorPlacement::DovecotService);
    let (auth_socket, notify_path) = match service {
        Some(_) => ("director", "proxy-notify"),
        None => ("director/auth", "director/notify"),
    };
    let userdb_socket = userdb_socket(spec.case.placement);
    Dovecot::start(site, "proxy", version, |dovecot| {
        let mut values = dovecot.values();
        values.extend(PROXY_PORTS.values());
        values.extend([
            ("ADDRESS", address.to_string()),
            ("MAIL", mail.display().to_string()),
            ("SHUTDOWN_CLIENTS", yes_no(spec.shutdown_clients)),
            ("AUTH_SOCKET", auth_socket.to_owned()),
            ("NOTIFY_PATH", notify_path.to_owned()),
            ("USERDB_SOCKET", userdb_socket.to_owned()),
            ("DOVEADM_PASSWORD", doveadm_password(site)),
            (
                "DIRECTOR_SERVICE",
                service.map_or_else(String::new, |service| {
                    Director::service_block(site, dovecot, service)
                }),
            ),
            ("USERS", passwd_files.display().to_string()),
            ("LOGIN_MODE", login_mode(version, spec.case.mode)),
        ]);
        render(template, &values)
    })
}

fn mail_dir(site: &Site, name: &str) -> PathBuf {
    site.path().join(format!("{name}.mail"))
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// doveadm logs in at a backend with it.
fn doveadm_password(site: &Site) -> String {
    format!("{}-doveadm", site.password)
}

/// Where the login processes of the Dovecot with this `base_dir` look for the director.
fn sockets(base: &Path, placement: DirectorPlacement) -> Sockets {
    let login = base.join("login");
    let (auth, notify) = match placement {
        DirectorPlacement::DovecotService => ("director", "proxy-notify"),
        _ => ("director/auth", "director/notify"),
    };
    Sockets {
        login: login.join(auth),
        userdb: base.join(userdb_socket(placement)),
        notify: login.join(notify),
        authreply: None,
    }
}

/// In `base_dir`, where only root can make something.
fn userdb_socket(placement: DirectorPlacement) -> &'static str {
    match placement {
        DirectorPlacement::Unprivileged => "login/director/userdb",
        _ => "director-userdb",
    }
}

/// Makes `login/director/` in the proxy's `base_dir`. `login` itself is made by Dovecot.
fn make_socket_directory(proxy: &Dovecot) -> PathBuf {
    let login = proxy.base().join("login");
    wait_until("Dovecot makes base_dir/login", SOCKET_LIMIT, || {
        login.is_dir()
    });
    let directory = login.join("director");
    fs::create_dir_all(&directory).expect("login/director");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}
