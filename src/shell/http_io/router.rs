//! From a request to its answer: how often, who, what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Query, RawPathParams, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use tokio::time::timeout;

use super::accept::Peer;
use super::call::{Answer, Call, Caller, problem, text};
use super::{App, around, backends, health, ring, users};
use crate::http::page;
use crate::http::problem::{Fault, Problem};
use crate::http::routes::{Endpoint, Method, ROUTES, Route};
use crate::http::tokens::{Role, bearer};
use crate::shell::clock;
use crate::wire::admin::Command;

/// Longest document. An order has some hundred bytes.
const BODY_MAX: usize = 64 * 1024;
/// Longest dump: 16,384 backends with long tags.
const DUMP_MAX: usize = 4 * 1024 * 1024;
/// How long a client may take to send a document.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Longest query of an address line.
const QUERY_MAX: usize = 4096;

/// All routes of the table.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let answer = move |State(app): State<Arc<App>>,
                           parts: Result<RawPathParams, RawPathParamsRejection>,
                           request: Request| async move {
            let answer = answer(&app, route, parts, request).await;
            finish(&app, route, answer)
        };
        router = router.route(route.path, on(filter(route.method), answer));
    }
    let nowhere = |State(app): State<Arc<App>>| async move {
        app.refuse(&Problem::not_found(
            "there is no such path: /api/openapi.json has all",
        ))
    };
    let otherwise = |State(app): State<Arc<App>>| async move {
        let what = "the path does not take this method: /api/openapi.json has all";
        app.refuse(&Problem::new(405, Fault::Client, what))
    };
    router
        .fallback(nowhere)
        .method_not_allowed_fallback(otherwise)
        .with_state(app)
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Post => MethodFilter::POST,
        Method::Delete => MethodFilter::DELETE,
    }
}

async fn answer(
    app: &Arc<App>,
    route: &'static Route,
    parts: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Answer {
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.ok_or_else(|| Problem::director("a connection without its other end"))?;
    if !app.rates.lock().allow(peer.ip, clock::mono()) {
        app.tallies.over_rate.fetch_add(1, Ordering::Relaxed);
        let what = "too many requests, or wrong tokens, from this address: ask less often";
        return Err(Problem::new(429, Fault::Client, what));
    }
    let caller = app.authorize(&peer, route.needs, request.headers())?;
    if route.method != Method::Get {
        same_origin(request.headers())?;
    }
    let parts = parts.map_err(|_| Problem::bad("a part of the path is not UTF-8"))?;
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let path = parts.iter().map(owned).collect();
    let query = query(route, &request)?;
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let call = Call {
        app: Arc::clone(app),
        caller,
        path,
        query,
        accept: accept.to_owned(),
        body: body(route, request.into_body()).await?,
    };
    dispatch(route.endpoint, call).await
}

/// A page of another site must not have a browser order anything here, which only a listener that
/// needs no token could fall for.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    match origin.map(|it| it.1) == host {
        true => Ok(()),
        false => {
            let what = "the request comes from a page of another site";
            Err(Problem::new(403, Fault::Client, what))
        }
    }
}

fn query(route: &Route, request: &Request) -> Result<Vec<(String, String)>, Problem> {
    let uri = request.uri();
    if uri.query().is_some_and(|query| query.len() > QUERY_MAX) {
        let what = format!("the query has more than {QUERY_MAX} bytes");
        return Err(Problem::new(414, Fault::Client, what));
    }
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::bad("the query is not of the form name=value"))?;
    for (name, _) in &query {
        if !route.query.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = route.query.iter().map(|(known, _)| *known).collect();
            let known = match known.is_empty() {
                true => "none is known here".to_owned(),
                false => format!("known are {}", known.join(", ")),
            };
            return Err(Problem::bad(format!("unknown parameter '{name}': {known}")));
        }
        if query.iter().filter(|(other, _)| other == name).count() > 1 {
            return Err(Problem::bad(format!("'{name}' is there twice")));
        }
    }
    Ok(query)
}

/// The document, which may not be longer or slower than it should.
async fn body(route: &Route, body: Body) -> Result<Bytes, Problem> {
    let most = match (route.endpoint, route.body) {
        (_, None) => 0,
        (Endpoint::Restore, _) => DUMP_MAX,
        _ => BODY_MAX,
    };
    let too_long = || {
        let what = match most {
            0 => "a body, where none is taken".to_owned(),
            most => format!("a body of more than {most} bytes"),
        };
        Problem::new(413, Fault::Client, what)
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    match timeout(BODY_LIMIT, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_long()),
        Err(_) => {
            let what = format!("the body was not sent in {} s", BODY_LIMIT.as_secs());
            Err(Problem::new(408, Fault::Client, what))
        }
    }
}

