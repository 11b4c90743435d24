//! From a request to an answer: door, route, permission, handler, and the headers every answer carries.

use crate::call::{Call, discard, too_large};
use crate::door::Door;
use crate::error::{error_body, error_response, error_status};
use crate::progress::Progress;
use crate::route::{Route, Routes};
use axum::body::Body;
use axum::response::Response;
use futures::FutureExt;
use gristmill_kernel::{Code, Fault, Kind, Result};
use http::{HeaderName, HeaderValue, Method, Request, header};
use matchit::Params;
use percent_encoding::percent_decode_str;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// What every answer carries: its type is not guessed, and pages of others may not embed it.
const ALWAYS: [(HeaderName, &str); 2] =
    [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (HeaderName::from_static("cross-origin-resource-policy"), "same-origin")];
/// JSON is never shown as a page: nothing in it may load or frame anything, and the rest says nothing about it. What answers a write is not
/// even looked at, since the door refuses what the pages of others send, and no cache keeps it
/// (<https://www.rfc-editor.org/rfc/rfc9111#section-3>): clients that log a value at a time would read these lines as often as it.
const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'")];
/// What may become a page carries: nothing from elsewhere is loaded, nobody may frame us.
const PAGE: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// All routes behind one door. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    door: Door,
    /// Path -> what answers there, by method. Not axum's router, which boxes and clones its handlers for each request: all that is wanted of
    /// it is the look-up, and that is this crate.
    router: matchit::Router<Vec<Route>>,
}

impl App {
    /// Puts the routes behind the door. Two routes in each other's way are a mistake in the program.
    pub fn new(routes: Routes, door: Door) -> Result<App> {
        let mut router = matchit::Router::new();
        for (path, routes) in routes.by_path()? {
            router.insert(&path, routes).map_err(|e| Fault::internal(format!("the route {path} cannot be added: {e}")))?;
        }
        Ok(App(Arc::new(Inner { door, router })))
    }

    /// Answers one request. Never fails, never panics.
    pub async fn handle(&self, request: Request<Body>) -> Response {
        let Inner { door, router } = &*self.0;
        let looks = request.method().is_safe();
        let refused = |fault| error_response(&fault, error_status, error_body, &door.request_id());
        let mut response = match door.hosts.check(request.uri(), request.headers()) {
            Err(fault) => refused(fault),
            Ok(()) => match router.at(request.uri().path()).map(|found| (found.value, decoded(&found.params))) {
                Ok((routes, params)) => dispatch(routes, door, params, request).await,
                Err(_) => refused(no_route(request.method(), request.uri().path())),
            },
        };
        let written = !looks && response.status().is_success();
        let headers = response.headers_mut();
        let kind = headers.get(header::CONTENT_TYPE).map_or(&[] as &[u8], HeaderValue::as_bytes);
        if kind == crate::grpc::MEDIA_TYPE.as_bytes() {
            // No browser makes anything of it.
            return response;
        }
        let is_json = kind == b"application/json";
        let more = match is_json {
            true if written => &[],
            true => JSON.as_slice(),
            false => &PAGE,
        };
        for (name, value) in ALWAYS.iter().chain(more) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if is_json && written {
            return response;
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

/// Answers a request for a known path.
async fn dispatch(routes: &[Route], door: &Door, params: Result<Vec<(String, String)>>, request: Request<Body>) -> Response {
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(route) = routes.iter().find(|r| r.method == method) else {
        let methods: Vec<&str> = routes.iter().map(|r| r.method.as_str()).collect();
        let fault = Fault::not_found(Code::NO_ROUTE, format!("{} does not answer {}", routes[0].path, request.method()))
            .fix(format!("use {}", methods.join(" or ")));
        let mut response = error_response(&fault, routes[0].status, routes[0].errors, &door.request_id());
        *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        return response;
    };
    let progress = Progress::default();
    let work = AssertUnwindSafe(admitted(route, door, params, request, progress.clone())).catch_unwind();
    let ended =
        if route.streamed { progress.watch(work, route.timeout).await } else { tokio::time::timeout(route.timeout, work).await.ok() };
    let outcome = match ended {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => Err(Fault::internal(format!("{} {} panicked: {}", route.method, route.path, panic_text(&*panic)))),
        None => {
            let waited = route.timeout.as_millis();
            let what = if route.streamed { "stood still for" } else { "took longer than" };
            Err(Fault::new(Kind::Timeout, Code::TIMED_OUT, format!("the request {what} {waited} ms")).fix("try again, or ask for less"))
        }
    };
    outcome.unwrap_or_else(|fault| error_response(&fault, route.status, route.errors, &door.request_id()))
}

/// Admits the caller, then lets the handler work.
async fn admitted(
    route: &Route,
    door: &Door,
    params: Result<Vec<(String, String)>>,
    request: Request<Body>,
    progress: Progress,
) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = door.admit(&parts.headers, route.permission).await?;
    parts.headers.remove(header::AUTHORIZATION);
    parts.headers.remove(header::COOKIE);
    let params = params?;
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > route.body_bytes_max as u64) {
        discard(body).await;
        return Err(too_large(route.body_bytes_max));
    }
    (route.handler)(Call::new(caller, parts, params, body, route.body_bytes_max).counting(progress)).await
}

/// The parameters of a path, with their escapes resolved.
fn decoded(params: &Params<'_, '_>) -> Result<Vec<(String, String)>> {
    let decode = |(key, value): (&str, &str)| match percent_decode_str(value).decode_utf8() {
        Ok(value) => Ok((key.to_owned(), value.into_owned())),
        Err(_) => Err(Fault::invalid(Code::NO_ROUTE, format!("the path cannot be read: `{key}` is not UTF-8 behind its escapes"))
            .fix("escape the bytes of UTF-8 with `%`, and nothing else")),
    };
    params.iter().map(decode).collect()
}

fn no_route(method: &Method, path: &str) -> Fault {
    Fault::not_found(Code::NO_ROUTE, format!("there is no {method} {path}")).fix("GET /openapi.json lists the routes")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
