//! Listeners that systemd made before Homing was there: a path and an address.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use crate::client::{At, Request};
use crate::e2e::dovecot::HOMING;
use crate::e2e::process::Proc;
use crate::e2e::{PATIENCE, Site, StubAuth, wait_until};
use crate::stage::{ADMIN, READ, WRONG};

/// What systemd does for a service with a socket unit: listens, and hands over what it listens on.
const SYSTEMD: &str = r#"
import fcntl, os, socket, sys
address, port, path, login, *command = sys.argv[1:]
tcp = socket.socket()
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind((address, int(port)))
paths = []
for name in (path, login):
    paths.append(socket.socket(socket.AF_UNIX))
    paths[-1].bind(name)
high = [fcntl.fcntl(it, fcntl.F_DUPFD, 10) for it in (tcp, *paths)]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number)
    socket.socket(fileno=os.dup(number)).listen()
    os.close(fd)
names = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "tcp:http:login"}
os.execve(command[0], command, os.environ | names)
"#;

#[test]
fn http_listeners_of_systemd_are_served_and_outlive_the_director() {
    let site = Site::new();
    let file = |name: &str| site.path().join(name);
    StubAuth::start(&file("auth"));
    fs::write(file("tokens"), format!("ann admin {ADMIN}\n")).expect("a file of tokens");
    fs::set_permissions(file("tokens"), fs::Permissions::from_mode(0o600)).expect("its mode");
    let address = SocketAddr::new(IpAddr::from(site.address(1)), 8080);
    let settings = format!(
        "director_mail_servers = \"10.2.0.1 10.2.0.2\"\nbase_dir = {:?}\nauth_login_path = {:?}\nclient_limit = 100\n\
         cores = 1\nkick_service = \"none\"\nhttp_tokens = {:?}\n\
         [[listener]]\ntype = \"login\"\npath = {:?}\n\
         [[listener]]\ntype = \"http\"\npath = {:?}\n\
         [[listener]]\ntype = \"http\"\naddress = \"{address}\"\nallow = [\"127.0.0.0/8\"]\n",
        site.path(),
        file("auth"),
        file("tokens"),
        file("login"),
        file("http"),
    );
    fs::write(file("homing.toml"), settings).expect("settings");
    let name = |name: &str| file(name).display().to_string();
    let (ip, http, login, config) = (
        site.address(1).to_string(),
        name("http"),
        name("login"),
        name("homing.toml"),
    );
    let words = [
        "-c", SYSTEMD, &ip, "8080", &http, &login, HOMING, "run", "--config", &config,
    ];
    let mut homing = Proc::start("python3", &words, &file("homing.log"));
    let (path, tcp) = (At::Unix(file("http")), At::Tcp(address));
    wait_until("it is ready", PATIENCE, || {
        assert!(
            homing.is_running(),
            "{:?}",
            fs::read_to_string(file("homing.log"))
        );
        fs::read_to_string(file("homing.log")).is_ok_and(|log| log.contains("ready: "))
    });
    let status = |token: &str, at: &At| {
        Request::new("GET", "/api/v1/status")
            .token(token)
            .send(at)
            .status
    };
    let open = Request::new("GET", "/api/v1/status").send(&path);
    assert_eq!(open.expect(200).json()["role"], "admin");
    assert_eq!(
        (status(ADMIN, &tcp), status(WRONG, &tcp), status(READ, &tcp)),
        (200, 401, 401)
    );
    Request::new("GET", "/api/v1/status").send(&tcp).expect(401);
    homing.stop(homing.pid());
    assert!(file("http").exists(), "this one is not Homing's to remove");
}
