//! Every limit of the product in one place. Sizes in bytes, times in milliseconds, unless named otherwise.

/// Longest name of an asset, in characters.
pub const NAME_CHARS_MAX: usize = 63;
/// Longest name of an alias, in characters.
pub const ALIAS_CHARS_MAX: usize = 255;
/// How much of a refused body is read on, so that the sender meets the answer.
pub const DISCARDED_BYTES_MAX: usize = 64 << 20;
/// How long a refused body is read on.
pub const DISCARD_TIMEOUT_MS: u64 = 3_000;
/// Largest HTTP body of a control or prediction request.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Largest body of one `POST /ingest/SOURCE`.
pub const INGEST_BODY_BYTES_MAX: usize = 32 << 20;
/// Most rows in one `POST /ingest/SOURCE`.
pub const INGEST_ROWS_MAX: usize = 100_000;
/// Deepest JSON accepted from outside.
pub const JSON_DEPTH_MAX: usize = 64;
/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 200;
/// Events waiting in one source's journal before pushes are refused with 429.
pub const JOURNAL_ROWS_MAX: u64 = 5_000_000;
/// Rows taken from a journal into one table commit.
pub const JOURNAL_DRAIN_ROWS_MAX: usize = 200_000;
/// Most rows in one prediction request.
pub const PREDICT_ROWS_MAX: usize = 10_000;
/// Most different fields beside the entity in one prediction request.
pub const PREDICT_FIELDS_MAX: usize = 256;
/// Time of scoring, as the model has shown it, from which a request computes off the threads that answer requests; in microseconds.
pub const SCORING_INLINE_MICROS_MAX: u64 = 500;
/// Rows of one prediction request from which it does so where the model has shown nothing yet.
pub const PREDICT_ROWS_INLINE_MAX: usize = 256;
/// Copies of requests that one endpoint shows to a version at the same time; more are not shown, and counted.
pub const COPIES_MAX: usize = 16;
/// Answers kept by the prediction cache of one endpoint.
pub const PREDICTION_CACHE_ROWS_MAX: u64 = 100_000;
/// Predictions waiting to be written; beyond it the oldest wait is shortened and new ones are refused.
pub const PREDICTION_BUFFER_ROWS_MAX: usize = 200_000;
/// Prediction requests in flight per endpoint.
pub const PREDICT_IN_FLIGHT_MAX: usize = 256;
/// Longest time one prediction may take.
pub const PREDICT_TIMEOUT_MS: u64 = 10_000;
/// Open TCP connections.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Requests of one connection of HTTP/2 that are answered at once.
pub const HTTP2_STREAMS_MAX: u32 = 256;
/// Bytes of the headers of one of them.
pub const HTTP2_HEADER_BYTES_MAX: u32 = 64 << 10;
/// Longest wait for a request's headers.
pub const HEADER_READ_TIMEOUT_MS: u64 = 10_000;
/// Longest wait for a whole request.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// Longest wait for requests in flight when stopping.
pub const DRAIN_TIMEOUT_MS: u64 = 20_000;
/// Memory of one query.
pub const QUERY_MEMORY_BYTES_MAX: usize = 8 << 30;
/// Rows of a stored table that a view holds at a time while it is answered for many entities: more are read in passes.
pub const AS_OF_BYTES_MAX: usize = 2 << 30;
/// Longest time of one ad-hoc query (`gristmill sql`).
pub const QUERY_TIMEOUT_MS: u64 = 600_000;
/// Rows printed by an ad-hoc query unless asked for more.
pub const QUERY_ROWS_SHOWN: usize = 100;
/// Longest SQL text of a feature, label or condition.
pub const SQL_CHARS_MAX: usize = 100_000;
/// Rows per record batch.
pub const BATCH_ROWS: usize = 8_192;
/// Distinct values kept of a text column in a model's dictionary; the rest become "other".
pub const CATEGORIES_MAX: usize = 1_000;
/// Bins of a reference histogram.
pub const DRIFT_BINS: usize = 10;
/// Least predictions in a window before drift is judged; fewer is inconclusive.
pub const DRIFT_ROWS_MIN: usize = 200;
/// Distinct values kept by a column profile.
pub const PROFILE_TOP_VALUES: usize = 20;
/// How often a step is tried when its failure is transient.
pub const STEP_ATTEMPTS_MAX: u32 = 4;
/// First wait before a retry; doubles each time.
pub const STEP_BACKOFF_MS: u64 = 500;
/// Longest time of one step.
pub const STEP_TIMEOUT_MS: u64 = 6 * 60 * 60 * 1_000;
/// How long a lease on a run lasts without renewal.
pub const LEASE_MS: u64 = 30_000;
/// Runs waiting in the queue.
pub const QUEUE_RUNS_MAX: u64 = 10_000;
/// Largest model file.
pub const MODEL_BYTES_MAX: usize = 512 << 20;
/// Largest blob read into memory.
pub const BLOB_BYTES_MAX: usize = 4 << 30;
/// Longest wait for a webhook's answer.
pub const WEBHOOK_TIMEOUT_MS: u64 = 5_000;
/// Trials of one tuning.
pub const TUNE_TRIALS_MAX: u32 = 10_000;
/// Longest record of a CSV or JSON lines file; a quote that is never closed ends here and not at the end of the disk.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// Bytes of rows gathered into one record batch before it is closed early.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Bytes of rows (in memory) that one load of an event source commits at once; larger inputs are committed in several loads.
pub const LOAD_BYTES_MAX: usize = 1 << 30;
/// Files that one source may name.
pub const SOURCE_FILES_MAX: usize = 100_000;
/// Columns of one source.
pub const SOURCE_COLUMNS_MAX: usize = 4_096;
/// Distinct values a column profile counts exactly; beyond it the count is an estimate, good to about 2 %.
pub const PROFILE_DISTINCT_MAX: usize = 2_048;
/// Numbers a column profile keeps for its quantiles.
pub const PROFILE_SAMPLE_MAX: usize = 2_048;
/// Texts a column profile counts at the same time to find the most frequent ones.
pub const PROFILE_COUNTED_TEXTS_MAX: usize = 1_024;
/// Characters of a text that a profile shows.
pub const PROFILE_TEXT_CHARS_MAX: usize = 200;
/// How often a commit to a table is started over when another process committed in between. Who is slower than two others that commit all the time loses
/// two of three; with 20 attempts that was the end of one write in some thousands.
pub const TABLE_COMMIT_ATTEMPTS_MAX: u32 = 100;
/// Commits between two checkpoints of a table's log.
pub const TABLE_COMMITS_PER_CHECKPOINT: u32 = 50;
/// Rows in one file of a table.
pub const TABLE_FILE_ROWS_MAX: usize = 4 << 20;
/// Rows of a table that are put in order at once when it is read from end to end; a load is never split, whatever it has.
pub const SCAN_PART_ROWS: usize = 1 << 20;
/// Rows in one row group of a table's file.
pub const TABLE_ROW_GROUP_ROWS: usize = 256 << 10;
/// Files of about the same size that a table has before they are rewritten into one.
pub const TABLE_FILES_ALIKE_MAX: usize = 32;
/// Rows that are rewritten in one commit.
pub const TABLE_COMPACT_ROWS_MAX: u64 = 8 << 20;
/// Bytes of files that are rewritten in one commit.
pub const TABLE_COMPACT_BYTES_MAX: u64 = 512 << 20;
/// Rewrites of one table before the others have their turn.
pub const TABLE_COMPACT_ROUNDS_MAX: u32 = 16;
/// How long a file that was replaced stays for those who read it: longer than a step may take.
pub const TABLE_REPLACED_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Files that one vacuum of a table removes.
pub const TABLE_VACUUM_FILES_MAX: usize = 10_000;
/// Overwritten or reordered states of a table that its state remembers; versions before them keep all their files.
pub const TABLE_BREAKS_MAX: usize = 64;
/// Tests that `gristmill test --write` makes of a view.
pub const SAMPLE_TESTS: usize = 3;
/// Rows of a table that it puts into a test, besides those that must not count.
pub const SAMPLE_ROWS_WRITTEN: usize = 12;
/// Rows of an entity among which it chooses.
pub const SAMPLE_ROWS_LOOKED_AT: usize = 2_000;
/// Views that a query may stack on each other.
pub const VIEW_DEPTH_MAX: usize = 16;
/// Held-out rows a slice needs before figures are given for it.
pub const SLICE_ROWS_MIN: usize = 50;
/// Words of a category that become inputs of a linear model, most frequent first.
pub const ONE_HOT_MAX: usize = 50;
/// Predictions with a known outcome before realised quality is judged; fewer say nothing.
pub const QUALITY_ROWS_MIN: usize = 100;
/// Newest predictions that realised quality is computed over.
pub const QUALITY_ROWS_MAX: usize = 1_000_000;
/// Least wait before a retraining that failed is tried again.
pub const RETRAIN_RETRY_MS: u64 = 60_000;
/// Longest key of an artifact.
pub const ARTIFACT_KEY_BYTES_MAX: usize = 1_024;
/// Largest artifact that a client may upload.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 40;
/// Bytes of an artifact held in memory at once while it goes through.
pub const ARTIFACT_CHUNK_BYTES: usize = 256 << 10;
/// Keys of one artifact listing.
pub const ARTIFACTS_LISTED_MAX: usize = 100_000;
/// Metrics in one batch that a tracking client logs.
pub const TRACK_BATCH_METRICS_MAX: usize = 1_000;
/// Parameters, and tags, in one batch that a tracking client logs.
pub const TRACK_BATCH_WORDS_MAX: usize = 100;
/// Tracking writes that one commit takes together.
pub const TRACK_GROUP_MAX: usize = 512;
/// Tracking writes that wait for a commit before new ones are refused.
pub const TRACK_WAITING_MAX: usize = 16_384;
/// Runs in one page of a search.
pub const SEARCH_RUNS_MAX: usize = 50_000;
/// Longest `MLmodel` file of a registered version.
pub const MLMODEL_BYTES_MAX: usize = 4 << 20;
/// Inputs of a model that was trained elsewhere.
pub const MODEL_INPUTS_MAX: usize = 100_000;
/// Outputs of a model that was trained elsewhere.
pub const MODEL_OUTPUTS_MAX: usize = 10_000;
/// Nodes of all trees of a model that was trained elsewhere.
pub const MODEL_NODES_MAX: usize = 20_000_000;
/// Categories that the splits of a model that was trained elsewhere may name: codes are below it.
pub const MODEL_CATEGORIES_MAX: usize = 1 << 24;
/// Values in the JSON or UBJSON of a model that was trained elsewhere.
pub const MODEL_VALUES_MAX: usize = 100_000_000;
/// Longest way through a tree whose contributions are exact: the work of a row grows with it, node by node.
pub const SHAP_DEPTH_MAX: usize = 256;
/// Rows of a training that are counted node by node, evenly spaced over all of them.
pub const COVER_ROWS_MAX: usize = 1 << 18;
/// Largest body of a tracking request that brings descriptions of datasets along.
pub const TRACK_BODY_BYTES_MAX: usize = 32 << 20;
/// Longest filter of a search.
pub const FILTER_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a filter.
pub const FILTER_DEPTH_MAX: usize = 64;
/// Longest id of a trace.
pub const TRACE_ID_CHARS_MAX: usize = 128;
/// Spans in one request.
pub const TRACE_SPANS_MAX: usize = 20_000;
/// Attributes, events and links of one span, and elements of one attribute, all of them together.
pub const SPAN_ITEMS_MAX: usize = 50_000;
/// Depth of one attribute's value.
pub const SPAN_DEPTH_MAX: usize = 64;
/// Largest body that tells of spans, compressed or not.
pub const TRACE_BODY_BYTES_MAX: usize = 64 << 20;
/// Traces in one page of a search.
pub const SEARCH_TRACES_MAX: usize = 500;
/// Traces that one search may look at beyond what its indices find.
pub const TRACES_LOOKED_AT_MAX: usize = 200_000;
/// Traces, or experiments, that one request about traces names.
pub const TRACES_NAMED_MAX: usize = 1_000;
/// Longest regular expression of a search.
pub const PATTERN_CHARS_MAX: usize = 1_000;
/// Records of an evaluation dataset in one request or page.
pub const DATASET_RECORDS_MAX: usize = 50_000;
/// Webhooks of a project.
pub const WEBHOOKS_MAX: usize = 1_000;
/// Longest address of a webhook.
pub const WEBHOOK_URL_CHARS_MAX: usize = 2_048;
/// Longest secret of a webhook.
pub const WEBHOOK_SECRET_CHARS_MAX: usize = 1_000;
/// Deliveries that wait; beyond it new ones are dropped, and the log says so.
pub const WEBHOOK_WAITING_MAX: usize = 10_000;
/// Deliveries on their way at once.
pub const WEBHOOK_IN_FLIGHT_MAX: usize = 10;
/// How often a delivery is tried.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 4;
/// First wait before a delivery is tried again; doubles each time.
pub const WEBHOOK_BACKOFF_MS: u64 = 1_000;
/// Longest wait before a delivery is tried again, whatever the other side asks for.
pub const WEBHOOK_BACKOFF_MS_MAX: u64 = 60_000;
/// Bytes read of a webhook's answer.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Parts of one upload in parts.
pub const UPLOAD_PARTS_MAX: u32 = 10_000;
/// How long an upload in parts may take from its beginning; what is left of it afterwards is removed.
pub const UPLOAD_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long an address that carries its own permission works, unless asked otherwise.
pub const SIGNED_URL_MS: u64 = 15 * 60 * 1_000;
/// The longest such an address may be asked to work.
pub const SIGNED_URL_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Rows of one answer of a foreign database.
pub const FOREIGN_ROWS_MAX: usize = 100_000;
/// Longest value of a foreign database, and longest small file of a foreign tracker.
pub const FOREIGN_CELL_BYTES_MAX: usize = 32 << 20;
/// Longest JSON answer of a foreign server.
pub const FOREIGN_ANSWER_BYTES_MAX: usize = 256 << 20;
/// Entries of one folder of a foreign tracker.
pub const FOREIGN_ENTRIES_MAX: usize = 1_000_000;
/// Deepest folder of a foreign tracker.
pub const FOREIGN_DEPTH_MAX: usize = 32;
/// Runs that an import works on at the same time.
pub const IMPORT_RUNS_AT_ONCE: usize = 16;
/// Things that an import lists by name when it could not take them; the rest is counted.
pub const IMPORT_SKIPPED_SHOWN: usize = 1_000;
/// Longest name of a registered model, in characters.
pub const MODEL_NAME_CHARS_MAX: usize = 256;
/// How long content that nobody names is kept: whoever stored it has this long to write down that it is needed.
pub const BLOB_UNNAMED_KEPT_MS: u64 = 60 * 60 * 1_000;
/// Longest wait of a caller of Feast's `/materialize` for the work to end; the work itself goes on.
pub const MATERIALIZE_WAIT_MS: u64 = 10 * 60 * 1_000;
/// Fields of messages in a foreign feature registry.
pub const IMPORT_FIELDS_MAX: usize = 500_000;
/// Memory for the newest rows of entities that were asked for lately.
pub const ONLINE_NEWEST_BYTES_MAX: u64 = 64 << 20;
/// Memory for the features of such rows as Feast's clients are answered.
pub const ONLINE_TEXT_BYTES_MAX: u64 = 64 << 20;
/// Features times entities of one question of Feast's clients: about 56 bytes of answer each.
pub const ONLINE_CELLS_MAX: usize = 4_000_000;
/// Predictions of a window that a parity audit computes again, unless the project says otherwise.
pub const PARITY_ROWS: u64 = 1_000;
/// The most that it may be asked to compute again.
pub const PARITY_ROWS_MAX: u64 = 100_000;
/// Differences that a parity audit shows one by one; the rest is counted.
pub const PARITY_SHOWN: usize = 20;
