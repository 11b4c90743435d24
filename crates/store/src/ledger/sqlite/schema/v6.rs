//! Format 6: a trace can be linked to a run before it is told.
//!
//! | table | one row is | written |
//! |---|---|---|
//! | `trace_runs` | a run that a trace was linked to; the trace may still be on its way | once, deleted with the trace |
//!
//! Clients tell traces in the background and link them at once, so the link may come first.

pub(super) const TEXT: &str = "
CREATE TABLE trace_runs_6 (
    trace TEXT NOT NULL,
    run   TEXT NOT NULL,
    PRIMARY KEY (trace, run)
);
INSERT INTO trace_runs_6 (trace, run) SELECT trace, run FROM trace_runs;
DROP TABLE trace_runs;
ALTER TABLE trace_runs_6 RENAME TO trace_runs;
";
