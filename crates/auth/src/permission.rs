//! What a route asks of its caller. A closed list: every route names one of these, and every role says which of them it holds.
//!
//! To add one: a variant here, its place in [`Permission::ALL`], and a decision per role where roles are defined.

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Nothing: anybody may call it (health, the protocol's own liveness).
    Public,
    /// Read runs, versions, aliases, rows and figures of the project.
    ReadProject,
    /// Push rows into a source.
    Ingest,
    /// Ask an endpoint for predictions.
    Predict,
    /// Submit and cancel runs.
    SubmitRun,
    /// Write experiments, tracked runs, logged and registered models, artifacts.
    Track,
    /// Move an alias: promote, roll back.
    MoveAlias,
    /// People, tokens, settings.
    Administer,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Permission; 8] = [
        Permission::Public,
        Permission::ReadProject,
        Permission::Ingest,
        Permission::Predict,
        Permission::SubmitRun,
        Permission::Track,
        Permission::MoveAlias,
        Permission::Administer,
    ];
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Public => "public",
            Permission::ReadProject => "read_project",
            Permission::Ingest => "ingest",
            Permission::Predict => "predict",
            Permission::SubmitRun => "submit_run",
            Permission::Track => "track",
            Permission::MoveAlias => "move_alias",
            Permission::Administer => "administer",
        }
    }
}
