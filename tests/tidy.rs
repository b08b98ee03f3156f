//! The conventions of this repository that a machine can check.

use std::fs;
use std::path::{Path, PathBuf};

/// A longer file is cut in the wrong place.
const FILE_LINES: usize = 600;
/// A longer function does more than one thing.
const FUNCTION_LINES: usize = 70;

fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "nothing to check in {below}");
    found
}

fn sources() -> Vec<PathBuf> {
    ["src", "loadgen/src", "benches", "tests"]
        .iter()
        .flat_map(|f| files(f, "rs"))
        .collect()
}

fn say(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_and_functions_are_small() {
    let mut faults = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display();
        // A table of cases may be long.
        let is_test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        let count = text.lines().count();
        if count > FILE_LINES {
            faults.push(format!("{name}: {count} lines, at most {FILE_LINES}"));
        }
        let mut begun: Option<(usize, usize)> = None;
        for (at, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let is_function = line.contains("fn ") && line.trim_end().ends_with('{')
                || line.trim_start().starts_with("fn ")
                || line.trim_start().starts_with("pub fn ");
            let declared_only = line.trim_end().ends_with(';');
            if is_function
                && !declared_only
                && begun.is_none()
                && !line.trim_start().starts_with("//")
            {
                begun = Some((at, indent));
            } else if let Some((start, own)) = begun
                && indent == own
                && line.trim_start().starts_with('}')
            {
                if at - start + 1 > FUNCTION_LINES && !is_test {
                    let lines = at - start + 1;
                    faults.push(format!("{name}:{}: a function of {lines} lines", start + 1));
                }
                begun = None;
            } else if let Some((_, own)) = begun
                && indent == own
                && line.trim_end().ends_with(';')
            {
                begun = None;
            }
        }
    }
    say(&faults);
}

#[test]
fn the_pure_layers_are_pure() {
    let banned = [
        "glommio",
        "std::net::Tcp",
        "std::os",
        "std::thread",
        "std::fs",
        "parking_lot",
        "unsafe ",
        "async ",
        "Instant",
        "SystemTime",
        "Mutex",
        "RwLock",
        "Atomic",
        "rand::",
        "crate::shell",
        "crate::settings",
    ];
    let mut faults = Vec::new();
    for path in files("src/core", "rs")
        .into_iter()
        .chain(files("src/wire", "rs"))
        .chain(files("src/admin", "rs"))
        .chain(files("src/http", "rs"))
    {
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in banned.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", path.display(), at + 1));
            }
        }
    }
    say(&faults);
}

#[test]
fn only_the_shell_knows_glommio() {
    let outside = files("src", "rs")
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "shell"));
    let mut faults = Vec::new();
    for path in outside {
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        if code.into_iter().any(|line| line.contains("glommio")) {
            faults.push(path.display().to_string());
        }
    }
    say(&faults);
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let words = [
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut faults = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for word in words.iter().filter(|word| text.contains(**word)) {
            faults.push(format!("{}: {word}", path.display()));
        }
    }
    say(&faults);
}

/// The tables of traps and lessons, where each row has a test by its name.
#[test]
fn tests_that_the_ring_page_names_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol/ring.md");
    let page = fs::read_to_string(page).unwrap();
    let tables = page.split_once("## Traps").expect("the traps").1;
    let all: Vec<String> = sources()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut faults = Vec::new();
    for trap in 1..=31 {
        if !tables.contains(&format!("| T{trap} |")) {
            faults.push(format!("no row for trap T{trap}"));
        }
    }
    for named in tables.split('`').skip(1).step_by(2) {
        let last = named.rsplit("::").next().unwrap_or(named);
        let (name, end) = match last.strip_suffix('…') {
            Some(begin) => (begin, ""),
            None => (last, "("),
        };
        let is_test = name.contains('_') && name.chars().all(is_word);
        let is_there = |text: &String| text.contains(&format!("fn {name}{end}"));
        if is_test && !all.iter().any(is_there) {
            faults.push(format!("ring.md names {named}, which is not there"));
        }
    }
    say(&faults);
}

#[test]
fn pages_that_the_code_cites_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for path in sources()
        .into_iter()
        .filter(|path| !path.ends_with("tidy.rs"))
    {
        let text = fs::read_to_string(&path).unwrap();
        for cited in text.split("docs/protocol/").skip(1) {
            let Some((page, rest)) = cited.split_once(".md") else {
                continue;
            };
            let Ok(content) = fs::read_to_string(root.join(format!("docs/protocol/{page}.md")))
            else {
                faults.push(format!("{}: no page {page}.md", path.display()));
                continue;
            };
            let Some(section) = rest.strip_prefix(", ") else {
                continue;
            };
            let end = section
                .find([')', ':', '\n', ';', '.'])
                .unwrap_or(section.len());
            let heading = section[..end].trim().to_lowercase();
            let is_heading =
                |line: &&str| line.starts_with('#') && line.to_lowercase().contains(&heading);
            if !content.lines().any(|line| is_heading(&line)) {
                faults.push(format!(
                    "{}: {page}.md has no section {heading}",
                    path.display()
                ));
            }
        }
    }
    say(&faults);
}
