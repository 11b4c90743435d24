//! What the user writes about an endpoint, as far as answering goes. Travels inside each deployment.

use gristmill_kernel::{Name, Span};

/// How an endpoint answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServeSpec {
    /// The endpoint.
    pub endpoint: Name,
    /// The model.
    pub model: Name,
    /// The views its model reads, in order.
    pub views: Vec<Name>,
    /// The entity's columns.
    pub entity: Vec<String>,
    /// How long an answer may be reused.
    pub cache: Option<Span>,
    /// Longest time of one request.
    pub timeout: Span,
    /// Requests in flight before new ones are refused.
    pub in_flight: u32,
}
