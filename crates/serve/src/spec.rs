//! What the user writes about an endpoint, as far as answering goes. Travels inside each deployment.

use gristmill_kernel::{ModelChoice, Name, Span};

/// How an endpoint answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServeSpec {
    /// The endpoint.
    pub endpoint: Name,
    /// The model.
    pub model: ModelChoice,
    /// The views its model reads, in order; a registered model reads none.
    pub views: Vec<Name>,
    /// The entity's columns; none where the model is registered, which takes its own columns.
    pub entity: Vec<String>,
    /// How long an answer may be reused.
    pub cache: Option<Span>,
    /// Longest time of one request.
    pub timeout: Span,
    /// Requests in flight before new ones are refused.
    pub in_flight: u32,
    /// How rows of several requests share a call of the model; not at all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batching>,
}

/// How rows of several requests share a call of the model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Batching {
    /// Most rows of a call. A request with more is a call of its own.
    pub rows: usize,
    /// Longest wait of a request for others to come.
    pub delay: Span,
}
