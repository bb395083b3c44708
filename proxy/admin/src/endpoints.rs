//! The endpoints: which there are, and what each answers.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Query, Request, State as Shared};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use portolan_model::condition::Condition;
use portolan_model::id::ObjectRef;
use portolan_model::intent::Place;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::explain::ExplainRequest;
use crate::guard::foreign_host;
use crate::plan::{Filter, View};
use crate::state::{Scope, Spot, State};
use crate::text::to_text;

/// Plans that are being sent at once: each holds a thread for as long as its reader takes.
const PLANS: usize = 4;
/// What lies between the thread that writes a plan and the connection that sends it.
const PIPE: usize = 64 * 1024;
/// A log filter is shorter than this.
const MAX_BODY: usize = 4096;
/// For that body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const PROBES: &str = "\
GET /metrics       metrics, in Prometheus' text format
GET /livez         200 while the process runs
GET /readyz        200 once a configuration is in force, else 503 and why
";

const OTHERS: &str = "\
GET /plan          what is in force (?host=, ?pool=namespace/name, ?object=Kind/namespace/name)
GET /conditions    what is wrong with the configuration
GET /explain       what becomes of a request (?url=, &method=, &header=Name:%20value as often as needed)
GET /certificates  the certificates in use, and when they expire
GET /log-level     what is logged
PUT /log-level     log by the filter in the body, such as info,portolan_proxy=debug
";

#[derive(Clone)]
struct App {
    state: Arc<dyn State>,
    scope: Scope,
    plans: Arc<Semaphore>,
}

/// The endpoints of a port.
pub(crate) fn router(state: Arc<dyn State>, scope: Scope) -> Router {
    let mut router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/livez", get(async || text(StatusCode::OK, "alive")))
        .route("/readyz", get(readyz));
    if scope == Scope::Full {
        router = router
            .route("/plan", get(plan))
            .route("/conditions", get(conditions))
            .route("/explain", get(explain))
            .route("/certificates", get(certificates))
            .route("/log-level", get(log_level).put(set_log_level));
    }
    let app = App { state, scope, plans: Arc::new(Semaphore::new(PLANS)) };
    router
        .fallback(no_endpoint)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Stands before every endpoint.
async fn guard(Shared(app): Shared<App>, request: Request, next: Next) -> Response {
    let foreign = match app.scope {
        Scope::Full => foreign_host(request.uri(), request.headers()),
        // Scrapers come by name, and what they see is no secret.
        Scope::Probes => None,
    };
    let mut response = match foreign {
        None => next.run(request).await,
        Some(host) => text(
            StatusCode::FORBIDDEN,
            format!(
                "refused: the request is for the host {host:?}. This port answers to an IP address or localhost alone, so that \
                 no web page can read it under a name of its own (DNS rebinding). Ask by address, or send Host: localhost."
            ),
        ),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn listing(scope: Scope) -> String {
    match scope {
        Scope::Full => format!("{PROBES}{OTHERS}"),
        Scope::Probes => PROBES.to_owned(),
    }
}

async fn index(Shared(app): Shared<App>) -> Response {
    text(StatusCode::OK, format!("Portolan's admin port\n\n{}", listing(app.scope).trim_end()))
}

async fn no_endpoint(Shared(app): Shared<App>, uri: Uri) -> Response {
    let listing = listing(app.scope);
    text(StatusCode::NOT_FOUND, format!("no endpoint {:?}; there are\n\n{}", uri.path(), listing.trim_end()))
}

async fn no_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}; see the header Allow"))
}

async fn metrics(Shared(app): Shared<App>) -> Response {
    match blocking(&app, |state| state.metrics()).await {
        Ok(metrics) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics).into_response()
        }
        Err(response) => response,
    }
}

async fn readyz(Shared(app): Shared<App>) -> Response {
    match app.state.not_ready() {
        None => text(StatusCode::OK, "ready"),
        Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn plan(Shared(app): Shared<App>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let filter = match Filter::parse(&query) {
        Ok(filter) => filter,
        Err(expected) => return text(StatusCode::BAD_REQUEST, expected),
    };
    let Ok(permit) = Arc::clone(&app.plans).try_acquire_owned() else {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{PLANS} plans are being read already; try again"),
        );
    };
    let (begun, begins) = oneshot::channel();
    let (reader, writer) = tokio::io::duplex(PIPE);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let plan = app.state.plan();
        // Whoever does not wait any more does not read either.
        let Some(view) = View::of(&plan, &filter) else {
            let revision = plan.revision;
            let _ =
                begun.send(Err(format!("there is nothing of {filter} in revision {revision} of the plan")));
            return;
        };
        let _ = begun.send(Ok(()));
        let mut out = BufWriter::with_capacity(PIPE, SyncIoBridge::new(writer));
        let written = serde_json::to_writer(&mut out, &view).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
            tracing::debug!(%error, "a reader of the plan went away");
        }
    });
    match begins.await {
        Ok(Ok(())) => {
            let body = Body::from_stream(ReaderStream::with_capacity(reader, PIPE));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Ok(Err(missing)) => text(StatusCode::NOT_FOUND, missing),
        Err(_) => failed(),
    }
}

