//! A mail relay for the backends' submission service, which closes sessions without one.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Listens on `address` until the test program ends. It takes EHLO and QUIT, and no mail.
pub fn start(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a port for the relay");
    let here = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    here
}

/// One session. The peer may go away at any time, which ends it.
fn serve(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let mut reply = "220 relay ready";
    while stream.write_all(format!("{reply}\r\n").as_bytes()).is_ok() {
        line.clear();
        if !matches!(lines.read_line(&mut line), Ok(1..)) {
            return;
        }
        reply = match line.trim_end().to_ascii_uppercase().as_str() {
            hello if hello.starts_with("EHLO") => "250 relay",
            "QUIT" => "221 bye",
            _ => "250 ok", // the backend asks NOOP before it answers its own client's EHLO
        };
    }
}
