//! What is answered instead of a document (RFC 9457), and whose fault it is.

use schemars::JsonSchema;
use serde::Serialize;

use crate::wire::admin::Reply;

/// Media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Who must do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The request is wrong; it will be the next time.
    Client,
    /// Something is as it cannot be changed now; another time it may work.
    State,
    /// The directors do not agree, or one does not answer.
    Ring,
    /// This director.
    Director,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says which kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong, and what would be right.
    pub detail: String,
    /// Whose fault it is.
    pub fault: Fault,
}

impl Problem {
    /// Of this status.
    pub fn new(status: u16, fault: Fault, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank",
            title: title(status),
            status,
            detail: detail.into(),
            fault,
        }
    }

    /// The request is wrong.
    pub fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(400, Fault::Client, detail)
    }

    /// What was asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(404, Fault::Client, detail)
    }

    /// This director cannot do it.
    pub fn director(detail: impl Into<String>) -> Problem {
        Problem::new(500, Fault::Director, detail)
    }

    /// From a reply that is not OK. `what`: what the order is about.
    pub fn of_reply(reply: Reply, what: &str) -> Problem {
        let text = reply.text();
        match reply {
            Reply::Ok => Problem::director("an order succeeded and was taken for a failure"),
            Reply::NotFound => Problem::not_found(format!("{what}: there is none")),
            Reply::TryAgain => Problem::new(
                409,
                Fault::State,
                format!("{what}: something of the kind is under way; try again in a while"),
            ),
            Reply::SyncTimedOut => Problem::new(
                503,
                Fault::Ring,
                format!(
                    "{what}: {text}: the directors did not agree for 30 s, and the change may have been \
                     made or not; /api/v1/backends and /api/v1/ring show it"
                ),
            ),
            Reply::TooManyVhosts => {
                Problem::new(422, Fault::Client, format!("{what}: {text}: at most 1000"))
            }
            Reply::TagCannotChange => Problem::new(
                409,
                Fault::Client,
                format!("{what}: {text}: remove it first, then add it with the other tag"),
            ),
            Reply::BeingUpdated => Problem::new(409, Fault::State, format!("{what}: {text}")),
        }
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_director_has_a_status_that_is_none_of_success() {
        for reply in [
            Reply::NotFound,
            Reply::TryAgain,
            Reply::SyncTimedOut,
            Reply::TooManyVhosts,
            Reply::TagCannotChange,
            Reply::BeingUpdated,
        ] {
            let problem = Problem::of_reply(reply, "10.0.0.1");
            assert!(
                problem.status >= 400 && problem.status != 500,
                "{problem:?}"
            );
            assert!(problem.detail.starts_with("10.0.0.1"), "{problem:?}");
            assert_ne!(problem.title, "Internal Server Error");
        }
    }
}
