//! Format 2: experiment tracking.
//!
//! What hangs on a run and is searched (metrics, parameters, tags) is keyed by the run's number instead of its id: 8 bytes instead of 32 in
//! every row and index. These tables have no foreign key to `runs`: whoever writes them has looked the run up in the same transaction, and
//! a check per point would double the cost of logging. They are clustered by their keys (`WITHOUT ROWID`; PostgreSQL leaves the words away).
//!
//! A point of a metric is its whole key, so that writing it again finds it there. NaN cannot be part of a key in SQL, so `run_metrics` and
//! `logged_model_metrics` keep it as 0 with `nan` = 1; in `run_metrics_latest` it is NULL, which no comparison finds and every order puts last.
//!
//! The index over parameters and tags takes the first 64 characters of a value, since values are as long as clients like.

pub(super) const TEXT: &str = "
CREATE TABLE numbers (
    name TEXT PRIMARY KEY NOT NULL,
    last BIGINT NOT NULL
);

CREATE TABLE experiments (
    id                BIGINT PRIMARY KEY NOT NULL,
    name              TEXT NOT NULL UNIQUE,
    address           TEXT UNIQUE,
    artifact_location TEXT NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    deleted_at        BIGINT
);

CREATE TABLE experiment_tags (
    experiment BIGINT NOT NULL REFERENCES experiments (id),
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (experiment, name)
) WITHOUT ROWID;

INSERT INTO experiments (id, name, artifact_location, created_at, updated_at) VALUES (0, 'Default', 'mlflow-artifacts:/0', 0, 0);

INSERT INTO experiments (id, name, address, artifact_location, created_at, updated_at)
SELECT number, substr(address, 8), address, 'mlflow-artifacts:/' || number, first, last
FROM (
    SELECT address, row_number() OVER (ORDER BY min(seq)) AS number, min(submitted_at) AS first, max(submitted_at) AS last
    FROM runs WHERE stage = 'train' AND address LIKE 'models.%' GROUP BY address
) AS trained;

INSERT INTO numbers (name, last) SELECT 'experiments', max(id) FROM experiments;

ALTER TABLE runs ADD COLUMN by_client BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN experiment BIGINT;
ALTER TABLE runs ADD COLUMN run_name TEXT;
ALTER TABLE runs ADD COLUMN user_name TEXT;
ALTER TABLE runs ADD COLUMN deleted_at BIGINT;

UPDATE runs SET
    experiment = (SELECT e.id FROM experiments e WHERE e.address = runs.address),
    run_name = substr(address, 8) || '-' || substr(id, 1, 8),
    user_name = actor
WHERE stage = 'train' AND address LIKE 'models.%';

CREATE INDEX runs_by_experiment ON runs (experiment, deleted_at, started_at DESC, id) WHERE experiment IS NOT NULL;
CREATE INDEX runs_to_do ON runs (status, due_at, seq) WHERE by_client = 0;

