//! Mail clients: Python's standard ones, in a process that is driven by lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::spawn;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clients/main.py");

/// Longer than anything a client waits for by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(100);

/// A client process. It does one order at a time; a test may have several clients.
pub struct Client {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
    /// An answer that was seen and not yet fetched.
    seen: Option<String>,
}

impl Client {
    /// Starts a client that has no connections yet.
    pub fn new() -> Self {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "python3", "-B", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(command);
        let orders = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            orders,
            answers,
            seen: None,
        }
    }

    /// Sends an order and returns its answer, an object with `"ok"`.
    pub fn ask(&mut self, order: &Value) -> Value {
        self.send(order);
        self.answer(order)
    }

    /// Sends an order whose answer is fetched later, by [`Self::answer`].
    pub fn send(&mut self, order: &Value) {
        writeln!(self.orders, "{order}").expect("the client reads orders");
    }

    /// Whether the answer to an order that was sent is there by now.
    pub fn has_answered(&mut self) -> bool {
        self.seen = self.seen.take().or_else(|| self.answers.try_recv().ok());
        self.seen.is_some()
    }

    /// Waits for the answer to an order.
    pub fn answer(&mut self, order: &Value) -> Value {
        let seen = self.seen.take();
        let line = seen.map_or_else(|| self.answers.recv_timeout(ANSWER_LIMIT), Ok);
        let line = line.unwrap_or_else(|error| panic!("no answer to {order}: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// An order for a session of an earlier `open`.
    pub fn session(&mut self, action: &str, session: &str) -> Value {
        self.ask(&json!({"do": action, "session": session}))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
