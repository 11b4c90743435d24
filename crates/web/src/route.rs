//! Routes as values: a list that crates hand over, that the binary merges and that tests walk.

use crate::call::Call;
use crate::error::{ErrorShape, ErrorStatus, error_body, error_schema, error_status};
use axum::response::Response;
use futures::future::BoxFuture;
use gristmill_auth::Permission;
use gristmill_kernel::limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT_MS};
use gristmill_kernel::{Code, Fault, Kind, Result};
use http::{Method, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What answers a route.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Response>> + Send + Sync>;

/// One route: the only thing an [`crate::App`] is made of. Made by [`route`].
#[derive(Clone)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path with its parameters in braces: `/predict/{endpoint}`.
    pub path: String,
    /// What the caller must be allowed to do.
    pub permission: Permission,
    /// One line for people: what it does.
    pub about: String,
    /// Largest body in bytes.
    pub body_bytes_max: usize,
    /// Longest time from the end of the headers to the answer; of a streamed route, the longest time in which nothing moves.
    pub timeout: Duration,
    /// What it says of itself. Copies of a route share it: a server has hundreds of routes, and describes them when somebody asks.
    pub told: Arc<Told>,
    pub(crate) streamed: bool,
    pub(crate) errors: ErrorShape,
    pub(crate) status: ErrorStatus,
    pub(crate) handler: Handler,
}

/// What a route says of itself, for `/openapi.json`.
#[derive(Debug, Clone)]
pub struct Told {
    /// What a body may be: media type and schema. Empty where none is read.
    pub takes: Vec<(&'static str, Value)>,
    /// What may stand behind `?`: name and schema.
    pub asks: Vec<(&'static str, Value)>,
    /// What is answered when all is well.
    pub answers: Vec<Answer>,
    /// What a failure looks like.
    pub error: ErrorSchema,
    fails: Vec<(Kind, Code)>,
}

/// What failures look like in one protocol.
#[derive(Debug, Clone, Copy)]
pub struct ErrorSchema {
    /// Its name among the schemas of `/openapi.json`; one protocol, one name.
    pub name: &'static str,
    /// The schema.
    pub schema: fn() -> Value,
}

/// One way in which a route answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What comes with it.
    pub content: Content,
}

/// What comes with an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// JSON that looks like this.
    Json(Value),
    /// A body of one type.
    Media(&'static str),
    /// A body of any type.
    Anything,
    /// No body.
    Nothing,
}

/// Adds a route: the only way. The handler owns what it needs by closure capture:
///
/// ```ignore
/// route(Method::GET, "/api/v1/runs/{id}", Permission::ReadProject, move |call| { let ports = ports.clone(); async move { one_run(&ports, call).await } })
/// ```
pub fn route<H, F>(method: Method, path: &str, permission: Permission, handler: H) -> Route
where
    H: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response>> + Send + 'static,
{
    Route {
        method,
        path: path.to_owned(),
        permission,
        about: String::new(),
        body_bytes_max: BODY_BYTES_MAX,
        timeout: Duration::from_millis(REQUEST_TIMEOUT_MS),
        told: Arc::new(Told {
            takes: Vec::new(),
            asks: Vec::new(),
            answers: Vec::new(),
            error: ErrorSchema { name: "Error", schema: error_schema },
            fails: Vec::new(),
        }),
        streamed: false,
        errors: error_body,
        status: error_status,
        handler: Arc::new(move |call| Box::pin(handler(call))),
    }
}

impl Route {
    /// One line for people; it becomes the summary in `/openapi.json`.
    #[must_use]
    pub fn about(mut self, line: &str) -> Route {
        self.about = line.to_owned();
        self
    }
    /// Another limit for the body.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Route {
        self.body_bytes_max = bytes;
        self
    }
    /// Another limit for the whole request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Route {
        self.timeout = timeout;
        self
    }
    /// The body is as long as it is and is read with [`Call::stream`]: the route's time is how long nothing may move.
    #[must_use]
    pub fn streamed(mut self) -> Route {
        self.streamed = true;
        self
    }
    /// A body of JSON that is read.
    #[must_use]
    pub fn takes(self, schema: Value) -> Route {
        self.takes_media("application/json", schema)
    }
    /// A body of another type that is read; null is bytes.
    #[must_use]
    pub fn takes_media(mut self, media_type: &'static str, schema: Value) -> Route {
        self.told().takes.push((media_type, schema));
        self
    }
    /// A name that may stand behind `?`.
    #[must_use]
    pub fn asks(mut self, name: &'static str, schema: Value) -> Route {
        self.told().asks.push((name, schema));
        self
    }
    /// 200 with JSON.
    #[must_use]
    pub fn gives(self, schema: Value) -> Route {
        self.gives_status(StatusCode::OK, schema)
    }
    /// JSON with a status.
    #[must_use]
    pub fn gives_status(self, status: StatusCode, schema: Value) -> Route {
        self.answering(status, Content::Json(schema))
    }
    /// 200 with a body that is no JSON.
    #[must_use]
    pub fn gives_media(self, media_type: &'static str) -> Route {
        self.answering(StatusCode::OK, Content::Media(media_type))
    }
    /// A body of any type is read, and no other.
    #[must_use]
    pub fn takes_anything(mut self) -> Route {
        self.told().takes = vec![("application/octet-stream", Value::Null)];
        self
    }
    /// 200 with a body of any type, and no other answer.
    #[must_use]
    pub fn gives_anything(mut self) -> Route {
        self.told().answers.clear();
        self.answering(StatusCode::OK, Content::Anything)
    }
    /// A status without a body, and no other answer.
    #[must_use]
    pub fn gives_nothing(mut self, status: StatusCode) -> Route {
        self.told().answers.clear();
        self.answering(status, Content::Nothing)
    }
    fn told(&mut self) -> &mut Told {
        Arc::make_mut(&mut self.told)
    }
    fn answering(mut self, status: StatusCode, content: Content) -> Route {
        self.told().answers.push(Answer { status, content });
        self
    }
    /// Failures of this route besides those that its form allows: see [`Route::error_statuses`].
    #[must_use]
    pub fn fails<const N: usize>(mut self, with: [Kind; N]) -> Route {
        self.told().fails.extend(with.map(|kind| (kind, Code::BAD_VALUE)));
        self
    }
    /// What is asked here may be a part that this server does not have.
    #[must_use]
    pub fn lacks_parts(mut self) -> Route {
        self.told().fails.push((Kind::Invalid, Code::NOT_SUPPORTED));
        self
    }
    /// The statuses of failures: what the door, the path and the body may be refused with follows from them, what the handler may say besides is
    /// declared, and anything can be away, late or broken.
    pub fn error_statuses(&self) -> BTreeSet<StatusCode> {
        // The door refuses a host or a page that is not ours.
        let mut kinds = vec![Kind::Denied, Kind::Internal, Kind::Unavailable, Kind::Timeout];
        kinds.extend((self.permission != Permission::Public).then_some(Kind::Unauthenticated));
        kinds.extend(self.path.contains('{').then_some([Kind::NotFound, Kind::Invalid]).into_iter().flatten());
        kinds.extend((!self.told.asks.is_empty()).then_some(Kind::Invalid));
        kinds.extend((!self.told.takes.is_empty()).then_some([Kind::Invalid, Kind::TooLarge]).into_iter().flatten());
        let declared = self.told.fails.iter().copied();
        kinds
            .into_iter()
            .map(|kind| (kind, Code::BAD_VALUE))
            .chain(declared)
            .map(|(kind, code)| (self.status)(&Fault::new(kind, code, "")))
            .collect()
    }
    /// Errors in the shape of another protocol, those from before the handler too, and what it looks like.
    #[must_use]
    pub fn errors(mut self, shape: ErrorShape, schema: ErrorSchema) -> Route {
        self.errors = shape;
        self.told().error = schema;
        self
    }
    /// Errors with the statuses of another protocol, those from before the handler too.
    #[must_use]
    pub fn error_status(mut self, status: ErrorStatus) -> Route {
        self.status = status;
        self
    }
}

