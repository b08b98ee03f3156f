//! Clients that are slow, on purpose or not: each is given up in time, and disturbs nobody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::client::{Answer, Request};
use crate::e2e::PATIENCE;
use crate::stage::{ADMIN, Stage};

fn connect(stage: &Stage) -> TcpStream {
    let stream = TcpStream::connect(stage.address()).expect("the listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

/// Sends a byte now and then until the director has hung up, and returns what it said.
fn trickle(mut stream: TcpStream, begin: &[u8], byte: &[u8]) -> Vec<u8> {
    stream.write_all(begin).expect("a beginning");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a limit");
    for _ in 0..600 {
        match stream.read(&mut buffer) {
            Ok(0) => return said,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return said,
            Err(_) => {}
        }
        if stream.write_all(byte).is_err() {
            return said;
        }
    }
    panic!("a client that sends a byte now and then is never given up");
}

#[test]
fn slow_heads_and_bodies_are_given_up_while_others_are_served() {
    let stage = Stage::start();
    let begin = Request::new("POST", "/api/v1/restore")
        .token(ADMIN)
        .header("Content-Length", "100000")
        .bytes();
    std::thread::scope(|scope| {
        let head = scope.spawn(|| {
            trickle(
                connect(&stage),
                b"GET /api/v1/status HTTP/1.1\r\nX-A: ",
                b"a",
            )
        });
        let body = scope.spawn(|| trickle(connect(&stage), &begin, b" "));
        let silent = scope.spawn(|| {
            let mut said = Vec::new();
            let _ = connect(&stage).read_to_end(&mut said);
            said
        });
        for _ in 0..20 {
            stage.admin("GET", "/api/v1/status", "").expect(200);
        }
        stage.log_in(10);
        let body = body.join().expect("a client");
        Answer::parse(&body).expect(408).problem("client");
        let head = head.join().expect("a client");
        assert!(!String::from_utf8_lossy(&head).contains("200 OK"));
        assert!(silent.join().expect("a client").is_empty());
    });
}

#[test]
fn whoever_does_not_read_is_given_up_and_one_peer_takes_not_all_connections() {
    let stage = Stage::start();
    // Many answers that nobody reads, on connections that are all that one peer may have.
    let deaf: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = connect(&stage);
            let one = format!(
                "GET /page.js HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
            );
            // Those that are refused are closed.
            let _ = stream.write_all(one.repeat(200).as_bytes());
            stream
        })
        .collect();
    // The peer has no more, others have.
    Request::new("GET", "/metrics")
        .send(&stage.path())
        .expect(200);
    stage.log_in(10);
    stage.director.wait_log("refused: it has 32 already");
    // Given up at last, though they are still there.
    crate::e2e::wait_until("the peer is served again", PATIENCE, || {
        let mut stream = connect(&stage);
        let request = Request::new("GET", "/").bytes();
        let mut said = Vec::new();
        let asked = stream
            .write_all(&request)
            .and_then(|()| stream.read_to_end(&mut said));
        asked.is_ok() && said.starts_with(b"HTTP/1.1 200")
    });
    drop(deaf);
}

#[test]
fn an_answer_that_nobody_reads_is_cut() {
    let stage = Stage::start();
    let asked = 150;
    let mut deaf = UnixStream::connect(stage.file("http")).expect("the listener");
    let request = "GET /page.js HTTP/1.1\r\nHost: a\r\n\r\n";
    deaf.write_all(request.repeat(asked).as_bytes())
        .expect("requests");
    let open = |stage: &Stage| {
        let metrics = stage.admin("GET", "/metrics", "").expect(200).body;
        let line = metrics
            .lines()
            .find(|it| it.starts_with("homing_http_connections "));
        line.expect("a number").to_owned()
    };
    assert_eq!(open(&stage), "homing_http_connections 2.0");
    crate::e2e::wait_until("only who asks is there", PATIENCE, || {
        open(&stage) == "homing_http_connections 1.0"
    });
    let mut said = Vec::new();
    let _ = deaf.read_to_end(&mut said);
    let whole = asked * homing::http::page::JS.len();
    assert!(said.len() < whole, "{} of {whole} bytes", said.len());
}
