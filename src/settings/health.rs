//! The `[[health_check]]` tables.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::document::nearest;
use super::problem::Problems;
use super::table::HEALTH_KEYS;
use super::{CheckTls, HealthCheck, address, kinds};
use crate::core::health::dialogue::{Mechanism, Protocol};

/// Most checks. A backend has a few services.
const MAX_CHECKS: usize = 16;
/// Longest name of a check, user or host.
const MAX_TEXT: usize = 255;
/// Greatest rise and fall.
const MAX_COUNT: u64 = 100;
const KEY: &str = "health_check";

/// The keys of one table as they were written.
#[derive(Default)]
struct Raw {
    name: Option<String>,
    protocol: Option<Protocol>,
    port: Option<u16>,
    tls: Option<CheckTls>,
    tls_verify: Option<bool>,
    tls_ca: Option<PathBuf>,
    tls_name: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    mechanism: Option<Mechanism>,
    interval: Option<u64>,
    timeout: Option<u64>,
    rise: Option<u64>,
    fall: Option<u64>,
    tag: Option<String>,
    backends: Vec<IpAddr>,
    source: Option<IpAddr>,
}

/// All tables of the key `health_check`. What is wrong inside one leaves it out.
pub(crate) fn read(
    value: &DeValue<'_>,
    at: usize,
    problems: &mut Problems<'_>,
) -> Vec<HealthCheck> {
    let DeValue::Array(tables) = value else {
        let what = "It is not an array of tables";
        problems.error(Some(at), KEY, what, "[[health_check]]");
        return Vec::new();
    };
    let mut checks: Vec<HealthCheck> = Vec::new();
    for table in tables.iter() {
        let at = table.span().start;
        let DeValue::Table(table) = table.get_ref() else {
            problems.error(Some(at), KEY, "It is not a table", "[[health_check]]");
            continue;
        };
        let Some(check) = read_table(table, at, problems) else {
            continue;
        };
        if checks.iter().any(|known| known.name == check.name) {
            let what = format!("Two checks are called '{}'", check.name);
            problems.error(
                Some(at),
                "health_check.name",
                what,
                "a name of its own for each",
            );
            continue;
        }
        checks.push(check);
    }
    if checks.len() > MAX_CHECKS {
        let accepted = format!("at most {MAX_CHECKS}");
        problems.error(Some(at), KEY, "Too many checks", accepted);
    }
    checks
}

fn read_table(table: &DeTable<'_>, at: usize, problems: &mut Problems<'_>) -> Option<HealthCheck> {
    let before = problems.errors.len();
    let mut raw = Raw::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some(known) = HEALTH_KEYS.iter().find(|k| k.name == name) else {
            let hint = nearest(name, HEALTH_KEYS.iter().map(|k| k.name));
            let what = format!("Unknown setting: {name}");
            let key_name = format!("{KEY}.{name}");
            problems.error(Some(key.span().start), &key_name, what, hint);
            continue;
        };
        if let Err(what) = read_key(known.name, value.get_ref(), &mut raw) {
            let key = format!("{KEY}.{name}");
            problems.error(Some(value.span().start), &key, what, known.accepts);
        }
    }
    if problems.errors.len() > before {
        return None;
    }
    match assemble(raw) {
        Ok(check) => {
            if check.user.is_some() && check.tls == CheckTls::No {
                let what = "The password goes over the network as it is: set tls";
                problems.warning(Some(at), "health_check.password_file", what);
            }
            Some(check)
        }
        Err((key, what, accepted)) => {
            problems.error(Some(at), &format!("{KEY}.{key}"), what, accepted);
            None
        }
    }
}

