//! The directors of the ring.

use super::call::{Answer, Call, json};
use crate::admin::documents::Director;
use crate::core::ip_text::ip_text;
use crate::http::documents::Directors;
use crate::http::problem::Problem;
use crate::wire::admin::{Command, read};

pub(super) async fn list(call: Call) -> Answer {
    let mut director = call.director().await?;
    let peers = director.rows(&Command::DirectorList, read::peer).await?;
    json(&Directors {
        items: peers.iter().map(Director::of).collect(),
    })
}

pub(super) async fn add(call: Call) -> Answer {
    change(call, |ip, port| Command::DirectorAdd { ip, port }).await
}

pub(super) async fn remove(call: Call) -> Answer {
    change(call, |ip, port| Command::DirectorRemove { ip, port }).await
}

async fn change(
    call: Call,
    command: fn(std::net::IpAddr, Option<u16>) -> Command<'static>,
) -> Answer {
    let ip = call.address()?;
    let port = call.number("port")?;
    if port == Some(0) {
        return Err(Problem::bad("port: 1 to 65535 is needed"));
    }
    let what = format!("director {}", ip_text(ip));
    let mut director = call.director().await?;
    json(&director.order(&command(ip, port), &what).await?)
}