ALTER TABLE run_params RENAME TO run_params_1;
CREATE TABLE run_params (
    run   BIGINT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO run_params (run, name, value) SELECT r.seq, o.name, o.value FROM run_params_1 o JOIN runs r ON r.id = o.run ORDER BY r.seq, o.name;
DROP TABLE run_params_1;
CREATE INDEX run_params_by_value ON run_params (name, substr(value, 1, 64));

ALTER TABLE run_tags RENAME TO run_tags_1;
CREATE TABLE run_tags (
    run   BIGINT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO run_tags (run, name, value) SELECT r.seq, o.name, o.value FROM run_tags_1 o JOIN runs r ON r.id = o.run ORDER BY r.seq, o.name;
DROP TABLE run_tags_1;
INSERT INTO run_tags (run, name, value) SELECT seq, 'mlflow.runName', run_name FROM runs WHERE experiment IS NOT NULL ON CONFLICT DO NOTHING;
INSERT INTO run_tags (run, name, value) SELECT seq, 'mlflow.user', user_name FROM runs WHERE experiment IS NOT NULL ON CONFLICT DO NOTHING;
INSERT INTO run_tags (run, name, value) SELECT seq, 'mlflow.source.name', address FROM runs WHERE experiment IS NOT NULL ON CONFLICT DO NOTHING;
INSERT INTO run_tags (run, name, value) SELECT seq, 'mlflow.source.type', 'JOB' FROM runs WHERE experiment IS NOT NULL ON CONFLICT DO NOTHING;
CREATE INDEX run_tags_by_value ON run_tags (name, substr(value, 1, 64));

ALTER TABLE run_metrics RENAME TO run_metrics_1;
ALTER TABLE run_metrics_latest RENAME TO run_metrics_latest_1;
CREATE TABLE run_metrics (
    run   BIGINT NOT NULL,
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    nan   BIGINT NOT NULL,
    PRIMARY KEY (run, name, step, at, value, nan)
) WITHOUT ROWID;
INSERT INTO run_metrics (run, name, step, at, value, nan)
SELECT r.seq, o.name, o.step, o.at, coalesce(o.value, 0), CASE WHEN o.value IS NULL THEN 1 ELSE 0 END
FROM run_metrics_1 o JOIN runs r ON r.id = o.run ORDER BY r.seq, o.name, o.step;

CREATE TABLE run_metrics_latest (
    run   BIGINT NOT NULL,
    name  TEXT NOT NULL,
    step  BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO run_metrics_latest (run, name, step, at, value)
SELECT r.seq, o.name, o.step, m.at, o.value
FROM run_metrics_latest_1 o JOIN runs r ON r.id = o.run JOIN run_metrics_1 m ON m.run = o.run AND m.name = o.name AND m.step = o.step
ORDER BY r.seq, o.name;
DROP TABLE run_metrics_latest_1;
DROP TABLE run_metrics_1;
CREATE INDEX run_metrics_latest_by_value ON run_metrics_latest (name, value);

CREATE TABLE datasets (
    id          BIGINT PRIMARY KEY NOT NULL,
    experiment  BIGINT NOT NULL REFERENCES experiments (id),
    name        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    source_type TEXT NOT NULL,
    source      TEXT NOT NULL,
    schema      TEXT,
    profile     TEXT,
    UNIQUE (experiment, name, digest)
);

CREATE TABLE run_datasets (
    run      BIGINT NOT NULL REFERENCES runs (seq),
    dataset  BIGINT NOT NULL REFERENCES datasets (id),
    position BIGINT NOT NULL,
    PRIMARY KEY (run, dataset)
) WITHOUT ROWID;
CREATE INDEX run_datasets_by_dataset ON run_datasets (dataset);

CREATE TABLE run_dataset_tags (
    run     BIGINT NOT NULL,
    dataset BIGINT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (run, dataset, name)
) WITHOUT ROWID;

CREATE TABLE run_models (
    run      BIGINT NOT NULL REFERENCES runs (seq),
    role     TEXT NOT NULL,
    model    TEXT NOT NULL,
    step     BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (run, role, model)
) WITHOUT ROWID;

CREATE TABLE logged_models (
    id             TEXT PRIMARY KEY NOT NULL,
    experiment     BIGINT NOT NULL REFERENCES experiments (id),
    name           TEXT NOT NULL,
    model_type     TEXT,
    source_run     TEXT,
    status         TEXT NOT NULL,
    status_message TEXT,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    deleted_at     BIGINT
);
CREATE INDEX logged_models_by_experiment ON logged_models (experiment, deleted_at, created_at DESC, id);
CREATE INDEX logged_models_by_name ON logged_models (name);

CREATE TABLE logged_model_params (
    model TEXT NOT NULL REFERENCES logged_models (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, name)
) WITHOUT ROWID;

CREATE TABLE logged_model_tags (
    model TEXT NOT NULL REFERENCES logged_models (id),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, name)
) WITHOUT ROWID;

CREATE TABLE logged_model_metrics (
    model   TEXT NOT NULL,
    name    TEXT NOT NULL,
    step    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    run     TEXT NOT NULL,
    value   DOUBLE PRECISION NOT NULL,
    nan     BIGINT NOT NULL,
    dataset TEXT NOT NULL,
    digest  TEXT NOT NULL,
    PRIMARY KEY (model, name, step, at, run, value, nan, dataset, digest)
) WITHOUT ROWID;
CREATE INDEX logged_model_metrics_by_run ON logged_model_metrics (run);
";