fn read_key(name: &str, value: &DeValue<'_>, raw: &mut Raw) -> Result<(), String> {
    match name {
        "name" => raw.name = Some(word(value)?),
        "protocol" => raw.protocol = Some(protocol(string(value)?)?),
        "port" => raw.port = Some(kinds::port(&number_text(value)?)?),
        "tls" => raw.tls = Some(tls(string(value)?)?),
        "tls_verify" => raw.tls_verify = Some(yes(value)?),
        "tls_ca" => raw.tls_ca = Some(file(value)?),
        "tls_name" => raw.tls_name = Some(word(value)?),
        "user" => raw.user = Some(text(value)?),
        "password_file" => raw.password_file = Some(file(value)?),
        "mechanism" => raw.mechanism = Some(mechanism(string(value)?)?),
        "interval" => raw.interval = Some(seconds(value)?),
        "timeout" => raw.timeout = Some(seconds(value)?),
        "rise" => raw.rise = Some(count(value)?),
        "fall" => raw.fall = Some(count(value)?),
        "tag" => raw.tag = Some(text_or_empty(value)?),
        "backends" => raw.backends = addresses(value)?,
        "source" => raw.source = Some(one_address(string(value)?)?),
        _ => unreachable!("every key of the table is read"),
    }
    Ok(())
}

type Fault = (&'static str, String, &'static str);

/// Puts a table's keys together.
fn assemble(raw: Raw) -> Result<HealthCheck, Fault> {
    let fault = |key, what: &str, accepted| Err((key, what.to_owned(), accepted));
    let Some(protocol) = raw.protocol else {
        return fault("protocol", "It is missing", "tcp, imap, pop3 or lmtp");
    };
    let tls = raw.tls.unwrap_or(CheckTls::No);
    let Some(port) = raw.port.or(usual_port(protocol, tls)) else {
        return fault("port", "A check of type tcp needs a port", "1 to 65535");
    };
    let tls_verify = raw.tls_verify.unwrap_or(true);
    check_tls(&raw, tls, protocol)?;
    check_login(&raw, protocol)?;
    let interval = raw.interval.unwrap_or(10);
    let timeout = raw.timeout.unwrap_or(interval.min(5));
    if timeout > interval {
        let what = "It is above interval: a probe must end before the next one begins";
        return fault("timeout", what, "interval or less");
    }
    let small = |count: Option<u64>, default| {
        count
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(default)
    };
    Ok(HealthCheck {
        name: raw
            .name
            .unwrap_or_else(|| format!("{}-{port}", protocol_name(protocol))),
        protocol,
        port,
        tls,
        tls_verify,
        tls_ca: raw.tls_ca,
        tls_name: raw.tls_name,
        user: raw.user,
        password_file: raw.password_file,
        mechanism: raw.mechanism.unwrap_or(Mechanism::Plain),
        interval: Duration::from_secs(interval),
        timeout: Duration::from_secs(timeout),
        rise: small(raw.rise, 2),
        fall: small(raw.fall, 3),
        tag: raw.tag,
        backends: raw.backends.into_iter().collect::<BTreeSet<_>>(),
        source: raw.source,
    })
}

fn check_tls(raw: &Raw, tls: CheckTls, protocol: Protocol) -> Result<(), Fault> {
    let fault = |key, what: &str, accepted| Err((key, what.to_owned(), accepted));
    let tls_verify = raw.tls_verify.unwrap_or(true);
    match (tls, protocol) {
        (CheckTls::StartTls, Protocol::Tcp) => {
            return fault(
                "tls",
                "There is no STARTTLS without a protocol",
                "no or yes",
            );
        }
        (CheckTls::No, _)
            if raw.tls_verify.is_some() || raw.tls_ca.is_some() || raw.tls_name.is_some() =>
        {
            return fault(
                "tls",
                "It is no, and tls_verify, tls_ca or tls_name is set",
                "yes or starttls",
            );
        }
        (CheckTls::Yes | CheckTls::StartTls, _) if tls_verify && raw.tls_ca.is_none() => {
            let accepted = "a PEM file with authorities; or tls_verify = false";
            return fault(
                "tls_ca",
                "It is missing: certificates are verified",
                accepted,
            );
        }
        _ => {}
    }
    Ok(())
}

