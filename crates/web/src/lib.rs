//! The door: routes with their permission, the caller, error bodies, the accept loop. No business logic.
//!
//! Promises:
//! - [`route`] is the only way to add a route, and it takes a [`Permission`]. [`Routes`] can be walked, so a test can demand
//!   a denied case for each.
//! - A handler gets a [`Call`], which only this crate can make, after [`Doorkeeper::admit`] said yes. The body has not been
//!   read by then; it is read by the handler, up to the route's limit.
//! - A body that may be long is read piece by piece ([`Call::stream`]); its route lives as long as something moves and not a fixed time.
//! - Host and Origin are checked for every method before anything else. Every answer carries a strict content policy.
//! - Every failure leaves as one JSON shape with code, message, fix and an id; the details go to the log under that id.
//! - [`serve`] has a limit for every wait and every count: headers, requests, connections, stopping.
//!
//! To add a route: `route(Method::GET, "/path/{name}", Permission::ReadProject, handler).about("one line")` in the crate
//! that answers it, in its list of [`Routes`]; the binary merges the lists. What it takes and answers stands there too, in the words of [`schema`].

mod answer;
mod app;
mod call;
mod door;
mod error;
pub mod feast;
pub mod grpc;
mod metrics;
mod progress;
mod route;
pub mod schema;
mod server;

#[cfg(test)]
mod tests;

pub use answer::{html, json, json_after, json_status, plain, style};
pub use app::App;
pub use call::{Call, Caller, body_bytes, check_json_depth};
pub use door::{Credentials, Door, Doorkeeper, Hosts};
pub use error::{ErrorShape, ErrorStatus, error_body, error_response, error_schema, error_status, status_of};
pub use metrics::{MetricsPage, label};
pub use progress::Progress;
pub use route::{Answer, Content, ErrorSchema, Handler, Route, Routes, Told, route};
pub use server::{Drained, bind, serve};

pub use axum::body::Body;
pub use axum::response::Response;
pub use gristmill_auth::Permission;
pub use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
