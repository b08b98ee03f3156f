//! Recorded lines, the rules field by field, and the way there and back for everything.

mod lines;
mod roundtrip;

use super::*;

const NOW: Versions = Versions {
    peer: MINOR,
    ring: MINOR,
};

/// An established connection to a director of our own version.
const ESTABLISHED: Context = Context {
    stage: Stage::Established,
    role: Role::Acceptor,
    peer_minor: MINOR,
};

fn at(stage: Stage) -> Context {
    Context {
        stage,
        ..ESTABLISHED
    }
}

/// Both steps at once.
fn whole(line: &[u8], context: Context) -> Result<Command<'_>, RingError> {
    Ok(match parse(line, context)? {
        Line::Command(command) => command,
        Line::Received(received) => Command::Order(received.origin, received.order()?),
    })
}

/// The line without its LF.
fn written(command: &Command<'_>, versions: Versions) -> Vec<u8> {
    let mut out = Vec::new();
    command.write(versions, &mut out).expect("it fits");
    assert_eq!(out.pop(), Some(b'\n'));
    out
}

fn director(last: u8) -> DirectorId {
    DirectorId {
        ip: [127, 77, 0, last].into(),
        port: 17790,
    }
}

fn hash(hash: u32) -> Hash {
    Hash::new(hash).expect("a user hash")
}

fn host(vhosts: u32, tag: &[u8]) -> Host<'_> {
    Host {
        ip: [10, 0, 0, 2].into(),
        vhosts,
        tag: tag.into(),
        down: false,
        changed: 0,
        name: None,
    }
}