/// An object, and what is wrong with it.
#[derive(Serialize)]
struct Ailing {
    object: ObjectRef,
    place: Option<Place>,
    conditions: Vec<Found>,
}

/// A condition, and where its field stands.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    condition: Condition,
    #[serde(flatten)]
    spot: Option<Spot>,
}

async fn conditions(Shared(app): Shared<App>) -> Response {
    let found = blocking(&app, |state| {
        let plan = state.plan();
        let mut objects: Vec<_> = plan.conditions.iter().collect();
        objects.sort_unstable_by_key(|(object, _)| *object);
        let each =
            objects.iter().flat_map(|&(object, conditions)| conditions.iter().map(move |it| (object, it)));
        let mut spots = state.spots(&each.collect::<Vec<_>>()).into_iter();
        let mut found =
            |condition: &Condition| Found { condition: condition.clone(), spot: spots.next().flatten() };
        let ailing: Vec<Ailing> = objects
            .iter()
            .map(|&(object, conditions)| Ailing {
                place: state.place(object),
                object: object.clone(),
                conditions: conditions.iter().map(&mut found).collect(),
            })
            .collect();
        serde_json::to_vec(&json!({
            "revision": plan.revision,
            "conditions": ailing,
            "diagnostics": state.diagnostics(),
        }))
    })
    .await;
    match found {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(_)) => failed(),
        Err(response) => response,
    }
}

async fn explain(
    Shared(app): Shared<App>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let request = match asked(&query) {
        Ok(request) => request,
        Err(expected) => return text(StatusCode::BAD_REQUEST, expected),
    };
    match blocking(&app, move |state| state.explain(&request)).await {
        Ok(Ok(explanation)) if prefers_text(&headers) => {
            text(StatusCode::OK, to_text(&explanation).trim_end())
        }
        Ok(Ok(explanation)) => as_json(&explanation),
        Ok(Err(reason)) => text(StatusCode::UNPROCESSABLE_ENTITY, reason),
        Err(response) => response,
    }
}

/// The request that a query describes.
fn asked(query: &[(String, String)]) -> Result<ExplainRequest, String> {
    const EXPECTED: &str = "expected ?url=<URL> and, if need be, &method=<method> and &header=<Name>:%20<value> as often as needed";
    let (mut url, mut method, mut headers) = (None, None, Vec::new());
    for (name, value) in query {
        let before = match name.as_str() {
            "url" => url.replace(value.as_str()),
            "method" => method.replace(value.as_str()),
            "header" => {
                headers.push(value.as_str());
                None
            }
            other => return Err(format!("unknown parameter {other:?}: {EXPECTED}")),
        };
        if before.is_some() {
            return Err(format!("the parameter {name:?} is given twice: {EXPECTED}"));
        }
    }
    let url = url.ok_or_else(|| format!("the parameter \"url\" is missing: {EXPECTED}"))?;
    ExplainRequest::parse(url, method, headers).map_err(|error| error.to_string())
}

/// Whether `text/plain` is asked for, and not after JSON.
fn prefers_text(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(header::ACCEPT).into_iter().filter_map(|accept| accept.to_str().ok());
    let mut kinds = kinds
        .flat_map(|accept| accept.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kinds.find(|kind| matches!(*kind, "text/plain" | "application/json")) == Some("text/plain")
}

async fn certificates(Shared(app): Shared<App>) -> Response {
    match blocking(&app, |state| state.certificates()).await {
        Ok(certificates) => as_json(&certificates),
        Err(response) => response,
    }
}

async fn log_level(Shared(app): Shared<App>) -> Response {
    text(StatusCode::OK, app.state.log_level())
}

async fn set_log_level(Shared(app): Shared<App>, body: Body) -> Response {
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("expected a log filter of at most {MAX_BODY} bytes"),
            );
        }
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body comes too slowly"),
    };
    let filter = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
    if filter.is_empty() {
        return text(StatusCode::BAD_REQUEST, "expected a log filter, such as info,portolan_proxy=debug");
    }
    match app.state.set_log_level(filter) {
        Ok(()) => text(StatusCode::OK, app.state.log_level()),
        Err(reason) => text(
            StatusCode::BAD_REQUEST,
            format!(
                "{filter:?} is no log filter: {reason}; expected something such as info,portolan_proxy=debug"
            ),
        ),
    }
}

/// Runs what may be slow where it is in nobody's way.
async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&dyn State) -> T + Send + 'static,
) -> Result<T, Response> {
    let state = Arc::clone(&app.state);
    tokio::task::spawn_blocking(move || work(&*state)).await.map_err(|_| failed())
}

fn failed() -> Response {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this could not be answered, by a fault of ours; the log says more",
    )
}

fn as_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text = text.into();
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
