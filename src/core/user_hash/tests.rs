use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Template, TemplateError> {
    Template::parse(text, &|name| (name == "REGION").then(|| b"North".to_vec()))
}

fn expansion(text: &str, user: &str) -> String {
    let mut scratch = Vec::new();
    let template = parse(text).expect(text);
    let pieces = match &template.0 {
        Form::General(pieces) => pieces,
        Form::Simple { .. } => panic!("{text} is simple"),
    };
    pieces
        .iter()
        .for_each(|piece| piece.append(user.as_bytes(), &mut scratch));
    String::from_utf8(scratch).expect(text)
}

#[test]
fn usual_templates_take_the_fast_path() {
    for (text, part, lower) in [
        ("%Lu", NamePart::Whole, true),
        ("%u", NamePart::Whole, false),
        ("%Ln", NamePart::Local, true),
        ("%L{domain}", NamePart::Domain, true),
    ] {
        assert_eq!(
            parse(text),
            Ok(Template(Form::Simple { part, lower })),
            "{text}"
        );
    }
    assert!(matches!(parse("%3Lu"), Ok(Template(Form::General(_)))));
}

/// Seen in a Dovecot whose static userdb showed the expansions.
#[test]
fn modifiers_reshape_values() {
    let user = "Alice.B@Example.Com";
    for (text, expected) in [
        ("%Hu", "945aa7d"),
        ("%LHu", "965ca3d"),
        ("%Nu", "e3ee0d8f"),
        ("%256Hu", "7d"),
        ("%9.7Nu", "000000002"),
        ("%4.256HRu", "d700"),
        ("%256HHu", "3d4"),
        ("%-2.2u", "om"),
        ("%020u", "0Alice.B@Example.Com"),
        ("%05.08u", ".B@Example.Com"),
        ("%3Ru", "moC"),
        ("%Du", "Alice,dc=B@Example,dc=Com"),
        ("a%%b %3{user}", "a%b Ali"),
        ("%L{env:REGION}", "north"),
        ("%{env:NONE}", ""),
    ] {
        assert_eq!(expansion(text, user), expected, "{text}");
    }
    assert_eq!(expansion("%{md5;truncate=12:user}", "ab"), "0187");
    assert_eq!(
        expansion("%{md5;salt=xy:user}", "ab"),
        "885dc1e3b7bd890b2624a88070ea6e46"
    );
    let rounds = "%{md5;rounds=2,salt=xy:user}";
    assert_eq!(expansion(rounds, "ab"), "fa90a1cd611fb1f7870df271e81fa25f");
}

#[test]
fn errors_name_the_variable() {
    let unknown = |name: &str| Err(TemplateError::UnknownVariable(name.into()));
    assert_eq!(parse("%q"), unknown("q"));
    assert_eq!(parse("x%Ls"), unknown("s"));
    assert_eq!(parse("%{nope}"), unknown("{nope}"));
    assert_eq!(parse("%{u}"), unknown("{u}"));
    assert_eq!(parse("%{md4:user}"), unknown("{md4:user}"));
    assert_eq!(parse("%{md5:nope}"), unknown("{md5:nope}"));
    assert_eq!(parse("%1.-1u"), unknown("-"));
    assert_eq!(parse("%{if;%u;==;a;b;c}"), unknown("{if;%u;==;a;b;c}"));
    assert_eq!(parse("x%"), Err(TemplateError::Incomplete("".into())));
    assert_eq!(parse("%5L"), Err(TemplateError::Incomplete("5L".into())));
    assert_eq!(parse("%{user"), Err(TemplateError::Unclosed("user".into())));
    assert_eq!(parse(&format!("%{}u", "L".repeat(10))).err(), None);
    assert!(matches!(
        parse(&format!("%{}u", "L".repeat(11))),
        Err(TemplateError::TooManyModifiers(_))
    ));
    for text in ["%01025u", "%1025.7Hu", "%99999999999u", "%2147483648.1u"] {
        assert!(
            matches!(parse(text), Err(TemplateError::BadNumber(_))),
            "{text}"
        );
    }
    for option in [
        "rounds=0",
        "rounds=1001",
        "format=base64",
        "foo=1",
        "truncate=x",
        "x",
    ] {
        let error = parse(&format!("%{{md5;{option}:user}}"))
            .expect_err(option)
            .to_string();
        assert!(
            error.contains(option) && error.contains("rounds=1..1000"),
            "{error}"
        );
    }
    let message = parse("%{md5;salt=x,rounds=2:user}")
        .expect_err("after salt")
        .to_string();
    assert!(
        message.starts_with("option 'rounds=2' of '%{md5;salt=x,rounds=2:user}' has no effect")
    );
    let message = parse("%q").expect_err("unknown").to_string();
    assert!(
        message.starts_with("unknown variable '%q': use %u %n %d (or %{user}"),
        "{message}"
    );
}

#[test]
fn a_hash_is_never_zero() {
    assert_eq!(never_zero(0), UserHash(1));
    assert_eq!(never_zero(1), UserHash(1));
    assert_eq!(never_zero(256), UserHash(256));
}

#[test]
fn master_user_names_are_cut_at_the_first_separator() {
    assert_eq!(cut_master_user(b"user*master*x", Some(b'*')), b"user");
    assert_eq!(cut_master_user(b"user*master", None), b"user*master");
    assert_eq!(cut_master_user(b"user", Some(b'*')), b"user");
    assert_eq!(cut_master_user(b"*m", Some(b'*')), b"");
}

proptest! {
    #[test]
    fn fast_paths_agree_with_the_general_one(user: Vec<u8>) {
        // An empty zero-filled cut does nothing, but is not simple.
        for (fast, general) in [("%Lu", "%0Lu"), ("%n", "%0n"), ("%Ld", "%0Ld")] {
            let mut scratch = b"left from before".to_vec();
            let fast = parse(fast).expect(fast).hash(&user, &mut scratch);
            let general = parse(general).expect(general).hash(&user, &mut scratch);
            prop_assert_eq!(fast, general);
        }
    }

    #[test]
    fn any_text_parses_or_is_refused(text in "[%{}a-zA-Z0-9.;:=-]{0,30}", user: Vec<u8>) {
        if let Ok(template) = parse(&text) {
            template.hash(&user, &mut Vec::new());
        }
    }

    #[test]
    fn any_variable_takes_any_name(
        text in "%-?[0-9]{0,3}(\\.[0-9]{0,3})?[LURTMDEXHN]{0,10}(u|n|d|%|\\{sha1:user\\})",
        user: Vec<u8>,
    ) {
        parse(&text).expect("a valid template").hash(&user, &mut Vec::new());
    }
}
