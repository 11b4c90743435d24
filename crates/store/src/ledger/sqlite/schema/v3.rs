//! Format 3: registered models and artifacts.
//!
//! | table | one row is | written |
//! |---|---|---|
//! | `registered_models` | a name for an asset `models.*` | registered, renamed, described; deleted |
//! | `registered_model_tags` | a tag of it | set, removed |
//! | `model_version_notes` | what is said about a version of such an asset; every one has a row | with the version; described, staged, hidden |
//! | `model_version_tags` | a tag of it | set, removed |
//! | `artifacts` | an uploaded file: its key and the blob behind it | put, linked; deleted |
//!
//! What the project trained before this format is registered by the migration, as `finish` does it from now on.
//! `WITHOUT ROWID` is the one word that PostgreSQL lacks; it may be left out.

pub(super) const TEXT: &str = "
CREATE TABLE registered_models (
    asset       TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX registered_models_by_update ON registered_models (updated_at, name);

CREATE TABLE registered_model_tags (
    asset TEXT NOT NULL REFERENCES registered_models (asset),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (asset, name)
);

CREATE TABLE model_version_notes (
    asset       TEXT NOT NULL,
    number      BIGINT NOT NULL,
    source      TEXT NOT NULL,
    run         TEXT,
    run_link    TEXT,
    model       TEXT,
    description TEXT NOT NULL,
    user_name   TEXT,
    stage       TEXT NOT NULL,
    updated_at  BIGINT NOT NULL,
    deleted     BIGINT NOT NULL,
    PRIMARY KEY (asset, number),
    FOREIGN KEY (asset, number) REFERENCES versions (asset, number)
);
CREATE INDEX model_version_notes_by_run    ON model_version_notes (run);
CREATE INDEX model_version_notes_by_stage  ON model_version_notes (asset, deleted, stage, number);
CREATE INDEX model_version_notes_by_update ON model_version_notes (updated_at);

CREATE TABLE model_version_tags (
    asset  TEXT NOT NULL,
    number BIGINT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (asset, number, name),
    FOREIGN KEY (asset, number) REFERENCES model_version_notes (asset, number)
);

CREATE TABLE artifacts (
    key    TEXT PRIMARY KEY NOT NULL,
    digest TEXT NOT NULL,
    bytes  BIGINT NOT NULL,
    at     BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX artifacts_by_digest ON artifacts (digest);

INSERT INTO registered_models (asset, name, description, created_at, updated_at)
    SELECT asset, substr(asset, 8), '', min(made_at), max(made_at) FROM versions
    WHERE asset >= 'models.' AND asset < 'models/' GROUP BY asset;
INSERT INTO model_version_notes (asset, number, source, run, description, stage, updated_at, deleted)
    SELECT asset, number, 'gristmill:' || asset || '@' || number, run, '', 'None', made_at, 0 FROM versions
    WHERE asset >= 'models.' AND asset < 'models/';
";
