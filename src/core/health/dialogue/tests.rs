use super::*;
use proptest::prelude::*;

fn login(mechanism: Mechanism) -> Option<Arc<Login>> {
    Some(Arc::new(Login {
        user: "probe".to_owned(),
        password: Zeroizing::new(b"se\"cr\\et".to_vec()),
        mechanism,
    }))
}

fn text(acts: &[Act]) -> String {
    acts.iter()
        .map(|act| match act {
            Act::Send(bytes) => String::from_utf8_lossy(bytes).replace("\r\n", "|"),
            Act::StartTls => "<tls>".to_owned(),
            Act::Done(bye) => format!("<done {}>", String::from_utf8_lossy(bye).trim_end()),
        })
        .collect()
}

/// Lines of the server, each with what must follow from it.
fn talk(mut dialogue: Dialogue, script: &[(&str, &str)]) {
    assert!(dialogue.connected().is_empty());
    for (said, expected) in script {
        let mut acts = dialogue.receive(format!("{said}\r\n").as_bytes()).unwrap();
        if acts.last() == Some(&Act::StartTls) {
            acts.extend(dialogue.secured());
        }
        assert_eq!(text(&acts), *expected, "after {said}");
    }
}

fn fails(mut dialogue: Dialogue, said: &[&str]) -> String {
    dialogue.connected();
    for line in said {
        if let Err(why) = dialogue.receive(format!("{line}\r\n").as_bytes()) {
            return why;
        }
    }
    panic!("{said:?} is no failure");
}

#[test]
fn a_connection_is_enough_for_tcp() {
    let mut dialogue = Dialogue::new(Protocol::Tcp, false, None);
    assert_eq!(text(&dialogue.connected()), "<done >");
}

