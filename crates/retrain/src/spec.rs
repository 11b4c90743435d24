//! What the user writes about when a model is trained again.

use gristmill_kernel::{Name, Span};

/// `retrain = { every = "7d", when = "drift or new_rows > 100000", cooldown = "1h" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RetrainSpec {
    /// The model.
    pub model: Name,
    /// The endpoint whose monitor is listened to, if there is one.
    pub endpoint: Option<Name>,
    /// Since the last training: a span (`7d`) or a cron line (`0 3 * * 1`), in UTC.
    pub every: Option<String>,
    /// A SQL boolean over `drift` (the last monitor run said so), `quality_drop`, `mismatch_rate`, `new_rows`,
    /// `new_labels`, `age_hours`.
    pub when: Option<String>,
    /// Least time between two trainings that nobody asked for.
    pub cooldown: Span,
}
