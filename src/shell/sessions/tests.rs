use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use tempfile::TempDir;

use super::flush::{Place, place};
use super::*;
use crate::core::{Mono, TagId, UserHash};
use crate::shell::clock;

/// Longer than anything takes that works.
const LIMIT: Duration = Duration::from_secs(10);

struct Rig {
    dir: TempDir,
    sessions: Sessions,
    answers: Receiver<Answer>,
}

impl Rig {
    fn new(script: impl FnOnce(&Path) -> Option<FlushUri>) -> Rig {
        let dir = TempDir::new().unwrap();
        let (sender, answers) = unbounded();
        let config = Config {
            base_dir: dir.path().to_owned(),
            service: KickService::Auto,
            script: script(dir.path()),
            reply_limit: 10_000_000_000,
            move_limit: 30_000_000_000,
        };
        let answer = Arc::new(move |answer| sender.send(answer).unwrap_or(()));
        Rig {
            sessions: Sessions::start(config, answer, Arc::new(|_| None), &[0]).unwrap(),
            dir,
            answers,
        }
    }

    fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.dir.path().join(name)).unwrap()
    }

    fn answer(&self) -> Answer {
        self.answers.recv_timeout(LIMIT).expect("an answer")
    }

    fn flush(&self, number: u64) {
        self.sessions.flush(Ticket(number), flush_of(number));
    }

    fn result(&self, number: u64) -> FlushResult {
        match self.answer() {
            Answer::Flush(ticket, key, result) => {
                assert_eq!((ticket, key), (Ticket(number), flush_of(number).key));
                result
            }
            other => panic!("{other:?}"),
        }
    }
}

fn key(hash: u64) -> UserKey {
    UserKey {
        tag: TagId(0),
        hash: UserHash(hash as u32),
    }
}

fn flush_of(hash: u64) -> Flush {
    Flush {
        key: key(hash),
        old: IpAddr::from([10, 0, 0, 1]),
        old_down: true,
        old_vhosts: 50,
        new: IpAddr::from([10, 0, 0, 2]),
        new_name: Some("mail2".to_owned()),
    }
}

fn moved(ticket: u64) -> Answer {
    Answer::Kick(Ticket(ticket), Kick::Moved(key(ticket)))
}

fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

fn accept(listener: &UnixListener) -> BufReader<UnixStream> {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    BufReader::new(stream)
}

#[test]
fn ipc_is_asked_on_one_connection_and_again_on_another() {
    let rig = Rig::new(|_| None);
    // A connection that is refused there is no reason to look further than at ipc.
    let (listener, _anvil) = (rig.listen("ipc"), rig.listen("anvil"));
    rig.sessions.kick(Ticket(1), Kick::Moved(key(1)));
    let mut ipc = accept(&listener);
    assert_eq!(line(&mut ipc), "proxy\t*\tKICK-DIRECTOR-HASH\t1\n");
    rig.sessions.kick(Ticket(2), Kick::User(b"joe".to_vec()));
    assert_eq!(line(&mut ipc), "proxy\t*\tKICK\tjoe\n");
    ipc.get_mut().write_all(b"+1\n+0\n").unwrap();
    assert_eq!(rig.answer(), moved(1));
    assert_eq!(
        rig.answer(),
        Answer::Kick(Ticket(2), Kick::User(b"joe".to_vec()))
    );
    drop(ipc);
    rig.sessions.kick(Ticket(3), Kick::Moved(key(3)));
    // Either it was known already that the connection has ended, or it is found out now.
    let again = rig.answers.recv_timeout(Duration::from_millis(300));
    if again.is_err() {
        let mut ipc = accept(&listener);
        assert_eq!(line(&mut ipc), "proxy\t*\tKICK-DIRECTOR-HASH\t3\n");
        ipc.get_mut().write_all(b"-no\n").unwrap();
        assert_eq!(rig.answer(), moved(3));
    }
}

#[test]
fn without_a_service_a_kick_is_over_at_once() {
    let rig = Rig::new(|_| None);
    rig.sessions.kick(Ticket(1), Kick::Moved(key(1)));
    assert_eq!(rig.answer(), moved(1));
    // A socket that nobody listens at any more.
    drop(rig.listen("ipc"));
    clock::sleep_until(clock::mono().after(crate::core::sessions::RETRY_PAUSE));
    rig.sessions.kick(Ticket(2), Kick::Moved(key(2)));
    assert_eq!(rig.answer(), moved(2));
}

