//! Every route that the description has.

use crate::client::Request;
use crate::e2e::{PATIENCE, wait_until};
use crate::schema::Described;
use crate::stage::{ADMIN, READ, Stage, WRONG};

/// A path with something in the place of each name.
fn filled(path: &str) -> String {
    path.replace("{address}", "127.61.0.11")
        .replace("{user}", "user1")
        .replace("{hash}", "7")
}

fn described(stage: &Stage) -> Described {
    let answer = Request::new("GET", "/api/openapi.json").send(&stage.tcp());
    Described::new(answer.expect(200).json())
}

#[test]
fn without_the_right_token_nothing_is_told_or_done() {
    let stage = Stage::start();
    let described = described(&stage);
    let before = stage.get("/api/v1/dump");
    let (mut open, mut closed) = (Vec::new(), 0);
    for (method, path, operation) in described.operations() {
        let request = || Request::new(&method, &filled(&path));
        if operation["security"].is_null() {
            request().send(&stage.tcp()).expect(200);
            open.push(path);
            continue;
        }
        closed += 1;
        let answer = request().send(&stage.tcp()).expect(401);
        assert!(
            answer.head.contains("www-authenticate: bearer"),
            "{answer:?}"
        );
        answer.problem("client");
        if method != "GET" {
            let answer = request().token(READ).body("{}").send(&stage.tcp());
            answer.expect(403).problem("client");
        }
        let basic = request().header("Authorization", "Basic YTpi");
        // A few wrong tokens, not one for each route: a peer that guesses is not listened to.
        if closed <= 10 {
            request()
                .token(WRONG)
                .send(&stage.tcp())
                .expect(401)
                .problem("client");
            // On a path as well, where none would do.
            request().token(WRONG).send(&stage.path()).expect(401);
        } else if closed == 11 {
            basic.send(&stage.tcp()).expect(401);
        }
    }
    open.sort();
    let files = [
        "/",
        "/api/openapi.json",
        "/favicon.svg",
        "/page.css",
        "/page.js",
    ];
    assert_eq!(open, files);
    assert!(closed > 25, "{closed}");
    assert_eq!(stage.get("/api/v1/dump"), before, "something was changed");
    assert!(stage.log().contains("with a wrong token"));
}

#[test]
fn a_peer_that_guesses_tokens_is_not_listened_to() {
    let stage = Stage::start();
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let answer = Request::new("GET", "/metrics")
            .token(WRONG)
            .send(&stage.tcp());
        statuses.push(answer.status);
    }
    assert_eq!(statuses[0], 401);
    assert_eq!(*statuses.last().expect("some"), 429);
    Request::new("GET", "/metrics")
        .token(READ)
        .send(&stage.tcp())
        .expect(429);
    // Others are.
    Request::new("GET", "/metrics")
        .send(&stage.path())
        .expect(200);
}

#[test]
fn every_route_refuses_a_huge_body_and_an_unknown_parameter() {
    let stage = Stage::start();
    let huge = vec![b' '; 5 << 20];
    let before = stage.get("/api/v1/dump");
    for (method, path, _) in described(&stage).operations() {
        let request = Request::new(&method, &filled(&path)).token(ADMIN);
        let answer = request.body(&huge).send(&stage.tcp());
        let detail = answer.expect(413).problem("client");
        assert!(detail.contains("body"), "{detail}");
        let odd = format!("{}?no_such=1", filled(&path));
        let answer = Request::new(&method, &odd).token(ADMIN).send(&stage.tcp());
        let detail = answer.expect(400).problem("client");
        assert!(detail.contains("no_such"), "{detail}");
    }
    // Also one whose length is not said before.
    let chunks = "20000\r\n".to_owned() + &" ".repeat(0x20000) + "\r\n0\r\n\r\n";
    let request = Request::new("POST", "/api/v1/users/user1/move")
        .token(ADMIN)
        .header("Transfer-Encoding", "chunked");
    let mut stream = stage.tcp().connect();
    let _ = stream.write_all(&[request.bytes(), chunks.into_bytes()].concat());
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    crate::client::Answer::parse(&said).expect(413);
    let long = format!("/api/v1/status?{}", "a".repeat(5000));
    Request::new("GET", &long)
        .token(ADMIN)
        .send(&stage.tcp())
        .expect(414);
    let head = Request::new("GET", "/").header("X-Long", &"a".repeat(20_000));
    head.send(&stage.tcp()).expect(431);
    assert_eq!(stage.get("/api/v1/dump"), before);
}