fn check_login(raw: &Raw, protocol: Protocol) -> Result<(), Fault> {
    let fault = |key, what: &str, accepted| Err((key, what.to_owned(), accepted));
    match (&raw.user, &raw.password_file, protocol) {
        (None, None, _) | (Some(_), Some(_), Protocol::Imap | Protocol::Pop3) => {}
        (Some(_), Some(_), _) => {
            return fault("user", "Only imap and pop3 have a login", "nothing");
        }
        _ => {
            return fault(
                "user",
                "One of user and password_file is missing",
                "both or none",
            );
        }
    }
    Ok(())
}

fn usual_port(protocol: Protocol, tls: CheckTls) -> Option<u16> {
    Some(match (protocol, tls) {
        (Protocol::Tcp, _) => return None,
        (Protocol::Imap, CheckTls::Yes) => 993,
        (Protocol::Imap, _) => 143,
        (Protocol::Pop3, CheckTls::Yes) => 995,
        (Protocol::Pop3, _) => 110,
        (Protocol::Lmtp, _) => 24,
    })
}

/// The name of a protocol in a settings file.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Imap => "imap",
        Protocol::Pop3 => "pop3",
        Protocol::Lmtp => "lmtp",
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let all = [
        Protocol::Tcp,
        Protocol::Imap,
        Protocol::Pop3,
        Protocol::Lmtp,
    ];
    let found = all.into_iter().find(|it| protocol_name(*it) == text);
    found.ok_or_else(|| format!("Unknown protocol '{text}'"))
}

fn tls(text: &str) -> Result<CheckTls, String> {
    match text {
        "no" => Ok(CheckTls::No),
        "yes" => Ok(CheckTls::Yes),
        "starttls" => Ok(CheckTls::StartTls),
        _ => Err(format!("Unknown kind of TLS '{text}'")),
    }
}

fn mechanism(text: &str) -> Result<Mechanism, String> {
    match text {
        "plain" => Ok(Mechanism::Plain),
        "login" => Ok(Mechanism::Login),
        _ => Err(format!("Unknown mechanism '{text}'")),
    }
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    let text = value.as_str();
    text.ok_or_else(|| "It is not a string".to_owned())
}

fn text_or_empty(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    if text.len() > MAX_TEXT {
        return Err(format!("It is longer than {MAX_TEXT} bytes"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("The control character {c:?} is not accepted")),
        None => Ok(text.to_owned()),
    }
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = text_or_empty(value)?;
    if text.is_empty() {
        return Err("It is empty".to_owned());
    }
    Ok(text)
}

fn word(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    if text.contains(char::is_whitespace) {
        return Err(format!("There is a blank in '{text}'"));
    }
    Ok(text)
}

fn file(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(text_or_empty(value)?);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(format!("The path '{}' is not absolute", path.display())),
    }
}

fn yes(value: &DeValue<'_>) -> Result<bool, String> {
    let text = match value {
        DeValue::Boolean(yes) => return Ok(*yes),
        other => string(other)?,
    };
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

fn number_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        other => string(other).map(str::to_owned),
    }
}

fn seconds(value: &DeValue<'_>) -> Result<u64, String> {
    match kinds::time(string(value)?)? {
        0 => Err("It is 0".to_owned()),
        seconds if seconds > 3600 => Err("It is above 1 hour".to_owned()),
        seconds => Ok(seconds.into()),
    }
}

fn count(value: &DeValue<'_>) -> Result<u64, String> {
    match kinds::uint(&number_text(value)?, MAX_COUNT)? {
        0 => Err("It is 0".to_owned()),
        count => Ok(count),
    }
}

fn one_address(text: &str) -> Result<IpAddr, String> {
    let ip = address::parse_address(text).filter(|_| address::is_plain(text));
    ip.ok_or_else(|| format!("Invalid address '{text}'"))
}

fn addresses(value: &DeValue<'_>) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    match value {
        DeValue::String(text) => {
            for item in text.split(' ').filter(|item| !item.is_empty()) {
                all.push(one_address(item)?);
            }
        }
        other => {
            let array = other
                .as_array()
                .ok_or("It is neither a string nor an array")?;
            for item in array.iter() {
                all.push(one_address(string(item.get_ref())?)?);
            }
        }
    }
    match all.is_empty() {
        true => Err("It is empty".to_owned()),
        false => Ok(all),
    }
}
