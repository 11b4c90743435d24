//! Format 4: traces, what is said about them, and evaluation datasets.
//!
//! | table | one row is | written |
//! |---|---|---|
//! | `traces` | a trace without its spans; times in microseconds, `took_ms` in milliseconds | told, told again, deleted |
//! | `trace_tags`, `trace_metadata` | a tag, an entry of the metadata | with the trace; tags later too |
//! | `trace_runs`, `trace_prompts` | a run the trace was linked to, a prompt it used | once |
//! | `spans` | a span; `content` is what no column has, as JSON; `usage` and `cost` repeat two attributes so that sums need no content | told, told again |
//! | `assessments` | an assessment; `value`, `error` and `metadata` are JSON | made, changed, deleted |
//! | `evaluation_datasets` | a dataset | made, changed, deleted |
//! | `evaluation_dataset_tags`, `evaluation_dataset_experiments` | a tag; an experiment, `added` counts up | set, removed |
//! | `evaluation_records` | a record; `identity` is the digest of its inputs, what it says is JSON | given, given again, deleted |
//!
//! What hangs on a trace or a dataset goes with it. Experiments and runs are named, not referenced: a trace may outlive its run.

pub(super) const TEXT: &str = "
CREATE TABLE traces (
    id               TEXT PRIMARY KEY NOT NULL,
    experiment       BIGINT NOT NULL,
    requested_at     BIGINT NOT NULL,
    took_ms          BIGINT,
    state            TEXT NOT NULL,
    client_request   TEXT,
    request_preview  TEXT,
    response_preview TEXT
);
CREATE INDEX traces_by_experiment ON traces (experiment, requested_at, id);

CREATE TABLE trace_tags (
    trace TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace, name)
);

CREATE TABLE trace_metadata (
    trace TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace, name)
);

CREATE TABLE trace_runs (
    trace TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    run   TEXT NOT NULL,
    PRIMARY KEY (trace, run)
);

CREATE TABLE trace_prompts (
    trace  TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    prompt TEXT NOT NULL,
    PRIMARY KEY (trace, prompt)
);

CREATE TABLE spans (
    trace      TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    id         TEXT NOT NULL,
    parent     TEXT,
    name       TEXT NOT NULL,
    kind       TEXT,
    status     TEXT NOT NULL,
    started_ns BIGINT NOT NULL,
    ended_ns   BIGINT,
    usage      TEXT,
    cost       TEXT,
    content    TEXT NOT NULL,
    PRIMARY KEY (trace, id)
);

CREATE TABLE assessments (
    trace      TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    error      TEXT,
    source     TEXT NOT NULL,
    source_id  TEXT,
    span       TEXT,
    rationale  TEXT,
    metadata   TEXT NOT NULL,
    overrides  TEXT,
    valid      BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (trace, id)
);

CREATE TABLE evaluation_datasets (
    id         TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    fields     TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    created_by TEXT,
    updated_by TEXT
);

CREATE TABLE evaluation_dataset_tags (
    dataset TEXT NOT NULL REFERENCES evaluation_datasets (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (dataset, name)
);

CREATE TABLE evaluation_dataset_experiments (
    dataset    TEXT NOT NULL REFERENCES evaluation_datasets (id) ON DELETE CASCADE,
    experiment BIGINT NOT NULL,
    added      BIGINT NOT NULL,
    PRIMARY KEY (dataset, experiment)
);
CREATE INDEX evaluation_dataset_experiments_by_experiment ON evaluation_dataset_experiments (experiment, dataset);

CREATE TABLE evaluation_records (
    id           TEXT PRIMARY KEY NOT NULL,
    dataset      TEXT NOT NULL REFERENCES evaluation_datasets (id) ON DELETE CASCADE,
    identity     TEXT NOT NULL,
    inputs       TEXT NOT NULL,
    outputs      TEXT,
    expectations TEXT,
    tags         TEXT NOT NULL,
    source       TEXT,
    source_data  TEXT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    created_by   TEXT,
    updated_by   TEXT,
    UNIQUE (dataset, identity)
);
CREATE INDEX evaluation_records_by_dataset ON evaluation_records (dataset, created_at, id);
";
