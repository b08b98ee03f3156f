//! What doveadm says, step by step, and the files that it must be equal to.
//!
//! A step is a line of words for `doveadm director`. Options of doveadm itself, such as `-v`, stand before
//! a colon. Two other kinds: `sleep`, a little more than a second, so that times differ; and `until` before
//! the words, to be said again while the exit status is 75, for up to a minute.
//!
//! Files are in `tests/golden/doveadm/`, recorded from a real director by
//! `HOMING_RECORD=1 cargo test --test admin dovecot23`.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Duration;

use crate::e2e::{DirectorKind, PATIENCE, now};
use crate::stage::Stage;

const RECORD: &str = "HOMING_RECORD";
const UNTIL_LIMIT: Duration = PATIENCE;
/// A director that was added and is not there: whether it was dialled by the time of the question is chance.
const DIALLED: &str = "1> 127.61.7.1\t9090\t\tYYYY-MM-DD hh:mm:ss\t";
const NOT_YET: &str = "1> 127.61.7.1\t9090\t\tnever\t";
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(1100);
/// EX_TEMPFAIL.
const AGAIN: i32 = 75;

/// Goes through the steps, and compares with the file of this name.
pub fn play(name: &str, kind: DirectorKind, steps: &[&str]) {
    let stage = Stage::start(kind);
    fs::write(
        stage.site.path().join("names"),
        "alice\nbob\ncarol\nAlice\n",
    )
    .expect("names");
    let said: String = steps.iter().map(|step| act(&stage, step)).collect();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/doveadm")
        .join(format!("{name}.txt"));
    if std::env::var_os(RECORD).is_some() && kind == DirectorKind::Dovecot23 {
        fs::write(&file, &said).expect("a golden file");
        return;
    }
    let golden = fs::read_to_string(&file).expect("a golden file");
    for (own, wanted) in blocks(&said).zip(blocks(&golden)) {
        assert_eq!(own, wanted, "{name}, {kind:?}");
    }
    assert_eq!(said, golden, "{name}, {kind:?}");
}

fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("]\n")
}

fn act(stage: &Stage, step: &str) -> String {
    if step == "sleep" {
        thread::sleep(TICK);
        return String::new();
    }
    let (words, again) = match step.strip_prefix("until ") {
        Some(words) => (words, true),
        None => (step, false),
    };
    let output = run(stage, words);
    let end = now() + UNTIL_LIMIT;
    let mut output = output;
    while again && output.status.code() == Some(AGAIN) {
        assert!(now() < end, "{words}: {output:?}");
        thread::sleep(LOOK_AGAIN);
        output = run(stage, words);
    }
    let base = stage.director.base().display().to_string();
    let site = stage.site.path().display().to_string();
    let text = |bytes: &[u8]| {
        normalise(
            &String::from_utf8_lossy(bytes),
            &[(&base, "/BASE"), (&site, "/SITE")],
        )
    };
    let status = output.status.code().expect("no signal");
    format!(
        "$ {step}\n{}{}[{status}]\n",
        marked('1', &text(&output.stdout)).replace(DIALLED, NOT_YET),
        marked('2', &text(&output.stderr)),
    )
}

fn run(stage: &Stage, words: &str) -> Output {
    let site = stage.site.path().display().to_string();
    let words = words.replace("/SITE", &site);
    let (options, words) = words.split_once(": ").unwrap_or(("", &words));
    let options = options.split_whitespace();
    let words: Vec<_> = options
        .chain(["director"])
        .chain(words.split_whitespace())
        .collect();
    stage.director.run_doveadm(&words)
}

/// `1> ` before each line, and `1| ` before one that does not end.
fn marked(mark: char, text: &str) -> String {
    let line = |line: &str| match line.strip_suffix('\n') {
        Some(line) => format!("{mark}> {line}\n"),
        None => format!("{mark}| {line}\n"),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// What differs from one run to another gets a name of its own: times, and the given texts.
pub fn normalise(text: &str, names: &[(&str, &str)]) -> String {
    let text = names
        .iter()
        .fold(text.to_owned(), |text, (own, name)| text.replace(own, name));
    let shape = b"dddd-dd-dd dd:dd:dd";
    let is_time = |bytes: &[u8]| {
        bytes.len() == shape.len()
            && bytes.iter().zip(shape).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    let (mut rest, mut out) = (text.as_str(), String::new());
    while let Some(next) = rest.chars().next() {
        if rest.as_bytes().get(..shape.len()).is_some_and(is_time) {
            out += "YYYY-MM-DD hh:mm:ss";
            rest = &rest[shape.len()..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

#[test]
fn only_times_and_names_are_replaced() {
    let text = "x 2026-11-23 18:51:46 /tmp/a/b 2026-11-23 18:51:4";
    let said = normalise(text, &[("/tmp/a", "/SITE")]);
    assert_eq!(said, "x YYYY-MM-DD hh:mm:ss /SITE/b 2026-11-23 18:51:4");
    assert_eq!(marked('1', "a\nb"), "1> a\n1| b\n");
}
