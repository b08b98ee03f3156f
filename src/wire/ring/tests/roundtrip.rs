//! What is written is read again; any bytes are read to something, and what they are read to is
//! stable.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

fn an_id() -> impl Strategy<Value = DirectorId> {
    (any::<IpAddr>(), 1..=u16::MAX).prop_map(|(ip, port)| DirectorId { ip, port })
}

fn an_origin() -> impl Strategy<Value = Origin> {
    (an_id(), any::<u32>()).prop_map(|(director, seq)| Origin { director, seq })
}

/// Bytes as a field can hold them: everything but NUL.
fn bytes(most: usize) -> impl Strategy<Value = Cow<'static, [u8]>> {
    prop::collection::vec(1..=u8::MAX, 0..most).prop_map(Cow::Owned)
}

fn a_time() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn a_host() -> impl Strategy<Value = Host<'static>> {
    let name = prop::option::of(bytes(80).prop_filter("no name", |name| !name.is_empty()));
    let state = (any::<bool>(), a_time());
    (any::<IpAddr>(), 0..=MAX_VHOSTS, bytes(40), state, name).prop_map(
        |(ip, vhosts, tag, (down, changed), name)| Host {
            ip,
            vhosts,
            tag,
            down,
            changed,
            name,
        },
    )
}

// Boxed: a union of so many strategies is larger than a test's stack.
fn an_order() -> BoxedStrategy<Order<'static>> {
    let user = || (any::<Hash>(), any::<IpAddr>());
    prop_oneof![
        user().prop_map(|(hash, host)| Order::UserWeak { hash, host }),
        a_host().prop_map(Order::Host),
        any::<IpAddr>().prop_map(Order::HostRemove),
        any::<IpAddr>().prop_map(Order::HostFlush),
        user().prop_map(|(hash, host)| Order::UserMove { hash, host }),
        bytes(300).prop_map(Order::UserKick),
        (bytes(100), bytes(100)).prop_map(|(field, value)| Order::UserKickAlt { field, value }),
        user().prop_map(|(hash, except)| Order::UserKickHash { hash, except }),
        any::<Hash>().prop_map(Order::UserKilledEverywhere),
    ]
    .boxed()
}

fn a_load() -> impl Strategy<Value = Option<Load>> {
    prop::option::of((a_time(), any::<u64>()).prop_map(|(time, waiting)| Load { time, waiting }))
}

fn a_sync() -> impl Strategy<Value = Sync> {
    let tail = (1..=u32::MAX, any::<u32>(), any::<u32>());
    (an_id(), any::<u32>(), prop::option::of(tail)).prop_map(|(director, seq, tail)| Sync {
        director,
        seq,
        minor: tail.map_or(0, |tail| tail.0),
        time: tail.map(|tail| tail.1),
        hosts_hash: tail.map_or(0, |tail| tail.2),
    })
}

fn a_handshake_line() -> BoxedStrategy<(Command<'static>, Stage)> {
    prop_oneof![
        (an_id(), prop::option::of(a_time()))
            .prop_map(|(id, time)| (Command::Me { id, time }, Stage::Me)),
        (any::<u32>(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
            |(minor, homing, tls, joining)| {
                let version = Command::Version {
                    minor,
                    homing,
                    tls,
                    joining,
                };
                (version, Stage::Version)
            }
        ),
        Just((Command::Options, Stage::Handshake)),
        any::<bool>().prop_map(|flag| (Command::HostHandStart(flag), Stage::Handshake)),
        any::<bool>().prop_map(|flag| (Command::HostHandEnd(flag), Stage::Hosts)),
        a_host().prop_map(|host| (Command::HandHost(host), Stage::Hosts)),
        (any::<Hash>(), any::<IpAddr>(), any::<u32>(), any::<bool>()).prop_map(
            |(hash, host, time, weak)| {
                let user = HandUser {
                    hash,
                    host,
                    time,
                    weak,
                };
                (Command::HandUser(user), Stage::Handshake)
            }
        ),
        Just((Command::Done, Stage::Handshake)),
        (
            any::<IpAddr>(),
            any::<u32>(),
            prop::collection::vec(any::<(Hash, u16)>(), 0..120)
        )
            .prop_map(|(host, since, all)| {
                let mut users = HandUsers::new(host, since);
                for (hash, age) in all {
                    users.push(hash, since.saturating_add(age.into()));
                }
                users
            })
            .prop_flat_map(|users| {
                prop_oneof![
                    Just((Command::HandUsers(users.clone()), Stage::Handshake)),
                    Just((Command::Users(users), Stage::Established)),
                ]
            }),
    ]
    .boxed()
}

fn an_ordinary_line() -> BoxedStrategy<Command<'static>> {
    let time = prop::option::of(0..=u64::from(u32::MAX));
    let user = (any::<Hash>(), any::<IpAddr>(), time);
    let text = "[a-zA-Z: ]{0,40}".prop_map(|text| Cow::Owned(text.into_bytes()));
    prop_oneof![
        a_load().prop_map(Command::Ping),
        a_load().prop_map(Command::Pong),
        an_id().prop_map(Command::Connect),
        text.prop_map(Command::Quit),
        an_id().prop_map(Command::Director),
        an_id().prop_map(Command::DirectorRemove),
        a_sync().prop_map(Command::Sync),
        user.prop_map(|(hash, host, time)| Command::User { hash, host, time }),
        any::<Hash>().prop_map(Command::UserKilled),
        (any::<Hash>(), "[a-z\t]{0,40}").prop_map(|(hash, tag)| Command::Ask {
            hash,
            tag: Cow::Owned(tag.into_bytes()),
        }),
        (an_origin(), an_order()).prop_map(|(origin, order)| Command::Order(origin, order)),
    ]
    .boxed()
}