#[test]
fn behind_a_dead_ipc_anvil_is_asked_and_then_the_processes() {
    let rig = Rig::new(|_| None);
    drop(rig.listen("ipc"));
    let listener = rig.listen("anvil");
    fs::create_dir(rig.dir.path().join("srv.imap-login")).unwrap();
    let process = rig.listen("srv.imap-login/21");
    rig.sessions.kick(Ticket(7), Kick::Moved(key(7)));
    let mut anvil = accept(&listener);
    anvil
        .get_mut()
        .write_all(b"VERSION\tanvil-server\t2\t0\n")
        .unwrap();
    let mut next = || line(&mut anvil);
    assert_eq!(
        (next(), next()),
        ("VERSION\tanvil-client\t2\t0\n".to_owned(), "\n".to_owned())
    );
    assert_eq!(next(), "KICK-ALT-USER\tuser_director_hash\t7\n");
    anvil.get_mut().write_all(b"2\n").unwrap();
    assert_eq!(line(&mut anvil), "CONNECT-DUMP\n");
    let dump = "user_director_hash\n21\tann\timap-login\t192.0.2.1\taa\t10.0.0.1\t7\n\
        22\tann\timap-login\t192.0.2.1\tbb\t10.0.0.1\t7\n\n";
    anvil.get_mut().write_all(dump.as_bytes()).unwrap();
    let mut told = accept(&process);
    // Told sooner, it would crash (docs/protocol/kicks.md, processes that serve one connection).
    let begun = clock::mono();
    told.get_mut()
        .write_all(b"VERSION\tmaster-admin-server\t1\t0\n")
        .unwrap();
    assert_eq!(line(&mut told), "VERSION\tmaster-admin-client\t1\t0\n");
    let waited = clock::mono().since(begun);
    assert!(waited >= Mono::SECOND / 5, "{waited} ns");
    assert_eq!(line(&mut told), "KICK-USER\tann\taa\n");
    assert!(rig.answers.recv_timeout(Duration::from_millis(50)).is_err());
    told.get_mut().write_all(b"+1\n").unwrap();
    // Process 22 has ended meanwhile.
    assert_eq!(rig.answer(), moved(7));
}

/// Makes a program of a shell script.
fn script(dir: &Path, text: &str) -> Option<FlushUri> {
    let path = dir.join("script");
    // Not written by this process: its other threads start programs, which would have it open.
    let written = std::process::Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(format!("#!/bin/sh\n{text}\n").as_bytes())?;
            drop(stdin);
            child.wait()
        });
    assert!(written.unwrap().success());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o755
    );
    Some(FlushUri::Exec(path.display().to_string()))
}

#[test]
fn a_program_gets_six_arguments_and_its_status_counts() {
    let rig = Rig::new(|dir| {
        let out = dir.join("out");
        script(
            dir,
            &format!(
                "echo \"$# $* ${{HOME-none}}\" > {}; exit $(($2 % 2))",
                out.display()
            ),
        )
    });
    rig.flush(2);
    assert_eq!(rig.result(2), FlushResult::Succeeded);
    let said = fs::read_to_string(rig.dir.path().join("out")).unwrap();
    assert_eq!(said, "6 FLUSH 2 10.0.0.1 10.0.0.2 down 50 none\n");
    rig.flush(3);
    assert_eq!(rig.result(3), FlushResult::Failed);
}

#[test]
fn a_program_that_is_not_there_has_failed() {
    let rig = Rig::new(|dir| Some(FlushUri::Exec(dir.join("nothing").display().to_string())));
    rig.flush(1);
    assert_eq!(rig.result(1), FlushResult::Failed);
}

