//! Any state comes back as it was; any other bytes are refused.

use proptest::prelude::*;

use super::*;
use crate::wire::health::Mark;
use crate::wire::ring::DirectorId;

fn marked(ip: IpAddr) -> MarkLine {
    MarkLine {
        ip,
        version: 1 << 40,
        by: DirectorId {
            ip: "2001:db8::7".parse().unwrap(),
            port: 9090,
        },
        mark: Mark {
            kind: Kind::Rising(2),
            weight: Some(300),
            at: 77,
        },
    }
}

fn saved(n: u32) -> Saved {
    let backend = |ip: IpAddr, tag: &[u8], name: Option<&str>| SavedBackend {
        ip,
        name: name.map(str::to_owned),
        tag: tag.to_owned(),
        vhosts: 70,
        down: tag.is_empty(),
        mark: name.is_some().then(|| marked(ip)),
        last_updown_change: Wall(5),
    };
    let users = |from: u32| {
        let user = |hash| SavedUser::new(UserHash(hash), Wall(1_790_000_000));
        (from..from + n).map(user).collect()
    };
    Saved {
        head: Head {
            created: Wall(1_790_000_000),
            expire_secs: 900,
            username_hash: "%Lu".to_owned(),
            master_user_separator: Some(b'*'),
        },
        backends: vec![
            backend([10, 0, 0, 1].into(), b"", None),
            backend("2001:db8::1".parse().unwrap(), b"t\xff", Some("b.example")),
        ],
        users: vec![users(1), users(1_000_000)],
    }
}

fn encode(saved: &Saved) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&saved.head, &mut out);
    encoder.backends(&saved.backends, &mut out);
    for (backend, users) in saved.users.iter().enumerate() {
        let backend = backend as u16;
        let mut placed: Vec<_> = users.iter().map(|&user| Placed { backend, user }).collect();
        encoder.users(&mut placed, &mut out);
    }
    encoder.end(&mut out);
    out
}

fn decode(bytes: &[u8], piece: usize) -> Result<Saved, Fault> {
    let mut decoder = Decoder::new(1_000_000);
    for piece in bytes.chunks(piece.max(1)) {
        decoder.feed(piece)?;
    }
    decoder.finish()
}

#[test]
fn what_was_written_is_read_in_pieces_of_any_size() {
    let small = saved(3);
    let bytes = encode(&small);
    for piece in 1..bytes.len() + 1 {
        assert_eq!(decode(&bytes, piece).as_ref(), Ok(&small));
    }
    let large = saved(100_000);
    assert_eq!(decode(&encode(&large), 65_536).as_ref(), Ok(&large));
}

#[test]
fn every_cut_and_every_changed_byte_is_seen() {
    let bytes = encode(&saved(3));
    for at in 0..bytes.len() {
        assert!(
            matches!(decode(&bytes[..at], 64), Err(Fault::Cut(_))),
            "cut at {at}"
        );
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(decode(&changed, 64).is_err(), "changed at {at}");
    }
    let more = [&bytes[..], b"x"].concat();
    assert!(matches!(decode(&more, 64), Err(Fault::Wrong { .. })));
}

#[test]
fn more_users_than_wanted_are_refused() {
    let mut decoder = Decoder::new(5);
    assert_eq!(
        decoder.feed(&encode(&saved(3))),
        Err(Fault::TooManyUsers(5))
    );
}

#[test]
fn users_of_another_template_mean_nothing() {
    let saved = saved(1);
    assert_eq!(saved.misfit("%Lu", Some(b'*')), None);
    assert!(saved.misfit("%Ln", Some(b'*')).unwrap().contains("%Ln now"));
    assert!(saved.misfit("%Lu", None).unwrap().contains("separator"));
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1..99usize) {
        let _ = decode(&bytes, piece);
        let mut begun = encode(&saved(1))[..12].to_vec();
        begun.extend(bytes);
        prop_assert!(decode(&begun, piece).is_err());
    }
}

#[test]
fn every_mark_comes_back_as_it_was() {
    let mut all = saved(0);
    let kinds = [Kind::Auto, Kind::Held, Kind::Falling, Kind::Down];
    let steps = (0..crate::wire::health::STEPS).map(Kind::Rising);
    for kind in kinds.into_iter().chain(steps) {
        for weight in [None, Some(0), Some(100)] {
            for backend in &mut all.backends {
                let line = marked(backend.ip);
                let mark = Mark {
                    kind,
                    weight,
                    ..line.mark
                };
                backend.mark = Some(MarkLine { mark, ..line });
            }
            assert_eq!(decode(&encode(&all), 7), Ok(all.clone()), "{kind:?}");
            assert_eq!(all.backends[0].by_hand(), kind == Kind::Held);
        }
    }
}