fn a_command() -> BoxedStrategy<(Command<'static>, Stage)> {
    let stage = prop_oneof![Just(Stage::Handshake), Just(Stage::Established)];
    prop_oneof![a_handshake_line(), (an_ordinary_line(), stage)].boxed()
}

const STAGES: [Stage; 5] = [
    Stage::Version,
    Stage::Me,
    Stage::Handshake,
    Stage::Hosts,
    Stage::Established,
];

proptest! {
    #[test]
    fn what_is_written_is_read_again((command, stage) in a_command()) {
        let line = written(&command, NOW);
        prop_assert!(line.len() <= MAX_LINE);
        prop_assert_eq!(whole(&line, at(stage)), Ok(command));
    }

    #[test]
    fn an_order_that_fits_can_be_forwarded_by_anybody(
        origin in an_origin(),
        name in bytes(700),
        ring in 0..=MINOR,
    ) {
        let order = Order::UserKick(name);
        let fits = order.fits();
        let mut out = b"before".to_vec();
        let versions = Versions { peer: MINOR, ring };
        let wrote = Command::Order(origin, order).write(versions, &mut out);
        prop_assert!(wrote.is_ok() || !fits);
        prop_assert!(out.len() <= b"before".len() + MAX_LINE + 1);
        prop_assert!(wrote.is_ok() || out == b"before");
    }

    #[test]
    fn any_bytes_are_a_line_or_an_error(
        word in prop::sample::select(vec![
            "", "VERSION", "ME", "OPTIONS", "HOST-HAND-START", "HOST-HAND-END", "HOST", "U", "USER",
            "DONE", "PING", "PONG", "CONNECT", "QUIT", "DIRECTOR", "DIRECTOR-REMOVE", "SYNC",
            "USER-WEAK", "HOST-REMOVE", "HOST-FLUSH", "USER-MOVE", "USER-KICK", "USER-KICK-ALT",
            "USER-KICK-HASH", "USER-KILLED", "USER-KILLED-EVERYWHERE", "NOPE",
        ]),
        rest in prop_oneof![
            "(\t(127\\.0\\.0\\.1|9090|[0-9]{1,11}|-?[0-9]{1,20}|U[0-9]{0,12}|[a-z\u{1}]{0,4}|::1)){0,8}"
                .prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..1100),
        ],
        stage in prop::sample::select(STAGES.to_vec()),
        dialler: bool,
        peer_minor in 0u32..12,
    ) {
        let role = if dialler { Role::Dialler } else { Role::Acceptor };
        let context = Context { stage, role, peer_minor };
        let line = [word.as_bytes(), &rest].concat();
        match whole(&line, context) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(command) => {
                // A tag of a peer below minor 7 and the text of QUIT are not written as they came.
                let mut out = Vec::new();
                if command.write(NOW, &mut out).is_ok() {
                    out.pop();
                    let context = Context { peer_minor: MINOR, role: Role::Acceptor, stage };
                    let again = whole(&out, context).expect("we read what we write");
                    let mut twice = Vec::new();
                    again.write(NOW, &mut twice).expect("it did fit");
                    twice.pop();
                    prop_assert_eq!(out, twice);
                }
            }
        }
    }
}
