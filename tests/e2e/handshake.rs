//! What a director may rely on: the login process speaks first, so that auth need not be dialled
//! before it has. Only real Dovecots take part.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cases::{ALL_23, ALL_24, PROXY_23, PROXY_24};
use crate::rig::{Case, PATIENCE, Site, start_lone_proxy, wait_until};

/// Dovecot speaks within a millisecond; a busy machine may need longer.
const LIMIT: Duration = PATIENCE;

#[test]
fn login_process_speaks_first_23() {
    speaks_first(ALL_23);
}

#[test]
fn login_process_speaks_first_24() {
    speaks_first(ALL_24);
}

#[test]
fn shared_login_process_speaks_first_23() {
    speaks_first(PROXY_23);
}

#[test]
fn shared_login_process_speaks_first_24() {
    speaks_first(PROXY_24);
}

/// A socket in the director's place takes connections and never says a word.
fn speaks_first(case: Case) {
    let site = Site::new();
    let (_proxy, sockets, imap) = start_lone_proxy(&site, case);
    let connections = accept(&sockets.login);
    let _silent_mail_reader = connect(imap);
    let mut login = connections
        .recv_timeout(LIMIT)
        .expect("the login process connects");
    login.set_read_timeout(Some(LIMIT)).expect("a time limit");
    let mut said = [0; 64];
    let length = login.read(&mut said).expect("the login process speaks");
    let said = String::from_utf8_lossy(&said[..length]);
    let lines: Vec<_> = said.lines().collect();
    assert!(
        matches!(lines[..], [version, cpid]
        if version.starts_with("VERSION\t1\t") && cpid.starts_with("CPID\t")),
        "{said:?}"
    );
}

fn accept(socket: &Path) -> mpsc::Receiver<UnixStream> {
    let listener = UnixListener::bind(socket).expect("a socket in the director's place");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).expect("chmod");
    let (sender, connections) = mpsc::channel();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            if sender.send(connection).is_err() {
                return;
            }
        }
    });
    connections
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut connection = None;
    wait_until("the proxy takes connections", LIMIT, || {
        connection = TcpStream::connect(address).ok();
        connection.is_some()
    });
    connection.expect("just made")
}
