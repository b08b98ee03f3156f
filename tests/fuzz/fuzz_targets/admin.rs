//! Any bytes on the admin socket: no panic, what a command holds can be told on, and every reply and row
//! is one line of the fields that it should have.

#![no_main]

use std::net::IpAddr;

use homing::wire::admin::{
    AdminError, Command, ConnKind, ConnStatus, DirectorRow, GREETING, HostRow, LookupRow, MAX_LINE,
    Reply, RingStatus, Traffic, User, UserRow, handshake, parse, write_end_of_list,
    write_removed_host,
};
use homing::wire::line::{Splitter, escape_into, fields, strip_cr};
use homing::wire::ring::DirectorId;
use libfuzzer_sys::fuzz_target;

// Input: the stream of a client. Its first line is the handshake, good or bad.
fuzz_target!(|data: &[u8]| {
    let mut splitter = Splitter::default();
    let mut first = true;
    let _ = splitter.feed(data, MAX_LINE, |line| {
        if std::mem::take(&mut first) {
            say(handshake(line).err());
        }
        match parse(line) {
            Ok(command) => check(line, &command),
            Err(error) => say(Some(error)),
        }
    });
    // Also what the splitter would have refused.
    say(handshake(data).err());
    say(parse(strip_cr(data)).err());
    rows(data);
    assert_eq!(handshake(GREETING.trim_ascii_end()), Ok(()));
});

fn say(error: Option<AdminError>) {
    if let Some(error) = error {
        let text = error.to_string();
        let is_printable = text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        assert!(is_printable && (1..400).contains(&text.len()), "{text:?}");
    }
}

fn check(line: &[u8], command: &Command<'_>) {
    assert!(command.waits_for_sync() >= command.answers_after_sync());
    // The last arguments that commands look at are their third ones.
    if line.iter().filter(|byte| **byte == b'\t').count() >= 3 {
        let longer = [line, b"\tmore"].concat();
        assert_eq!(parse(&longer).as_ref(), Ok(command));
    }
    match command {
        Command::HostSet(weight) | Command::HostUpdate(weight) => {
            assert!(weight.tag.as_ref().is_none_or(|tag| !tag.is_empty()));
            let ip = weight.ip;
            again(command, &format!("HOST-SET\t{ip}"), b"");
        }
        Command::UserLookup {
            user: User::Name(name),
            ..
        } => {
            let parsed = again(command, "USER-LOOKUP", name);
            assert_eq!(parsed, Some(true), "a name stays a name");
        }
        Command::UserKick { user, .. } => {
            again(command, "USER-KICK", user);
        }
        _ => {}
    }
}

/// The same command with its first argument escaped anew; whether that names the same user.
fn again(command: &Command<'_>, word: &str, argument: &[u8]) -> Option<bool> {
    let mut line = word.as_bytes().to_vec();
    if !argument.is_empty() || !word.contains('\t') {
        line.push(b'\t');
        escape_into(argument, &mut line);
    }
    let parsed = parse(&line).expect("what was understood once is again");
    match (command, parsed) {
        (Command::UserLookup { user: a, .. }, Command::UserLookup { user: b, .. }) => Some(*a == b),
        (Command::UserKick { user: a, .. }, Command::UserKick { user: b, .. }) => {
            assert_eq!(*a, b);
            None
        }
        (Command::HostSet(a) | Command::HostUpdate(a), Command::HostSet(b)) => {
            assert_eq!(a.ip, b.ip);
            None
        }
        (_, other) => panic!("{command:?} became {other:?}"),
    }
}

/// A line, and nothing but one, with so many fields.
fn one_line(count: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = b"before\n".to_vec();
    write(&mut out);
    let line = out.strip_prefix(b"before\n").expect("it is appended");
    let line = line.strip_suffix(b"\n").expect("a line");
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r') && !line.contains(&0));
    assert_eq!(fields(line).count(), count, "{}", line.escape_ascii());
}

/// Numbers and addresses of rows, from the front of the input; a tag is all of it.
fn rows(data: &[u8]) {
    let mut bytes = [0; 24];
    let known = data.len().min(bytes.len());
    bytes[..known].copy_from_slice(&data[..known]);
    let big: [u8; 16] = bytes[..16].try_into().expect("sixteen of them");
    let four: [u8; 4] = bytes[16..20].try_into().expect("four of them");
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight of them"));
    let small = u32::from_le_bytes(four);
    let ip = if bytes[20] & 1 == 1 {
        IpAddr::from(big)
    } else {
        IpAddr::from(four)
    };
    let replies = [
        Reply::Ok,
        Reply::NotFound,
        Reply::TryAgain,
        Reply::SyncTimedOut,
        Reply::TooManyVhosts,
        Reply::TagCannotChange,
        Reply::BeingUpdated,
    ];
    for reply in replies {
        one_line(1, |out| reply.write(out));
    }
    one_line(1, write_end_of_list);
    one_line(1, |out| write_removed_host(ip, out));
    let host = HostRow {
        ip,
        vhosts: small,
        users: number,
        tag: data,
        down: bytes[20] & 2 == 2,
        last_updown_change: number,
    };
    one_line(6, |out| host.write(out));
    let lookup = LookupRow {
        current: (bytes[20] & 4 == 4).then_some((ip, number)),
        hashed: (bytes[20] & 8 == 8).then_some(ip),
        initial: (bytes[20] & 16 == 16).then_some(ip),
    };
    one_line(4, |out| lookup.write(out));
    let user = UserRow {
        hash: small,
        expires: number,
        ip,
    };
    one_line(3, |out| user.write(out));
    directors(
        &bytes,
        DirectorId {
            ip,
            port: small as u16,
        },
        number,
    );
}

fn directors(bytes: &[u8; 24], director: DirectorId, number: u64) {
    let status = match bytes[21] % 4 {
        0 => ConnStatus::Receiving(number),
        1 => ConnStatus::Sending(number),
        2 => ConnStatus::Synced,
        _ => ConnStatus::Syncing,
    };
    let kind = match bytes[22] % 4 {
        0 => ConnKind::Left,
        1 => ConnKind::Right,
        2 => ConnKind::In,
        _ => ConnKind::Out,
    };
    let ring = match bytes[23] % 3 {
        0 => RingStatus::Handshaking,
        1 => RingStatus::Synced,
        _ => RingStatus::Syncing(number),
    };
    let traffic = Traffic {
        status,
        ping_ms: number,
        bytes_in: number,
        bytes_out: number,
        buffered: number,
        peak: number,
        last_read: number,
        last_write: number,
    };
    let last_failed = number;
    let connection = DirectorRow::Connection {
        director,
        kind,
        last_failed,
        traffic,
    };
    one_line(12, |out| connection.write(out));
    let ourselves = DirectorRow::Ourselves {
        director,
        last_failed,
        ring,
        sync_ms: number,
    };
    one_line(6, |out| ourselves.write(out));
    let unconnected = DirectorRow::Unconnected {
        director,
        removed: bytes[23] & 1 == 1,
        last_failed,
    };
    one_line(5, |out| unconnected.write(out));
    one_line(8, |out| DirectorRow::Stranger(traffic).write(out));
}
