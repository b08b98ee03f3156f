//! An auth server that says only what a test tells it to say, so that single lines can be sent
//! through a director.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::clock::PATIENCE;

/// Whatever a director has to say it says within milliseconds.
const LIMIT: Duration = PATIENCE;

/// One end of a conversation: bytes in, bytes out, nothing understood.
pub struct Talk(UnixStream);

impl Talk {
    /// Connects to a socket.
    pub fn to(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).expect("a socket that answers"))
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        Self(stream)
    }

    /// Says something.
    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the other side is there");
    }

    /// What the other side says up to and without `end`.
    pub fn hear_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut byte = [0];
        while !heard.ends_with(end) {
            let count = self.0.read(&mut byte);
            let shown = heard.escape_ascii().to_string();
            match count {
                Ok(1) => heard.push(byte[0]),
                other => panic!(
                    "{other:?} instead of {:?}, after {shown}",
                    end.escape_ascii()
                ),
            }
        }
        heard.truncate(heard.len() - end.len());
        heard
    }

    /// Whether the other side says this next; not if it ends the conversation instead.
    pub fn says(&mut self, text: &[u8]) -> bool {
        let mut heard = vec![0; text.len()];
        match self.0.read_exact(&mut heard) {
            Ok(()) => {
                assert_eq!(
                    heard.escape_ascii().to_string(),
                    text.escape_ascii().to_string()
                );
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                false
            }
        }
    }

    /// Whether the other side has ended the conversation, or does so now.
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether nothing comes for so long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a time limit");
        let silent = self.0.read(&mut [0]).is_err();
        self.0.set_read_timeout(Some(LIMIT)).expect("a time limit");
        silent
    }
}

/// The server's socket.
pub struct ScriptedAuth(Receiver<UnixStream>);

impl ScriptedAuth {
    /// Listens on `path` until the test program ends.
    pub fn start(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket for the scripted auth");
        let (sender, connections) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self(connections)
    }

    /// The next connection of a director.
    pub fn accept(&self) -> Talk {
        Talk::over(self.0.recv_timeout(LIMIT).expect("the director dials auth"))
    }
}
