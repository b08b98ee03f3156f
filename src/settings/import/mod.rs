//! From a Dovecot 2.3 configuration with a director to a settings file
//! (docs/protocol/configuration.md, import).

mod conf;
mod listeners;
mod write;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::document::in_range;
use super::kinds::{self, Kind, Value};
use super::load::Sockets;
use super::network::Network;
use super::resolve::check_username_hash;
use super::table::{self, TABLE};
use conf::Section;

/// A settings file made from Dovecot's configuration.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The settings file, with the notes as comments on top.
    pub toml: String,
    /// What the operator should know, in the order of reading.
    pub notes: Vec<Note>,
}

/// One thing to know about an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What sort of thing.
    pub kind: NoteKind,
    /// One or two sentences, with file and line where there is one.
    pub text: String,
}

/// Sorts of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// Carried over, with a difference worth knowing.
    Notice,
    /// Not carried over, and why.
    Dropped,
    /// A change to make in Dovecot's own configuration.
    Change,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            NoteKind::Notice => "notice",
            NoteKind::Dropped => "not carried over",
            NoteKind::Change => "change in Dovecot",
        };
        write!(f, "{kind}: {}", self.text)
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A line is none of Dovecot's language.
    #[error("{}:{line}: {what}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// `director_consistent_hashing = no`: every user would move to another backend.
    #[error(
        "{at}: director_consistent_hashing = no: users would be placed differently here. Change it \
         to yes on the Dovecot directors first"
    )]
    NotConsistent {
        /// `file:line`.
        at: String,
    },
    /// Dovecot 2.4 has neither a director nor settings for one.
    #[error(
        "{at}: dovecot_config_version: this is a configuration of Dovecot 2.4, which has no director: \
         import the 2.3 one of the old director, or begin with the example in Homing's README.md"
    )]
    NoDirector {
        /// `file:line`.
        at: String,
    },
}

/// Imports a file: the output of `doveconf -n`, or a configuration with all that it includes.
pub fn import_dovecot(path: &Path) -> Result<Imported, ImportError> {
    import(&conf::read_file(path)?)
}

/// Imports a text; `name` stands for its file in messages.
pub fn import_text(name: &str, text: &str) -> Result<Imported, ImportError> {
    import(&conf::read_text(name, text)?)
}

/// Collects what the parts of an import find.
struct Import<'c> {
    root: &'c Section,
    base_dir: String,
    /// Key and TOML value, in the table's order.
    settings: Vec<(&'static str, String)>,
    notes: Vec<Note>,
}

