//! From a file to settings, or to everything that is wrong with it.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use super::network::{Network, SystemNetwork};
use super::problem::{Problem, Problems};
use super::{Settings, document, resolve};

/// Longest settings file in bytes: room for some ten thousand backends written out one by one.
const MAX_FILE: u64 = 4 << 20;

/// What came out of a settings file without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What was accepted but is probably not meant, in order of the file.
    pub warnings: Vec<Problem>,
}

/// Where the listening sockets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// From the `[[listener]]` tables.
    FromSettings,
    /// Handed over by whoever started us; these are the addresses of its ring listeners, in its
    /// order. `[[listener]]` tables come on top and need not exist.
    HandedOver(Vec<SocketAddr>),
}

/// Reads and checks a settings file. Names are looked up and own addresses recognised by the
/// system. Errors: all problems, in order of the file; never an empty list.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    load_with(path, &SystemNetwork, &Sockets::FromSettings)
}

/// [`load`] with a network of the caller's choice and sockets that may be handed over.
pub fn load_with(
    path: &Path,
    network: &dyn Network,
    sockets: &Sockets,
) -> Result<Loaded, Vec<Problem>> {
    let text = read(path).map_err(|what| {
        let mut problems = Problems::new(path, "");
        problems.error(None, "", what, "");
        problems.errors
    })?;
    parse(path, &text, network, sockets)
}

/// [`load_with`] for a text that is already here; `file` only names it in messages.
pub fn parse(
    file: &Path,
    text: &str,
    network: &dyn Network,
    sockets: &Sockets,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Problems::new(file, text);
    let settings = document::read(text, &mut problems)
        .map(|document| resolve::resolve(&document, network, sockets, &mut problems));
    problems.sort();
    match settings {
        Some(settings) if problems.errors.is_empty() => Ok(Loaded {
            settings,
            warnings: problems.warnings,
        }),
        _ => Err(problems.errors),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("The settings file cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("The settings file is longer than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| {
        format!(
            "The settings file is not UTF-8 (byte {})",
            e.utf8_error().valid_up_to() + 1
        )
    })
}
