//! The ledger's whole schema on one page.
//!
//! | table | one row is | written |
//! |---|---|---|
//! | `gristmill_format` | the version of this schema | by migrations |
//! | `runs` | a run; `seq` is the number of its first audit line, so newer runs have greater ones; `by_client`: a tracking client drives it | inserted once, updated until it ends |
//! | `run_inputs`, `run_outputs` | a version a run read, made or found unchanged, in order | once |
//! | `run_checks` | a condition behind a run's verdict | when it ends |
//! | `run_params`, `run_tags` | a parameter, a tag | while open |
//! | `run_metrics` | a point of a metric; all of it is the key | while open |
//! | `run_metrics_latest` | the point with the greatest step, so that lists and searches need no history; NULL is NaN | with `run_metrics` |
//! | `experiments`, `experiment_tags` | a group of `train` runs; `address` is the asset whose runs they are | made, renamed, deleted softly |
//! | `datasets` | a dataset as clients describe it, per experiment | once |
//! | `run_datasets`, `run_dataset_tags` | that a run read a dataset, and what for | once |
//! | `run_models` | that a run read or made a logged model | once |
//! | `logged_models`, `logged_model_params`, `logged_model_tags`, `logged_model_metrics` | a model that a run logged | until it is registered or deleted |
//! | `numbers` | the last number given to things whose numbers are never given again | with them |
//! | `registered_models`, `registered_model_tags` | a name for an asset `models.*` | registered, renamed, described; deleted |
//! | `model_version_notes`, `model_version_tags` | what is said about a version of such an asset | with the version; described, staged, hidden |
//! | `artifacts` | an uploaded file: its key and the blob behind it | put, linked; deleted |
//! | `versions` | an immutable version; `number` counts from 1 per asset without gaps | when its run ends |
//! | `aliases` | where an alias stands | moves |
//! | `alias_moves` | a move; `seq` is its audit line | once |
//! | `tokens` | an API token's hash | made, revoked |
//! | `webhooks` | an address that is told what happens in the registry; `secret` is sealed | written, replaced, removed |
//! | `audit` | a line of the hash chain; `run` repeats `detail.run` for look-ups | once |
//!
//! Rules: times are microseconds since 1970; digests, addresses and words are the text the kernel prints; JSON is text. Every statement
//! is portable to PostgreSQL (`$1` placeholders, no SQLite-only function), which is why there is no `STRICT` and no `rowid`. Tracking makes
//! two exceptions: `?` placeholders where a statement takes hundreds of values, and `GLOB` for a `LIKE` that minds case.
//!
//! Tables that later formats added are told about beside their migration: [`v4`] (traces, evaluation datasets), [`v6`] (links of traces).
//!
//! To change it: append a migration. Never edit one that was released: golden ledgers of each version open in the tests.

mod v2;
mod v3;
mod v4;
mod v6;

/// Each migration brings the schema from the version before to its own.
pub(super) const MIGRATIONS: &[(i64, &str)] =
    &[(1, V1), (2, v2::TEXT), (3, v3::TEXT), (4, v4::TEXT), (5, super::webhooks::V5), (6, v6::TEXT)];

/// The version this binary writes.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

pub(super) const V1: &str = "
CREATE TABLE runs (
    id           TEXT PRIMARY KEY NOT NULL,
    seq          BIGINT NOT NULL UNIQUE,
    stage        TEXT NOT NULL,
    address      TEXT NOT NULL,
    spec         TEXT NOT NULL,
    work_key     TEXT NOT NULL,
    parent       TEXT,
    actor        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    idempotency  TEXT UNIQUE,
    status       TEXT NOT NULL,
    verdict      TEXT,
    skipped_for  TEXT,
    summary      TEXT NOT NULL,
    error        TEXT,
    attempt      BIGINT NOT NULL,
    cancel_asked BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    started_at   BIGINT,
    ended_at     BIGINT,
    worker       TEXT,
    lease_until  BIGINT
);
CREATE INDEX runs_by_address ON runs (address, seq);
CREATE INDEX runs_by_stage   ON runs (stage, seq);
CREATE INDEX runs_by_status  ON runs (status, due_at, seq);
CREATE INDEX runs_by_parent  ON runs (parent, seq);
CREATE INDEX runs_by_key     ON runs (work_key, status, seq);

CREATE TABLE versions (
    asset     TEXT NOT NULL,
    number    BIGINT NOT NULL,
    digest    TEXT NOT NULL,
    place     TEXT NOT NULL,
    row_count BIGINT,
    meta      TEXT NOT NULL,
    run       TEXT NOT NULL REFERENCES runs (id),
    made_at   BIGINT NOT NULL,
    PRIMARY KEY (asset, number)
);
CREATE INDEX versions_by_run ON versions (run);

CREATE TABLE run_inputs (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    asset    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    PRIMARY KEY (run, position)
);
CREATE INDEX run_inputs_by_version ON run_inputs (asset, number);

CREATE TABLE run_outputs (
    run      TEXT NOT NULL REFERENCES runs (id),
    position BIGINT NOT NULL,
    asset    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    PRIMARY KEY (run, position),
    FOREIGN KEY (asset, number) REFERENCES versions (asset, number)
);
CREATE INDEX run_outputs_by_version ON run_outputs (asset, number);

CREATE TABLE run_checks (
    run       TEXT NOT NULL REFERENCES runs (id),
    position  BIGINT NOT NULL,
    condition TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    observed  TEXT NOT NULL,
    PRIMARY KEY (run, position)
);

CREATE TABLE run_params (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE run_tags (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE run_metrics (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    value DOUBLE PRECISION,
    at    BIGINT NOT NULL,
    PRIMARY KEY (run, name, step)
);

CREATE TABLE run_metrics_latest (
    run   TEXT NOT NULL REFERENCES runs (id),
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (run, name)
);
CREATE INDEX run_metrics_latest_by_value ON run_metrics_latest (name, value);

CREATE TABLE aliases (
    asset    TEXT NOT NULL,
    alias    TEXT NOT NULL,
    number   BIGINT NOT NULL,
    previous BIGINT,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    run      TEXT,
    moved_at BIGINT NOT NULL,
    PRIMARY KEY (asset, alias),
    FOREIGN KEY (asset, number) REFERENCES versions (asset, number)
);

CREATE TABLE alias_moves (
    seq      BIGINT PRIMARY KEY NOT NULL,
    asset    TEXT NOT NULL,
    alias    TEXT NOT NULL,
    number   BIGINT,
    previous BIGINT,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    run      TEXT,
    moved_at BIGINT NOT NULL
);
CREATE INDEX alias_moves_by_alias ON alias_moves (asset, alias, seq);

CREATE TABLE tokens (
    name       TEXT PRIMARY KEY NOT NULL,
    hash       TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE audit (
    seq     BIGINT PRIMARY KEY NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    run     TEXT,
    detail  TEXT NOT NULL,
    hash    TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject, seq);
CREATE INDEX audit_by_run     ON audit (run, seq);
";
