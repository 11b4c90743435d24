//! Routes as values: a list that crates hand over, that the binary merges and that tests walk.

use crate::call::Call;
use crate::error::{ErrorShape, ErrorStatus, error_body, error_status};
use axum::response::Response;
use futures::future::BoxFuture;
use gristmill_auth::Permission;
use gristmill_kernel::limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT_MS};
use gristmill_kernel::{Fault, Result};
use http::Method;
use std::collections::BTreeMap;
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
    pub(crate) streamed: bool,
    pub(crate) errors: ErrorShape,
    pub(crate) status: ErrorStatus,
    pub(crate) handler: Handler,
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
    /// Errors in the shape of another protocol, those from before the handler too.
    #[must_use]
    pub fn errors(mut self, shape: ErrorShape) -> Route {
        self.errors = shape;
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