impl Import<'_> {
    /// Two listeners may give rise to the same note.
    fn note(&mut self, kind: NoteKind, text: impl Into<String>) {
        let text = text.into();
        let note = Note { kind, text };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

fn import(root: &Section) -> Result<Imported, ImportError> {
    if let Some(set) = root.settings.get("dovecot_config_version") {
        return Err(ImportError::NoDirector { at: set.at.clone() });
    }
    let base_dir = root
        .get("base_dir")
        .unwrap_or("/run/dovecot")
        .trim_end_matches('/')
        .to_owned();
    let mut import = Import {
        root,
        base_dir,
        settings: Vec::new(),
        notes: Vec::new(),
    };
    consistent_hashing(&mut import)?;
    for spec in TABLE {
        if spec.name == "auth_master_user_separator" {
            separator(&mut import);
        } else if spec.name == "client_limit" {
            client_limit(&mut import);
        } else if spec.name == "user" {
            user(&mut import);
        } else if spec.name.starts_with("director_") || spec.name == "base_dir" {
            setting(&mut import, spec);
        }
    }
    leftovers(&mut import);
    let listeners = listeners::import(&mut import);
    let toml = write::settings_file(&import, &listeners);
    for problem in faults(&toml) {
        import.note(NoteKind::Notice, format!("correct this by hand: {problem}"));
    }
    let toml = write::settings_file(&import, &listeners);
    Ok(Imported {
        toml,
        notes: import.notes,
    })
}

fn consistent_hashing(import: &mut Import<'_>) -> Result<(), ImportError> {
    let Some(set) = import.root.settings.get("director_consistent_hashing") else {
        return Ok(());
    };
    if set.value != "yes" {
        return Err(ImportError::NotConsistent { at: set.at.clone() });
    }
    let text = format!(
        "{}: director_consistent_hashing = yes: it is always on here",
        set.at
    );
    import.note(NoteKind::Notice, text);
    Ok(())
}

/// Carries one setting over as it is, if it is valid here.
fn setting(import: &mut Import<'_>, spec: &'static table::Spec) {
    let Some(set) = import.root.settings.get(spec.name) else {
        return;
    };
    let value = expand(&set.value, import.root);
    if value.is_empty() {
        return;
    }
    let wrong = match spec.kind {
        Kind::List => None,
        kind => kinds::parse(kind, &value, spec.max)
            .and_then(|v| in_range(spec, v))
            .err(),
    };
    let wrong = wrong.or_else(|| match spec.name {
        "director_username_hash" => check_username_hash(&value).err(),
        _ => None,
    });
    if let Some(wrong) = wrong {
        let text = format!(
            "{}: {} = {value}: {wrong}; the default is used",
            set.at, spec.name
        );
        return import.note(NoteKind::Dropped, text);
    }
    let value = match spec.name {
        "director_flush_socket" | "director_flush_script" => flush(import, spec.name, value),
        _ => value,
    };
    let written = match (spec.kind, kinds::parse_number(spec.kind, &value)) {
        (Kind::List, _) => write::list(&value),
        (_, Some(number)) => number.to_string(),
        _ => write::string(&value),
    };
    import.settings.push((spec.name, written));
}

/// Dovecot's director sees its paths from inside `base_dir`.
fn flush(import: &mut Import<'_>, key: &str, value: String) -> String {
    let director = import
        .root
        .of_kind("service")
        .find(|s| s.name == "director");
    let chroot = director.and_then(|s| s.get("chroot")).unwrap_or(".");
    let Some(inside) = value.strip_prefix("unix:/").filter(|_| chroot == ".") else {
        return value;
    };
    let outside = format!("unix:{}/{inside}", import.base_dir);
    let text = format!(
        "{key}: Dovecot's director sees {value} from inside {}, it is written as {outside}",
        import.base_dir
    );
    import.note(NoteKind::Notice, text);
    outside
}

fn separator(import: &mut Import<'_>) {
    let get = |key: &str| {
        import
            .root
            .settings
            .get(key)
            .filter(|s| !s.value.is_empty())
    };
    let (old, new) = (
        get("master_user_separator"),
        get("auth_master_user_separator"),
    );
    let Some(set) = old.or(new) else { return };
    let (value, at) = (set.value.clone(), set.at.clone());
    let text = match old.is_some() {
        true => format!(
            "{at}: master_user_separator is called auth_master_user_separator here, as from Dovecot \
             2.3.20 on"
        ),
        false => format!(
            "{at}: auth_master_user_separator: directors of Dovecot 2.3.19 and older do not cut \
             user names at it, from 2.3.20 on they do, as here. Take the line out while such a \
             director is in the ring"
        ),
    };
    import.note(NoteKind::Notice, text);
    if value.is_ascii() {
        import
            .settings
            .push(("auth_master_user_separator", write::string(&value)));
    } else {
        import.note(
            NoteKind::Dropped,
            format!("{at}: the separator '{value}' is not ASCII"),
        );
    }
}

/// The user of Dovecot's director, who may open the sockets of auth and ipc.
fn user(import: &mut Import<'_>) {
    let own = import
        .root
        .of_kind("service")
        .find(|s| s.name == "director")
        .and_then(|s| s.settings.get("user"));
    let value = own.map_or("$default_internal_user", |set| set.value.as_str());
    let user = expand(value, import.root);
    if user == "root" {
        let at = own.map_or(String::new(), |set| format!("{}: ", set.at));
        let text =
            format!("{at}service director: user = root: Homing becomes an unprivileged user");
        import.note(NoteKind::Dropped, text);
    } else if !user.is_empty() {
        import.settings.push(("user", write::string(&user)));
    }
}

fn client_limit(import: &mut Import<'_>) {
    let director = import
        .root
        .of_kind("service")
        .find(|s| s.name == "director");
    let own = director
        .and_then(|s| s.get("client_limit"))
        .filter(|v| *v != "0");
    let Some(value) = own.or(import.root.get("default_client_limit")) else {
        return;
    };
    let value = expand(value, import.root);
    let spec = table::find("client_limit").expect("in the table");
    let number = kinds::uint(&value, spec.max);
    match number.and_then(|n| in_range(spec, Value::Uint(n)).map(|_| n)) {
        // Not as it was written: TOML's numbers have no leading zeros.
        Ok(number) => import.settings.push(("client_limit", number.to_string())),
        Err(wrong) => import.note(NoteKind::Dropped, format!("client_limit: {wrong}")),
    }
}

/// Settings about the director that have no place here.
fn leftovers(import: &mut Import<'_>) {
    let root = import.root;
    for (key, set) in &root.settings {
        let reason = match key.as_str() {
            "director_doveadm_port" => {
                "an inet_listener whose name ends in -doveadm took its place"
            }
            "verbose_proctitle" => "the process title does not change here",
            "director_consistent_hashing" => continue,
            key if key.starts_with("director_") && table::find(key).is_none() => "unknown setting",
            _ => continue,
        };
        import.notes.push(Note {
            kind: NoteKind::Dropped,
            text: format!("{}: {key} = {}: {reason}", set.at, set.value),
        });
    }
    for filter in root
        .sections
        .iter()
        .filter(|s| ["protocol", "local", "remote", "local_name"].contains(&s.kind.as_str()))
    {
        filtered(import, filter);
    }
    for service in root.of_kind("service").filter(|s| s.name == "director") {
        for (key, set) in &service.settings {
            let reason = match key.as_str() {
                "client_limit" | "user" => continue,
                "executable" | "process_limit" | "process_min_avail" | "service_count"
                | "idle_kill" => "Homing is one process that runs all the time",
                "group" | "extra_groups" | "chroot" => {
                    "Homing has the groups of its user, and no chroot"
                }
                _ => "it has no counterpart",
            };
            import.notes.push(Note {
                kind: NoteKind::Dropped,
                text: format!(
                    "{}: service director: {key} = {}: {reason}",
                    set.at, set.value
                ),
            });
        }
    }
}

fn filtered(import: &mut Import<'_>, filter: &Section) {
    for (key, set) in filter
        .settings
        .iter()
        .filter(|(key, _)| key.starts_with("director_"))
    {
        let text = format!(
            "{}: {key} = {} inside {} {}: the director reads global settings only",
            set.at, set.value, filter.kind, filter.name
        );
        import.note(NoteKind::Dropped, text);
    }
    for inner in &filter.sections {
        filtered(import, inner);
    }
}

/// Puts the values of `$name` in, once.
fn expand(value: &str, root: &Section) -> String {
    let default = |name: &str| match name {
        "default_internal_user" | "default_internal_group" => Some("dovecot"),
        "default_login_user" => Some("dovenull"),
        "base_dir" => Some("/run/dovecot"),
        "default_client_limit" => Some("1000"),
        _ => None,
    };
    let word = |word: &str| {
        let name = word.strip_prefix('$')?;
        root.get(name).or_else(|| default(name)).map(str::to_owned)
    };
    let words = value
        .split(' ')
        .map(|w| word(w).unwrap_or_else(|| w.to_owned()));
    words.collect::<Vec<_>>().join(" ")
}

/// What the loader says about the result, as far as it can be known without the network.
fn faults(toml: &str) -> Vec<String> {
    struct Anything;
    impl Network for Anything {
        fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        }
        fn is_local(&self, _: IpAddr) -> bool {
            false
        }
    }
    let loaded = super::parse(
        Path::new("imported"),
        toml,
        &Anything,
        &Sockets::FromSettings,
    );
    let unknown_here = "director_servers doesn't list ourself";
    let problems = loaded.err().unwrap_or_default().into_iter();
    problems
        .filter(|p| p.what != unknown_here)
        .map(|p| format!("{}: {}", p.key, p.what))
        .collect()
}