#[test]
fn a_banner_is_a_greeting_and_an_answer() {
    talk(
        Dialogue::new(Protocol::Imap, false, None),
        &[
            ("* OK [CAPABILITY IMAP4rev1] ready", "h NOOP|"),
            ("* whatever", ""),
            ("h OK NOOP completed.", "<done h LOGOUT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Pop3, false, None),
        &[
            ("+OK Dovecot ready.", "NOOP|"),
            ("-ERR Unknown command.", "<done QUIT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Lmtp, false, None),
        &[
            ("220-wait", ""),
            ("220 ready", "LHLO homing.invalid|"),
            ("250-mx", ""),
            ("250 8BITMIME", "NOOP|"),
            ("250 2.0.0 OK", "<done QUIT>"),
        ],
    );
}

#[test]
fn starttls_comes_before_everything_else() {
    talk(
        Dialogue::new(Protocol::Imap, true, login(Mechanism::Login)),
        &[
            ("* OK ready", "h STARTTLS|"),
            ("h OK Begin", "<tls>h LOGIN \"probe\" \"se\\\"cr\\\\et\"|"),
            ("* CAPABILITY IMAP4rev1", ""),
            ("h OK Logged in", "h EXAMINE INBOX|"),
            ("* 3 EXISTS", ""),
            ("h OK [READ-ONLY] done", "<done h LOGOUT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Pop3, true, None),
        &[
            ("+OK ready", "STLS|"),
            ("+OK Begin TLS", "<tls>NOOP|"),
            ("-ERR no", "<done QUIT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Lmtp, true, None),
        &[
            ("220 ready", "LHLO homing.invalid|"),
            ("250 STARTTLS", "STARTTLS|"),
            ("220 go", "<tls>LHLO homing.invalid|"),
            ("250 x", "NOOP|"),
            ("250 OK", "<done QUIT>"),
        ],
    );
}

#[test]
fn logins_by_plain_and_by_commands() {
    // printf '\0probe\0se"cr\et' | base64
    let plain = "AHByb2JlAHNlImNyXGV0|";
    talk(
        Dialogue::new(Protocol::Imap, false, login(Mechanism::Plain)),
        &[
            ("* OK ready", "h AUTHENTICATE PLAIN|"),
            ("+ ", plain),
            ("h OK Logged in", "h EXAMINE INBOX|"),
            ("h OK done", "<done h LOGOUT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Pop3, false, login(Mechanism::Plain)),
        &[
            ("+OK ready", "AUTH PLAIN|"),
            ("+ ", plain),
            ("+OK Logged in.", "<done QUIT>"),
        ],
    );
    talk(
        Dialogue::new(Protocol::Pop3, false, login(Mechanism::Login)),
        &[
            ("+OK ready", "USER probe|"),
            ("+OK", "PASS se\"cr\\et|"),
            ("+OK Logged in.", "<done QUIT>"),
        ],
    );
}

#[test]
fn what_is_wrong_is_told_in_the_servers_words() {
    let imap = |login| Dialogue::new(Protocol::Imap, false, login);
    assert_eq!(
        fails(imap(None), &["* BYE Too many connections"]),
        "it greets with * BYE Too many connections"
    );
    assert_eq!(
        fails(imap(None), &["SSH-2.0\x07"]),
        "it greets with SSH-2.0?"
    );
    assert_eq!(
        fails(imap(None), &["* OK", "* BYE dying"]),
        "it ends the session: * BYE dying"
    );
    assert_eq!(
        fails(
            imap(login(Mechanism::Login)),
            &["* OK", "h NO [AUTHENTICATIONFAILED] x"]
        ),
        "it refuses the login: h NO [AUTHENTICATIONFAILED] x"
    );
    assert_eq!(
        fails(imap(login(Mechanism::Login)), &["* OK", "h OK", "h NO x"]),
        "it does not open INBOX: h NO x"
    );
    assert_eq!(
        fails(
            Dialogue::new(Protocol::Pop3, true, None),
            &["+OK", "-ERR no TLS"]
        ),
        "it refuses STARTTLS: -ERR no TLS"
    );
    assert_eq!(
        fails(
            Dialogue::new(Protocol::Lmtp, false, None),
            &["421 4.3.2 Too busy"]
        ),
        "it greets with 421 4.3.2 Too busy"
    );
}

#[test]
fn plain_words_behind_the_answer_to_starttls_are_refused() {
    let mut dialogue = Dialogue::new(Protocol::Imap, true, None);
    dialogue.receive(b"* OK\r\n").unwrap();
    let why = dialogue.receive(b"h OK go\r\n* OK injected\r\n");
    assert!(why.unwrap_err().contains("in plain"));
}

#[test]
fn what_is_missing_is_named() {
    let mut dialogue = Dialogue::new(Protocol::Imap, false, None);
    assert_eq!(dialogue.waits_for(), "no greeting");
    dialogue.receive(b"* OK\r\n").unwrap();
    assert_eq!(dialogue.waits_for(), "a greeting, and no answer to NOOP");
}

#[test]
fn a_backend_that_talks_for_ever_is_cut() {
    let mut dialogue = Dialogue::new(Protocol::Imap, false, None);
    let why = (0..100).find_map(|_| dialogue.receive(&[b'x'; 1000]).err());
    assert_eq!(why.as_deref(), Some("a line of more than 8192 bytes"));
    let mut dialogue = Dialogue::new(Protocol::Lmtp, false, None);
    let why = (0..10_000).find_map(|_| dialogue.receive(b"220-again\r\n").err());
    assert!(why.unwrap().contains("65536"));
}

proptest! {
    #[test]
    fn base64_is_that_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        base64(&bytes, &mut out);
        prop_assert_eq!(out.len(), bytes.len().div_ceil(3) * 4);
        let digit = |c: u8| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .bytes().position(|it| it == c).unwrap_or(0) as u32;
        let mut back = Vec::new();
        for group in out.chunks(4) {
            let number = group.iter().fold(0, |sum, &c| sum << 6 | digit(c));
            let pads = group.iter().filter(|&&c| c == b'=').count();
            back.extend_from_slice(&number.to_be_bytes()[1..4 - pads]);
        }
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn any_words_in_any_pieces_end_or_go_on(
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Imap, Protocol::Pop3, Protocol::Lmtp]),
        starttls: bool,
        with_login: bool,
        pieces in prop::collection::vec(
            prop_oneof![
                "(\\* OK|h OK|\\+OK|\\+ |220 |250 |250-|h NO|-ERR)[ a-z]{0,5}\r\n".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..30),
            ],
            0..30,
        ),
    ) {
        let login = with_login.then(|| login(Mechanism::Plain)).flatten();
        let mut dialogue = Dialogue::new(protocol, starttls, login);
        let mut done = dialogue.connected().contains(&Act::Done(b""));
        for piece in pieces {
            let Ok(acts) = dialogue.receive(&piece) else { break };
            prop_assert!(!done || acts.is_empty(), "nothing comes behind the end");
            done |= acts.iter().any(|act| matches!(act, Act::Done(_)));
            if acts.contains(&Act::StartTls) {
                dialogue.secured();
            }
        }
    }
}