impl App {
    /// Who asks, and whether it may. Over TCP a token is needed; on a path it only narrows.
    fn authorize(
        &self,
        peer: &Peer,
        needs: Option<Role>,
        headers: &HeaderMap,
    ) -> Result<Caller, Problem> {
        let caller = match headers.get(AUTHORIZATION) {
            None if needs.is_none() => Caller {
                role: Role::Read,
                text: format!("http {}", peer.text),
            },
            None if peer.ip.is_none() => Caller {
                role: Role::Admin,
                text: format!("http {}", peer.text),
            },
            None => return Err(self.unauthorized("a token is needed: Authorization: Bearer …")),
            Some(header) => {
                let config = self.config.load();
                let token = bearer(header.as_bytes());
                let Some((name, role)) = token.and_then(|token| config.tokens.find(token)) else {
                    self.rates.lock().was_wrong(peer.ip, clock::mono());
                    self.complain(|| format!("HTTP request of {} with a wrong token", peer.text));
                    return Err(self.unauthorized("the token is in no line of http_tokens"));
                };
                Caller {
                    role,
                    text: format!("http token {name} at {}", peer.text),
                }
            }
        };
        if needs.is_some_and(|needs| needs > caller.role) {
            let what = "the token may only ask: one with the role admin is needed";
            return Err(Problem::new(403, Fault::Client, what));
        }
        Ok(caller)
    }

    fn unauthorized(&self, what: &str) -> Problem {
        self.tallies.unauthorized.fetch_add(1, Ordering::Relaxed);
        Problem::new(401, Fault::Client, what)
    }

    /// Answers with a problem.
    fn refuse(&self, what: &Problem) -> Response {
        let mut response = problem(what);
        if what.status == 401 {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        self.count(response.status());
        response
    }

    fn count(&self, status: StatusCode) {
        let digit = usize::from(status.as_u16() / 100);
        if let Some(count) = self.tallies.answers.get(digit) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn finish(app: &App, route: &Route, answer: Answer) -> Response {
    match answer {
        Err(problem) => app.refuse(&problem),
        Ok(mut response) => {
            app.count(response.status());
            if route.endpoint == Endpoint::Page {
                let headers = response.headers_mut();
                let policy = HeaderValue::from_static(page::POLICY);
                headers.insert(CONTENT_SECURITY_POLICY, policy);
                let none = HeaderValue::from_static("no-referrer");
                headers.insert(REFERRER_POLICY, none);
            }
            response
        }
    }
}

async fn dispatch(endpoint: Endpoint, call: Call) -> Answer {
    let file = |media_type, file: &'static str| Ok(text(StatusCode::OK, media_type, file));
    match endpoint {
        Endpoint::Page => file("text/html; charset=utf-8", page::HTML),
        Endpoint::PageStyle => file("text/css; charset=utf-8", page::CSS),
        Endpoint::PageScript => file("text/javascript; charset=utf-8", page::JS),
        Endpoint::PageIcon => file("image/svg+xml", page::ICON),
        Endpoint::OpenApi => around::openapi(),
        Endpoint::Metrics => around::metrics(call).await,
        Endpoint::Status => around::status(&call),
        Endpoint::Histograms => around::histograms(call).await,
        Endpoint::Settings => around::settings(&call),
        Endpoint::Events => around::events(&call),
        Endpoint::Live => around::live(&call),
        Endpoint::Backends => backends::list(call).await,
        Endpoint::Backend => backends::show(call).await,
        Endpoint::BackendAdd => backends::add(call).await,
        Endpoint::BackendUpdate => backends::update(call).await,
        Endpoint::BackendRemove => backends::remove(call).await,
        Endpoint::BackendUp => backends::up(call).await,
        Endpoint::BackendDown => backends::down(call).await,
        Endpoint::BackendFlush => backends::flush(call, false).await,
        Endpoint::FlushAll => backends::flush(call, true).await,
        Endpoint::Health => health::list(call).await,
        Endpoint::BackendHealth => health::show(call).await,
        Endpoint::BackendHold => health::leave(call, Command::HealthHold).await,
        Endpoint::BackendRelease => health::leave(call, Command::HealthRelease).await,
        Endpoint::Drains => backends::drains(call).await,
        Endpoint::DrainShow => backends::drain(call).await,
        Endpoint::DrainBegin => backends::drain_begin(call).await,
        Endpoint::DrainCancel => backends::drain_cancel(call).await,
        Endpoint::Plan => backends::plan(call).await,
        Endpoint::Dump => backends::dump(call).await,
        Endpoint::Restore => backends::restore(call).await,
        Endpoint::Users => users::list(call).await,
        Endpoint::User => users::places(call).await,
        Endpoint::UserWhy => users::why(call).await,
        Endpoint::UserMove => users::move_user(call).await,
        Endpoint::UserKick => users::kick(call).await,
        Endpoint::Hash => users::hash(call).await,
        Endpoint::Ring => ring::list(call).await,
        Endpoint::RingAdd => ring::add(call).await,
        Endpoint::RingRemove => ring::remove(call).await,
    }
}
