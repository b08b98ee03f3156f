//! The table of all routes. The router, the OpenAPI document and the tests are made of it, so that none
//! of them can know another set.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::documents as doc;
use super::tokens::Role;
use crate::admin::documents as told;
use crate::admin::dump::Dump;

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks.
    Get,
    /// Makes it so.
    Put,
    /// Changes a part.
    Patch,
    /// Orders.
    Post,
    /// Takes away.
    Delete,
}

impl Method {
    /// Its name in the description.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "get",
            Method::Put => "put",
            Method::Patch => "patch",
            Method::Post => "post",
            Method::Delete => "delete",
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has a sentence in the table")]
pub enum Endpoint {
    Page,
    PageStyle,
    PageScript,
    PageIcon,
    OpenApi,
    Metrics,
    Status,
    Backends,
    Backend,
    BackendAdd,
    BackendUpdate,
    BackendRemove,
    BackendUp,
    BackendDown,
    BackendFlush,
    FlushAll,
    BackendHealth,
    BackendHold,
    BackendRelease,
    Health,
    Drains,
    DrainShow,
    DrainBegin,
    DrainCancel,
    Users,
    User,
    UserWhy,
    UserMove,
    UserKick,
    Hash,
    Ring,
    RingAdd,
    RingRemove,
    Plan,
    Dump,
    Restore,
    Histograms,
    Settings,
    Events,
    Live,
}

/// Makes a schema of a type.
pub type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What a route answers with.
#[derive(Clone, Copy)]
pub enum Answers {
    /// A JSON document.
    Json(MakeSchema),
    /// Something of this media type.
    Other(&'static str),
}

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{name}` is one segment of any text.
    pub path: &'static str,
    /// What it does.
    pub endpoint: Endpoint,
    /// Who may; `None`: anybody.
    pub needs: Option<Role>,
    /// A sentence.
    pub about: &'static str,
    /// Names in the query, and what each means. All are optional.
    pub query: &'static [(&'static str, &'static str)],
    /// The JSON document that it takes.
    pub body: Option<MakeSchema>,
    /// What it answers with when all is well.
    pub answers: Answers,
}

const fn route(
    method: Method,
    path: &'static str,
    endpoint: Endpoint,
    about: &'static str,
    answers: Answers,
) -> Route {
    let needs = match method {
        Method::Get => Role::Read,
        Method::Put | Method::Patch | Method::Post | Method::Delete => Role::Admin,
    };
    Route {
        method,
        path,
        endpoint,
        needs: Some(needs),
        about,
        query: &[],
        body: None,
        answers,
    }
}

const fn open(
    path: &'static str,
    endpoint: Endpoint,
    about: &'static str,
    what: &'static str,
) -> Route {
    Route {
        needs: None,
        ..route(Method::Get, path, endpoint, about, Answers::Other(what))
    }
}

impl Route {
    const fn with_query(mut self, query: &'static [(&'static str, &'static str)]) -> Route {
        self.query = query;
        self
    }

    const fn with_body(mut self, body: MakeSchema) -> Route {
        self.body = Some(body);
        self
    }

    /// The names in its path.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

const LIMIT: (&str, &str) = ("limit", "Most items, 1 to 1000; without: 100.");
const CURSOR: (&str, &str) = ("cursor", "`next` of the part before.");
const TAG: (&str, &str) = ("tag", "Only under this director tag; without: under all.");
const COUNT: (&str, &str) = (
    "count",
    "false: do not count the sessions that end, which takes Dovecot a list of all sessions.",
);

use Answers::{Json, Other};
use Method::{Delete, Get, Patch, Post, Put};

const DONE: Answers = Json(schema::<doc::Done>);

/// Every route.
pub static ROUTES: &[Route] = &[
    open("/", Endpoint::Page, "The page for people.", "text/html"),
    open("/page.css", Endpoint::PageStyle, "How the page looks.", "text/css"),
    open("/page.js", Endpoint::PageScript, "What the page does.", "text/javascript"),
    open("/favicon.svg", Endpoint::PageIcon, "The page's icon.", "image/svg+xml"),
    open("/api/openapi.json", Endpoint::OpenApi, "This description.", "application/json"),
    route(Get, "/metrics", Endpoint::Metrics, "Metrics, as OpenMetrics or in Prometheus' older text format by Accept.",
        Other("text/plain")),
    route(Get, "/api/v1/status", Endpoint::Status, "How this director and its ring are.",
        Json(schema::<doc::Status>)),
    route(Get, "/api/v1/backends", Endpoint::Backends, "The backends.", Json(schema::<doc::Backends>))
        .with_query(&[LIMIT, CURSOR]),
    route(Get, "/api/v1/backends/{address}", Endpoint::Backend, "One backend.",
        Json(schema::<told::Backend>)),
    route(Put, "/api/v1/backends/{address}", Endpoint::BackendAdd,
        "Adds a backend, or changes its weight. Answers when all directors know.", DONE)
        .with_body(schema::<doc::NewBackend>),
    route(Patch, "/api/v1/backends/{address}", Endpoint::BackendUpdate,
        "Changes the weight of a known backend.", DONE)
        .with_body(schema::<doc::NewWeight>),
    route(Delete, "/api/v1/backends/{address}", Endpoint::BackendRemove, "Removes a backend.", DONE),
    route(Post, "/api/v1/backends/{address}/up", Endpoint::BackendUp,
        "The backend gets new users again.", DONE),
    route(Post, "/api/v1/backends/{address}/down", Endpoint::BackendDown,
        "The backend gets no new users; those that it has stay.", DONE),
    route(Post, "/api/v1/backends/{address}/flush", Endpoint::BackendFlush,
        "Moves the backend's users to where they belong and ends their sessions. Answers 202 while that takes \
         long; it goes on.", Json(schema::<doc::Flushed>))
        .with_query(&[COUNT])
        .with_body(schema::<doc::FlushOrder>),
    route(Post, "/api/v1/flush", Endpoint::FlushAll, "The same for all backends.", Json(schema::<doc::Flushed>))
        .with_query(&[COUNT])
        .with_body(schema::<doc::FlushOrder>),
    route(Get, "/api/v1/health", Endpoint::Health, "What each check says of each backend, and what was decided.",
        Json(schema::<doc::HealthRows>))
        .with_query(&[LIMIT, CURSOR]),
    route(Get, "/api/v1/backends/{address}/health", Endpoint::BackendHealth,
        "The checks of one backend; empty where none concerns it.", Json(schema::<doc::HealthRows>)),
    route(Post, "/api/v1/backends/{address}/hold", Endpoint::BackendHold,
        "The backend stays as it is, up or down, whatever its health. `up` and `down` do so as well.", DONE),
    route(Post, "/api/v1/backends/{address}/release", Endpoint::BackendRelease,
        "The backend is left to health again. One that is down comes back when it is good.", DONE),
    route(Get, "/api/v1/drains", Endpoint::Drains, "Backends that are being drained.",
        Json(schema::<doc::Drains>)),
    route(Get, "/api/v1/backends/{address}/drain", Endpoint::DrainShow, "One drain.",
        Json(schema::<told::Drain>)),
    route(Put, "/api/v1/backends/{address}/drain", Endpoint::DrainBegin,
        "The backend's users leave it gradually, or at another rate.", DONE)
        .with_body(schema::<doc::DrainOrder>),
    route(Delete, "/api/v1/backends/{address}/drain", Endpoint::DrainCancel,
        "Users stay, and the backend gets its weight back.", DONE),
    route(Get, "/api/v1/users", Endpoint::Users, "The user table, by hashes.", Json(schema::<doc::Users>))
        .with_query(&[
            ("backend", "Only users on this backend."),
            ("names", "true: with the login names, of those that auth lists; a user with several is there several times."),
            LIMIT,
            CURSOR,
        ]),
    route(Get, "/api/v1/users/{user}", Endpoint::User, "Where a user is and would go.",
        Json(schema::<doc::UserPlaces>))
        .with_query(&[TAG]),
    route(Get, "/api/v1/users/{user}/why", Endpoint::UserWhy, "Why a user is where it is.",
        Json(schema::<doc::Whys>))
        .with_query(&[TAG]),
    route(Post, "/api/v1/users/{user}/move", Endpoint::UserMove,
        "Moves a user, and ends its sessions elsewhere.", Json(schema::<doc::Moved>))
        .with_query(&[COUNT])
        .with_body(schema::<doc::MoveOrder>),
    route(Post, "/api/v1/users/{user}/kick", Endpoint::UserKick, "Ends a user's sessions everywhere.", DONE)
        .with_query(&[COUNT])
        .with_body(schema::<doc::KickOrder>),
    route(Get, "/api/v1/hashes/{hash}", Endpoint::Hash, "The login names with a user hash, of those that auth lists.",
        Json(schema::<doc::HashNames>)),
    route(Get, "/api/v1/ring", Endpoint::Ring, "The directors of the ring.",
        Json(schema::<doc::Directors>)),
    route(Put, "/api/v1/ring/{address}", Endpoint::RingAdd, "Adds a director to the ring.", DONE)
        .with_query(&[("port", "Its port; without: the same as ours.")]),
    route(Delete, "/api/v1/ring/{address}", Endpoint::RingRemove, "Removes a director from the ring.", DONE)
        .with_query(&[("port", "Its port; without: the first with that address.")]),
    route(Get, "/api/v1/plan", Endpoint::Plan, "What a change of backends would move. Changes nothing.",
        Json(schema::<told::Plan>))
        .with_query(&[
            ("change", "add, update, up, down or remove."),
            ("backend", "The backend's address."),
            ("vhosts", "Its weight, for add and update."),
            ("tag", "Its tag, for add."),
        ]),
    route(Get, "/api/v1/dump", Endpoint::Dump, "The backends as a document for restore.",
        Json(schema::<Dump>)),
    route(Post, "/api/v1/restore", Endpoint::Restore, "Makes the backends those of a dump.",
        Json(schema::<doc::Restored>))
        .with_query(&[
            ("dry_run", "true: only tell what would be done."),
            ("remove_others", "true: remove backends that are not in the dump."),
        ])
        .with_body(schema::<Dump>),
    route(Get, "/api/v1/histograms", Endpoint::Histograms, "How long lookups took, since the start.",
        Json(schema::<doc::Histograms>))
        .with_query(&[
            ("core", "Only lookups of this serving core, from 0 on."),
            ("counts", "true: with the counts of each step, of which differences can be taken."),
        ]),
    route(Get, "/api/v1/settings", Endpoint::Settings, "The settings in force.",
        Json(schema::<doc::SettingsList>)),
    route(Get, "/api/v1/events", Endpoint::Events, "The last things that happened, at most 256.",
        Json(schema::<doc::Happened>))
        .with_query(&[("after", "Only those with a higher number.")]),
    route(Get, "/api/v1/live", Endpoint::Live, "Logins and latencies of the last five minutes.",
        Json(schema::<doc::Live>))
        .with_query(&[("after", "Only samples that ended later, seconds since 1970.")]),
];
