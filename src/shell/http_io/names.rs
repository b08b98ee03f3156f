//! Names of users, which only auth knows: it is asked for all of them, and those are kept that are wanted.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::call::Call;
use crate::core::Mono;
use crate::http::problem::{Fault, Problem};
use crate::shell::{auth_users, clock};

/// How long auth may take for all of them.
const LIMIT: u64 = 120 * Mono::SECOND;
/// Names of one hash that are told; more than one is rare, many are an accident.
const NAMES_MAX: usize = 10;

/// The names with these hashes, in auth's order. One such list is made at a time.
pub(super) async fn listed(
    call: &Call,
    wanted: HashSet<u32>,
) -> Result<HashMap<u32, Vec<String>>, Problem> {
    let Ok(turn) = Arc::clone(&call.app.naming).try_acquire_owned() else {
        let what = "auth is listing its users for somebody else; try again in a while";
        return Err(Problem::new(409, Fault::State, what));
    };
    let socket = call.app.config.load().auth_userdb.clone();
    let snapshot = call.app.directory.snapshot();
    let list = move || {
        let _turn = turn;
        let mut found: HashMap<u32, Vec<String>> = HashMap::new();
        let mut scratch = Vec::new();
        let end = clock::mono().after(LIMIT);
        let listed = auth_users::each(&socket, |name| {
            if clock::mono() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let hash = snapshot.username_hash.hash(name, &mut scratch).0;
            if wanted.contains(&hash) {
                let names = found.entry(hash).or_default();
                if names.len() < NAMES_MAX {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => Ok(found),
            Err(error) => {
                let socket = socket.display();
                let what = format!("auth cannot list the users ({socket}): {error}");
                Err(Problem::new(503, Fault::Director, what))
            }
        }
    };
    let listed = tokio::task::spawn_blocking(list).await;
    listed.map_err(|error| Problem::director(error.to_string()))?
}
