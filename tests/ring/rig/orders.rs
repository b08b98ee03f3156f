//! Orders by the admin socket, faster than doveadm is started.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::e2e::now;

const ANSWER_LIMIT: Duration = Duration::from_secs(40);

/// Runs commands that answer with one line, each as soon as the one before is answered, over one
/// connection. An answer that asks for patience has the command given again.
pub fn in_a_row(socket: &Path, commands: &[String]) {
    let mut stream = UnixStream::connect(socket).expect("an admin socket");
    stream
        .set_read_timeout(Some(ANSWER_LIMIT))
        .expect("a limit");
    let mut answers = BufReader::new(stream.try_clone().expect("a stream")).lines();
    let mut answer = || answers.next().expect("an answer").expect("an answer");
    stream
        .write_all(b"VERSION\tdirector-doveadm\t1\t0\n")
        .expect("to be heard");
    answer();
    for command in commands {
        let end = now() + ANSWER_LIMIT;
        loop {
            stream
                .write_all(format!("{command}\n").as_bytes())
                .expect("to be heard");
            let said = answer();
            if said == "OK" {
                break;
            }
            let patience = said.contains("try again later");
            assert!(patience && now() < end, "{command}: {said}");
        }
    }
}
