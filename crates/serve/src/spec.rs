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
}
