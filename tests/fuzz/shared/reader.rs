//! The other end of a connection, as far as reading goes.

use homing::wire::line::Splitter;
use homing::wire::ring::{Command, Context, Line, MAX_LINE, MINOR, Role, Stage, parse};

/// Reads what a machine writes, and refuses what a director would refuse.
#[derive(Debug)]
pub struct Reader {
    splitter: Splitter,
    context: Context,
}

impl Reader {
    /// `role`: whether the one that reads has dialled, or was.
    pub fn new(role: Role) -> Reader {
        Reader {
            splitter: Splitter::default(),
            context: Context {
                stage: Stage::Version,
                role,
                peer_minor: 0,
            },
        }
    }

    /// What came. Panics at a line that is too long, or that cannot be read where it stands; a user
    /// hash 0 cannot be.
    pub fn read(&mut self, bytes: &[u8]) {
        let context = &mut self.context;
        let fed = self.splitter.feed(bytes, MAX_LINE + 1, |line| {
            let command = match parse(line, *context) {
                Ok(Line::Command(command)) => command,
                Ok(Line::Received(received)) => match received.order() {
                    Ok(order) => Command::Order(received.origin, order),
                    Err(error) => panic!("{error} in {context:?}: {}", line.escape_ascii()),
                },
                Err(error) => panic!("{error} in {context:?}: {}", line.escape_ascii()),
            };
            context.stage = context.stage.after(&command);
            if let Command::Version { minor, .. } = command {
                assert_eq!(minor, MINOR);
                context.peer_minor = minor;
            }
        });
        assert!(fed.is_ok(), "a line longer than {MAX_LINE} bytes");
        assert!(self.splitter.at_boundary(), "half a line");
    }
}
