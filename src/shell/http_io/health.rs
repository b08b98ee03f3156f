//! Health of backends: what checks say, and which backends are left alone.

use std::net::IpAddr;

use super::backends::{find, name};
use super::call::{Answer, Call, address, json};
use crate::admin::documents::Health;
use crate::core::ip_text::{ip_order, ip_text};
use crate::http::documents::HealthRows;
use crate::http::problem::Problem;
use crate::wire::admin::{Command, HealthRow, read};

/// Behind this backend's row of that number.
type Cursor = (IpAddr, usize);

fn cursor(text: &str) -> Result<Cursor, Problem> {
    let read = || {
        let (ip, number) = text.rsplit_once('-')?;
        Some((address(ip).ok()?, number.parse().ok()?))
    };
    read().ok_or_else(|| Problem::bad("cursor: it is none that was given out"))
}

pub(super) async fn list(call: Call) -> Answer {
    let limit = call.limit()?;
    let after = call.query("cursor").map(cursor).transpose()?;
    let mut director = call.director().await?;
    let rows = director.rows(&Command::HealthList, read::health).await?;
    json(&part(&rows, after, limit))
}

/// One part of the rows, which are in the order of addresses.
fn part(rows: &[HealthRow], after: Option<Cursor>, limit: usize) -> HealthRows {
    let mut numbered = Vec::with_capacity(rows.len());
    for row in rows {
        let number = match numbered.last() {
            Some(&(ip, number, _)) if ip == row.ip => number + 1,
            _ => 0,
        };
        numbered.push((row.ip, number, row));
    }
    if let Some((ip, number)) = after {
        numbered.retain(|row| ip_order(row.0, ip).then(row.1.cmp(&number)).is_gt());
    }
    let more = numbered.len() > limit;
    numbered.truncate(limit);
    let next = numbered.last().filter(|_| more);
    HealthRows {
        next: next.map(|(ip, number, _)| format!("{}-{number}", ip_text(*ip))),
        items: numbered.iter().map(|(.., row)| Health::of(row)).collect(),
    }
}

pub(super) async fn show(call: Call) -> Answer {
    let ip = call.backend()?;
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    find(&hosts, ip)?;
    let mut rows = director.rows(&Command::HealthList, read::health).await?;
    rows.retain(|row| row.ip == ip);
    json(&part(&rows, None, rows.len()))
}

/// The backend is held, or released.
pub(super) async fn leave(call: Call, command: fn(IpAddr) -> Command<'static>) -> Answer {
    let ip = call.backend()?;
    let mut director = call.director().await?;
    json(&director.order(&command(ip), &name(ip)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_rows_are_the_rows() {
        let row = |ip: &str, check: &str| HealthRow {
            ip: ip.parse().expect("an address"),
            tag: String::new(),
            check: check.to_owned(),
            state: "up".to_owned(),
            since: 0,
            failed: 0,
            good: 1,
            quorum: 1,
            decision: String::new(),
            reason: String::new(),
            by: String::new(),
            vhosts: 1,
            weight: 1,
            error: String::new(),
        };
        let rows = [
            row("10.0.0.1", "imap"),
            row("10.0.0.1", "pop3"),
            row("10.0.0.2", "imap"),
            row("fd00::1", "imap"),
            row("fd00::1", "lmtp"),
        ];
        for limit in 1..6 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let part = part(&rows, after, limit);
                assert!(part.items.len() <= limit);
                seen.extend(part.items);
                match part.next {
                    Some(next) => after = Some(cursor(&next).expect("ours")),
                    None => break,
                }
            }
            let all: Vec<_> = rows.iter().map(Health::of).collect();
            assert_eq!(seen, all, "{limit}");
        }
        assert!(cursor("10.0.0.1").is_err() && cursor("x-1").is_err());
    }
}
