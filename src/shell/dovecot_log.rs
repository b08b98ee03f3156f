//! Dovecot's internal log format, as a formatter and a writer for `tracing_subscriber`.
//!
//! A line on descriptor 2 of a service process: byte 1, a level byte, the process number, a blank,
//! the text, LF. Dovecot's log process adds time and service name and writes it where
//! `log_path`, `info_log_path` and `debug_log_path` say. See docs/protocol/dovecot-service.md.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Level byte of debug lines.
pub const DEBUG: u8 = 1;
/// Level byte of informational lines.
pub const INFO: u8 = 2;
/// Level byte of warnings.
pub const WARNING: u8 = 3;
/// Level byte of errors.
pub const ERROR: u8 = 4;
/// Level byte of the last words of a process that gives up.
pub const FATAL: u8 = 5;

/// Longest line in bytes, LF included. A pipe takes up to this much in one piece (PIPE_BUF on
/// Linux), so that lines of several threads never mix. Longer ones are cut.
pub const LINE_LIMIT: usize = 4096;

/// How long a line may wait for room in the pipe. A log process that stands still must not stop
/// logins: after this the line is dropped and counted.
const PATIENCE_MS: u16 = 20;

/// One complete line. Line ends and other control characters of `text` become blanks: they would
/// start a new line, which the log process takes for an error of its own.
pub fn line(level: u8, pid: u32, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    out.extend_from_slice(&[1, level]);
    out.extend_from_slice(format!("{pid} ").as_bytes());
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim_end().chars().map(blank).collect();
    let room = LINE_LIMIT - 1 - out.len();
    let cut = text.floor_char_boundary(room.min(text.len()));
    out.extend_from_slice(&text.as_bytes()[..cut]);
    out.push(b'\n');
    out
}

fn level_byte(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => INFO,
        _ => DEBUG,
    }
}

/// Formats an event as a level byte and its text; [`LogPipe`] makes the line of it, since a
/// formatter can only write text and must not cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct DovecotFormat;

impl<S, N> FormatEvent<S, N> for DovecotFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_char(char::from(level_byte(*event.metadata().level())))?;
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                let extensions = span.extensions();
                write!(writer, "{}", span.name())?;
                if let Some(fields) = extensions.get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(writer, "({fields})")?;
                }
                writer.write_str(": ")?;
            }
        }
        context.field_format().format_fields(writer.by_ref(), event)
    }
}

/// Writes what [`DovecotFormat`] made as whole lines. Cheap to clone; every event is one `write`.
#[derive(Debug)]
pub struct LogPipe<F> {
    pipe: F,
    pid: u32,
    lost: AtomicU64,
}

impl LogPipe<io::Stderr> {
    /// The log pipe of a service process: descriptor 2.
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }
}

impl<F: AsFd> LogPipe<F> {
    /// Lines go to `pipe`, which may be non-blocking.
    pub fn new(pipe: F) -> Self {
        Self {
            pipe,
            pid: std::process::id(),
            lost: AtomicU64::new(0),
        }
    }

    /// Lines dropped since the last one that went through.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes one line, or counts it as lost.
    pub fn log(&self, level: u8, text: &str) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("{lost} log lines lost: the log process did not take them");
            if !self.put(&line(WARNING, self.pid, &note)) {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        if !self.put(&line(level, self.pid, text)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&self, line: &[u8]) -> bool {
        for attempt in 0..2 {
            match nix::unistd::write(self.pipe.as_fd(), line) {
                Ok(_) => return true,
                Err(nix::errno::Errno::EAGAIN) if attempt == 0 => wait_writable(self.pipe.as_fd()),
                Err(nix::errno::Errno::EINTR) if attempt == 0 => {}
                Err(_) => return false,
            }
        }
        false
    }
}

fn wait_writable(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    // Whatever comes of it, the next write tells.
    let _ = poll(&mut fds, PollTimeout::from(PATIENCE_MS));
}

/// The writer of one event.
#[derive(Debug)]
pub struct LogEntry<'a, F: AsFd>(&'a LogPipe<F>);

impl<F: AsFd> io::Write for LogEntry<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The subscriber formats into a buffer of its own and hands over whole events.
        if let Some((&level, text)) = bytes.split_first() {
            self.0.log(level, &String::from_utf8_lossy(text));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, F: AsFd + 'a> MakeWriter<'a> for LogPipe<F> {
    type Writer = LogEntry<'a, F>;

    fn make_writer(&'a self) -> Self::Writer {
        LogEntry(self)
    }
}

/// The layer that logs to Dovecot: `registry().with(filter).with(layer(LogPipe::stderr()))`.
pub fn layer<S, F>(pipe: LogPipe<F>) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: AsFd + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(DovecotFormat)
        .with_writer(pipe)
}

/// Last words before exit, when no subscriber is set up yet.
pub fn fatal(text: &str) {
    LogPipe::stderr().log(FATAL, text);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_line_is_marked_numbered_and_one_line() {
        assert_eq!(line(INFO, 42, "hello"), b"\x01\x0242 hello\n");
        assert_eq!(line(ERROR, 7, "a\nb\x01c\n"), b"\x01\x047 a b c\n");
        let long = line(DEBUG, 1, &"\u{e9}".repeat(5000));
        assert!(long.len() <= LINE_LIMIT && long.ends_with("\u{e9}\n".as_bytes()));
    }

    #[test]
    fn events_arrive_with_their_level() {
        let (mut reader, writer) = io::pipe().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(LogPipe::new(writer)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(core = 3, "slow");
            tracing::error!("gone\nreally");
        });
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let pid = std::process::id();
        assert_eq!(
            text,
            format!("\x01\x03{pid} slow core=3\n\x01\x04{pid} gone really\n")
        );
    }

    #[test]
    fn a_full_pipe_costs_lines_and_not_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        nix::fcntl::fcntl(
            &writer,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        let pipe = LogPipe::new(writer);
        let text = "x".repeat(4000);
        let mut sent = 0;
        while pipe.lost() == 0 {
            pipe.log(INFO, &text);
            sent += 1;
            assert!(sent < 1000, "the pipe never filled");
        }
        let mut room = vec![0; 1 << 16];
        let _ = reader.read(&mut room).unwrap();
        pipe.log(INFO, "after");
        assert_eq!(pipe.lost(), 0);
        drop(pipe);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("1 log lines lost") && rest.ends_with(" after\n"));
    }
}