#[test]
fn an_aborted_program_is_killed_with_its_children_and_blocks_nobody() {
    let rig = Rig::new(|dir| {
        let pids = dir.join("pids");
        script(
            dir,
            &format!("sleep 1000 & echo $$ $! > {}; wait", pids.display()),
        )
    });
    rig.flush(1);
    let pids = rig.dir.path().join("pids");
    let written = || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'));
    let end = clock::mono().after(10_000_000_000);
    while !written() {
        assert!(clock::mono() < end, "the script runs");
        clock::sleep_until(clock::mono().after(5_000_000));
    }
    rig.sessions.abort_flush(Ticket(1));
    assert_eq!(rig.result(1), FlushResult::Failed);
    let text = fs::read_to_string(&pids).unwrap();
    for pid in text.split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            assert!(clock::mono() < end, "{pid} is gone");
            clock::sleep_until(clock::mono().after(5_000_000));
        }
    }
}

#[test]
fn as_many_scripts_run_as_may_and_the_others_wait() {
    let rig = Rig::new(|dir| script(dir, "sleep 0.2"));
    (1..=40).for_each(|number| rig.flush(number));
    let mut over = Vec::new();
    for _ in 1..=40 {
        match rig.answer() {
            Answer::Flush(ticket, _, FlushResult::Succeeded) => over.push(ticket.0),
            other => panic!("{other:?}"),
        }
    }
    assert!(over[..8].iter().all(|ticket| *ticket <= 32), "{over:?}");
    over.sort_unstable();
    assert_eq!(over, (1..=40).collect::<Vec<_>>());
}

#[test]
fn a_script_behind_a_unix_socket_is_judged_by_its_last_two_bytes() {
    let rig = Rig::new(|dir| Some(FlushUri::Unix(format!("{}/flush-%i-%h", dir.display()))));
    rig.flush(1);
    assert_eq!(rig.result(1), FlushResult::Failed, "nobody is there");
    let listener = rig.listen("flush-10.0.0.2-mail2");
    for (number, said, expected) in [
        (2, "done\n+\n", FlushResult::Succeeded),
        (3, "no\n-\n", FlushResult::Failed),
        (4, "+\nmore\n", FlushResult::Failed),
        (5, "", FlushResult::Failed),
    ] {
        rig.flush(number);
        let mut stream = accept(&listener);
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        let expects =
            format!("VERSION\tscript\t4\t0\n-\nFLUSH\n{number}\n10.0.0.1\n10.0.0.2\ndown\n50\n\n");
        assert_eq!(request, expects);
        stream.get_mut().write_all(said.as_bytes()).unwrap();
        drop(stream);
        assert_eq!(rig.result(number), expected, "{said:?}");
    }
}

#[test]
fn a_script_over_tcp_has_dots() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rig = Rig::new(|_| Some(FlushUri::Tcp("localhost".to_owned(), port)));
    for (number, said, expected) in [
        (1, ".\r\n+\n", FlushResult::Succeeded),
        (2, "+\n", FlushResult::Failed),
    ] {
        rig.flush(number);
        let mut stream = listener.accept().unwrap().0;
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        assert!(request.ends_with("\n50\n\n\r\n.\r\n"), "{request:?}");
        stream.write_all(said.as_bytes()).unwrap();
        drop(stream);
        assert_eq!(rig.result(number), expected, "{said:?}");
    }
}

#[test]
fn a_socket_that_never_answers_is_let_go_when_the_move_is_over() {
    let rig = Rig::new(|dir| Some(FlushUri::Unix(dir.join("flush").display().to_string())));
    let listener = rig.listen("flush");
    rig.flush(1);
    let mut stream = accept(&listener);
    let mut request = String::new();
    stream.read_to_string(&mut request).unwrap();
    rig.sessions.abort_flush(Ticket(1));
    assert_eq!(rig.result(1), FlushResult::Failed);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is closed");
}

#[test]
fn variables() {
    let unix = |text: &str| place(&FlushUri::Unix(text.to_owned()), &flush_of(1));
    let filled = |text: &str| Ok(Place::Unix(text.to_owned()));
    assert_eq!(
        unix("/a-%i-%{ip}-%h-%{host}-%%-%x%"),
        filled("/a-10.0.0.2-10.0.0.2-mail2-mail2-%-%x%")
    );
    let named = |name: Option<&str>| Flush {
        new_name: name.map(str::to_owned),
        ..flush_of(1)
    };
    let host = FlushUri::Unix("/a-%h".to_owned());
    assert_eq!(place(&host, &named(None)), filled("/a-"));
    assert!(place(&host, &named(Some("../x"))).is_err());
}