/// A list of routes.
#[derive(Clone, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// An empty list.
    pub fn new() -> Routes {
        Routes::default()
    }
    /// With one more.
    #[must_use]
    pub fn with(mut self, route: Route) -> Routes {
        self.0.push(route);
        self
    }
    /// With all of another crate's.
    #[must_use]
    pub fn merge(mut self, others: Routes) -> Routes {
        self.0.extend(others.0);
        self
    }
    /// Whether one of them answers this at this path.
    pub fn answers(&self, method: &Method, path: &str) -> bool {
        self.0.iter().any(|route| route.method == *method && route.takes_path(path))
    }
    /// Every route, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// By path. Two handlers for one place, or one place with two parameter names, are a mistake in the program.
    pub(crate) fn by_path(self) -> Result<BTreeMap<String, Vec<Route>>> {
        let mut spelling: BTreeMap<String, String> = BTreeMap::new();
        let mut paths: BTreeMap<String, Vec<Route>> = BTreeMap::new();
        for route in self.0 {
            let shape: Vec<&str> = route.path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
            let known = spelling.entry(shape.join("/")).or_insert_with(|| route.path.clone());
            if *known != route.path || !route.path.starts_with('/') {
                return Err(Fault::internal(format!("the routes {known} and {} are in each other's way", route.path)));
            }
            let there = paths.entry(route.path.clone()).or_default();
            if there.iter().any(|r| r.method == route.method) {
                return Err(Fault::internal(format!("two routes answer {} {}", route.method, route.path)));
            }
            there.push(route);
        }
        match clash(&paths) {
            Some((one, other)) => Err(Fault::internal(format!("the routes {one} and {other} are in each other's way"))),
            None => Ok(paths),
        }
    }
}

impl Route {
    /// Whether a path is one of this route's.
    fn takes_path(&self, path: &str) -> bool {
        let (mut parts, mut words) = (self.path.split('/'), path.split('/'));
        loop {
            match (parts.next(), words.next()) {
                (None, None) => return true,
                (Some(part), Some(_)) if part.starts_with("{*") => return true,
                (Some(part), Some(word)) if part == word || (part.starts_with('{') && !word.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

/// A path whose rest is taken whole (`{*path}`) and another with a parameter at that place: the router can have only one of them.
fn clash(paths: &BTreeMap<String, Vec<Route>>) -> Option<(&str, &str)> {
    let greedy = paths.keys().filter_map(|path| Some((path, path.split_once("{*")?.0)));
    greedy.into_iter().find_map(|(path, before)| {
        let other = paths.keys().find(|other| *other != path && other.strip_prefix(before).is_some_and(|rest| rest.starts_with('{')))?;
        Some((path.as_str(), other.as_str()))
    })
}

impl From<Vec<Route>> for Routes {
    fn from(routes: Vec<Route>) -> Routes {
        Routes(routes)
    }
}
impl IntoIterator for Routes {
    type Item = Route;
    type IntoIter = std::vec::IntoIter<Route>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
