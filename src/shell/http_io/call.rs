//! What an endpoint is given, and what it gives back.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::App;
use super::director::Session;
use crate::core::ip_text::parse_lenient;
use crate::core::snapshot::BackendView;
use crate::http::problem::{MEDIA_TYPE, Problem};
use crate::http::tokens::Role;

/// Items of a list when nothing is said.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a list.
const LIMIT_MAX: usize = 1000;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// What it may do.
    pub(super) role: Role,
    /// For the log: the token's name, and where it comes from.
    pub(super) text: String,
}

/// One request.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) path: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) accept: String,
    pub(super) body: Bytes,
}

/// What is answered.
pub(super) type Answer = Result<Response, Problem>;

impl Call {
    /// A part of the path; the router knows that it is there.
    pub(super) fn part(&self, name: &str) -> &str {
        let part = self.path.iter().find(|(own, _)| own == name);
        part.map_or("", |(_, value)| value)
    }

    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let value = self.query.iter().find(|(own, _)| own == name);
        value.map(|(_, value)| value.as_str())
    }

    /// A number of the query.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Problem::bad(format!("{name}: a number is needed, not '{text}'")))
        };
        self.query(name).map(parse).transpose()
    }

    /// A switch of the query that is off when nothing is said.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        self.said(name).map(|said| said.unwrap_or(false))
    }

    /// A switch of the query, if it is there.
    pub(super) fn said(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.query(name) {
            None => Ok(None),
            Some("false") => Ok(Some(false)),
            Some("true") => Ok(Some(true)),
            Some(other) => Err(Problem::bad(format!(
                "{name}: true or false is needed, not '{other}'"
            ))),
        }
    }

    /// How many items are wanted.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        match self.number("limit")? {
            None => Ok(LIMIT_DEFAULT),
            Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
            Some(_) => Err(Problem::bad(format!("limit: 1 to {LIMIT_MAX} is needed"))),
        }
    }

    /// The address in the path.
    pub(super) fn address(&self) -> Result<IpAddr, Problem> {
        address(self.part("address"))
    }

    /// The backend in the path.
    pub(super) fn backend(&self) -> Result<IpAddr, Problem> {
        self.known_backend(self.part("address"))
    }

    /// A backend, by its address or the host name that it was configured by.
    pub(super) fn known_backend(&self, text: &str) -> Result<IpAddr, Problem> {
        named(&self.app.directory.snapshot().backends, text).unwrap_or_else(|| address(text))
    }

    /// The user in the path.
    pub(super) fn user(&self) -> Result<&str, Problem> {
        match self.part("user") {
            "" => Err(Problem::bad("the user's name is empty")),
            user => Ok(user),
        }
    }

    /// The document that was sent; nothing at all is an empty one.
    pub(super) fn document<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let bytes: &[u8] = match self.body.is_empty() {
            true => b"{}",
            false => &self.body,
        };
        serde_json::from_slice(bytes).map_err(|error| Problem::bad(format!("the body: {error}")))
    }

    /// Speaks with the director on behalf of the caller.
    pub(super) async fn director(&self) -> Result<Session, Problem> {
        self.app.line.open(&self.caller.text).await
    }
}

/// An address of a backend or director.
pub(super) fn address(text: &str) -> Result<IpAddr, Problem> {
    // A number alone would be an address to Dovecot, and is never meant to be one.
    let ip = parse_lenient(text).filter(|_| !text.bytes().all(|byte| byte.is_ascii_digit()));
    ip.ok_or_else(|| {
        Problem::bad(format!(
            "'{text}' is no address, nor a host name of a backend: names are not looked up here"
        ))
    })
}

/// The backend with a host name; `None`: there is none.
fn named(backends: &[Option<BackendView>], name: &str) -> Option<Result<IpAddr, Problem>> {
    let is_named = |it: &&BackendView| {
        let own = it.name.as_deref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    let mut all = backends.iter().flatten().filter(is_named);
    let first = all.next()?;
    Some(match all.next() {
        None => Ok(first.ip),
        Some(_) => Err(Problem::bad(format!(
            "{name} is several backends: give the address of one"
        ))),
    })
}

/// A document.
pub(super) fn json(document: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, "application/json", document)
}

/// A document with another status.
pub(super) fn json_with(
    status: StatusCode,
    media_type: &'static str,
    document: &impl Serialize,
) -> Answer {
    let bytes = serde_json::to_vec(document)
        .map_err(|error| Problem::director(format!("a document cannot be written: {error}")))?;
    Ok(text(status, media_type, bytes))
}

/// A text of any media type.
pub(super) fn text(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// A problem.
pub(super) fn problem(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let document = serde_json::to_vec(problem).unwrap_or_default();
    text(status, MEDIA_TYPE, document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::BackendState;

    #[test]
    fn a_backend_is_found_by_its_name_if_it_is_one() {
        let backend = |last: u8, name: &str| BackendView {
            ip: [10, 0, 0, last].into(),
            name: Some(name.into()),
            suffix: Box::default(),
            shown: BackendState::default(),
        };
        let all = [
            Some(backend(1, "a.example")),
            None,
            Some(backend(2, "b.example")),
            Some(backend(3, "b.example")),
        ];
        assert_eq!(named(&all, "A.example"), Some(Ok([10, 0, 0, 1].into())));
        let several = named(&all, "b.example").expect("some").unwrap_err();
        assert!(several.detail.contains("several"), "{several:?}");
        assert_eq!(named(&all, "c.example"), None);
    }
}