#[test]
fn every_answer_is_as_it_is_described() {
    let stage = Stage::start();
    stage.log_in(50);
    let described = described(&stage);
    stage
        .admin(
            "PUT",
            "/api/v1/backends/127.61.0.13/drain",
            r#"{"rate": 1}"#,
        )
        .expect(200);
    let mut checked = 0;
    let mut operations = described.operations();
    // What takes something away comes last.
    operations.sort_by_key(|(method, ..)| method == "DELETE");
    for (method, path, operation) in operations {
        // A director that is not there would have the ring wait for it.
        if path == "/api/v1/ring/{address}" {
            continue;
        }
        let body = match (method.as_str(), path.as_str()) {
            (_, "/api/v1/backends/{address}") if method != "DELETE" => r#"{"vhosts": 50}"#,
            (_, "/api/v1/backends/{address}/drain") => r#"{"rate": 2}"#,
            (_, "/api/v1/users/{user}/move") => r#"{"backend": "127.61.0.12"}"#,
            (_, "/api/v1/restore") => r#"{"format": 1, "backends": []}"#,
            _ => "",
        };
        let with_body = if operation["requestBody"].is_null() {
            ""
        } else {
            body
        };
        let path = match path.as_str() {
            "/api/v1/backends/{address}/drain" => "/api/v1/backends/127.61.0.13/drain".to_owned(),
            "/api/v1/plan" => "/api/v1/plan?change=down&backend=127.61.0.11".to_owned(),
            path => filled(path),
        };
        let mut answer = stage.admin(&method, &path, with_body);
        // A user that the flush before has just moved is left alone for a while.
        wait_until("nothing else is under way", PATIENCE, || {
            if answer.status == 409 {
                answer = stage.admin(&method, &path, with_body);
            }
            answer.status != 409
        });
        let answer = answer.expect(200);
        if operation["responses"]["200"]["content"]["application/json"].is_object()
            && path != "/api/openapi.json"
        {
            described.check(operation, &answer.json());
            checked += 1;
        }
        assert!(
            answer.head.contains("x-content-type-options: nosniff"),
            "{path}"
        );
        assert!(answer.head.contains("cache-control: no-store"), "{path}");
    }
    assert!(checked > 24, "{checked}");
    stage
        .admin("PUT", "/api/v1/ring/127.61.0.99?port=9090", "")
        .expect(200);
    assert!(
        stage
            .get("/api/v1/ring")
            .to_string()
            .contains("127.61.0.99")
    );
}

#[test]
fn what_is_not_there_is_a_problem_with_a_cause() {
    let stage = Stage::start();
    for (method, path, body, status, cause) in [
        ("GET", "/api/v2/status", "", 404, "openapi"),
        ("POST", "/api/v1/status", "", 405, "method"),
        (
            "GET",
            "/api/v1/backends/127.61.0.99",
            "",
            404,
            "127.61.0.99",
        ),
        (
            "POST",
            "/api/v1/backends/127.61.0.99/down",
            "",
            404,
            "127.61.0.99",
        ),
        ("GET", "/api/v1/backends/host", "", 400, "no address"),
        (
            "PUT",
            "/api/v1/backends/127.61.0.11",
            r#"{"vhosts": 1001}"#,
            422,
            "1000",
        ),
        (
            "PUT",
            "/api/v1/backends/127.61.0.11",
            r#"{"tag": "x"}"#,
            409,
            "remove it first",
        ),
        (
            "PUT",
            "/api/v1/backends/127.61.0.11",
            r#"{"weight": 1}"#,
            400,
            "unknown field",
        ),
        ("PATCH", "/api/v1/backends/127.61.0.11", "", 400, "vhosts"),
        ("GET", "/api/v1/backends?limit=0", "", 400, "1 to 1000"),
        ("GET", "/api/v1/users?cursor=x", "", 400, "cursor"),
        ("GET", "/api/v1/plan?change=down", "", 400, "backend"),
        (
            "GET",
            "/api/v1/plan?change=up&backend=127.61.0.99",
            "",
            404,
            "127.61.0.99",
        ),
        (
            "POST",
            "/api/v1/users/ann/move",
            r#"{"backend": "127.61.0.99"}"#,
            404,
            "127.61.0.99",
        ),
        (
            "GET",
            "/api/v1/backends/127.61.0.11/drain",
            "",
            404,
            "not being drained",
        ),
        ("DELETE", "/api/v1/ring/127.61.0.99", "", 404, "127.61.0.99"),
        (
            "POST",
            "/api/v1/restore",
            r#"{"format": 7, "backends": []}"#,
            400,
            "format 7",
        ),
    ] {
        let answer = stage.admin(method, path, body).expect(status);
        let detail = answer.problem("client");
        assert!(detail.contains(cause), "{method} {path}: {detail}");
    }
    let elsewhere = Request::new("POST", "/api/v1/backends/127.61.0.11/down")
        .header("Origin", "http://elsewhere.example");
    elsewhere.send(&stage.path()).expect(403);
    let here =
        Request::new("POST", "/api/v1/backends/127.61.0.11/up").header("Origin", "http://homing");
    here.send(&stage.path()).expect(200);
}
