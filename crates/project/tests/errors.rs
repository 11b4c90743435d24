//! What a user sees when something is wrong: whole texts, because every part of them matters.

mod support;

use gristmill_kernel::Code;
use gristmill_project::{Lock, Severity, check};
use support::{Folder, TOML, Words, all};

fn refused(toml: &str, env: Option<&str>, expected: &str) {
    let faults = Folder::new(toml).load(env).expect_err("faults");
    assert_eq!(all(&faults), expected.trim_matches('\n'), "\n{}", all(&faults));
}

async fn found(folder: &Folder, severity: Severity) -> String {
    let project = folder.good();
    let all = check(&project, &Words).await;
    all.iter().filter(|d| d.severity == severity).map(|d| d.render(false)).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn a_misspelt_key() {
    refused(
        &TOML.replace("labels   =", "labls    ="),
        None,
        r#"
error[E0103]: unknown key `labls` in [models.churn]
 --> gristmill.toml:9:1
  |
9 | labls    = "labels/churned.sql"
  | ^^^^^
  |
  = fix: did you mean `labels`?"#,
    );
}

#[test]
fn a_wrong_type_and_more_at_once() {
    refused(
        &TOML.replace("time = \"at\"", "time = 3").replace("at_least = 0.99", "at_least = 99").replace("features = [\"activity\"]\n", ""),
        None,
        r#"
error[E0104]: `time` must be a text in quotes, not integer `3`
 --> gristmill.toml:5:8
  |
5 | time = 3
  |        ^
  |
  = fix: write it in quotes: "..."

error[E0104]: `99` is not a share between 0 and 1
 --> gristmill.toml:6:73
  |
6 | expect = ["customer_id is not null", { that = "amount >= 0", at_least = 99, else = "warn" }]
  |                                                                         ^^
  |
  = fix: write 20 % as 0.2

error[E0104]: [models.churn] lacks the key `features`
 --> gristmill.toml:8:1
  |
8 | [models.churn]
  | ^^^^^^^^^^^^^^
  |
  = fix: add a line `features = ...`"#,
    );
}

#[test]
fn a_bad_duration() {
    refused(
        &TOML.replace("\"30m\"", "\"3 parsecs\""),
        None,
        r#"
error[E0104]: `3 parsecs` is not a duration
  --> gristmill.toml:15:46
   |
15 | rollout = { canary = ["5%", "100%"], every = "3 parsecs", abort = "error_rate > 0.01" }
   |                                              ^^^^^^^^^^^
   |
   = fix: write it as 250ms, 30s, 10m, 1h30m, 7d or 2w"#,
    );
}

#[test]
fn a_bad_range() {
    refused(
        &TOML.replace("gates ", "tune = { trials = 3, max_depth = \"8..3\" }\ngates "),
        None,
        r#"
error[E0104]: `8..3` is not a range
  --> gristmill.toml:11:34
   |
11 | tune = { trials = 3, max_depth = "8..3" }
   |                                  ^^^^^^
   |
   = fix: write it as "low..high" with low below high, for example "0.01..0.3" or "3..8", or as a list of choices"#,
    );
}

#[test]
fn an_unknown_environment() {
    refused(TOML, Some("fats"), "error[E0110]: gristmill.toml has no environment `fats`\n |\n = fix: did you mean `fast`?");
}

#[test]
fn an_environment_that_overrides_nothing() {
    refused(
        &TOML.replace("endpoints.churn.rollout.every", "endpoints.chrun.rollout.every"),
        None,
        r#"
error[E0105]: [env.fast] overrides endpoints.chrun, which is not defined
  --> gristmill.toml:18:11
   |
18 | endpoints.chrun.rollout.every = "2s"
   |           ^^^^^
   |
   = fix: did you mean `churn`?"#,
    );
}

#[test]
fn names_that_do_not_exist() {
    refused(
        &TOML
            .replace("[\"activity\"]", "[\"activty\"]")
            .replace("labels/churned.sql", "labels/churn.sql")
            .replace("\"churn\"\nroll", "\"chrn\"\nroll"),
        None,
        r#"
error[E0105]: models.churn uses the view `activty`, but there is no features/activty.sql
  --> gristmill.toml:10:13
   |
10 | features = ["activty"]
   |             ^^^^^^^^^
   |
   = fix: did you mean `activity`?

error[E0107]: there is no label set labels/churn.sql
 --> gristmill.toml:9:12
  |
9 | labels   = "labels/churn.sql"
  |            ^^^^^^^^^^^^^^^^^^
  |
  = fix: did you mean `labels/churned.sql`?

error[E0105]: endpoints.churn answers with the model `chrn`, which is not defined
  --> gristmill.toml:14:11
   |
14 | model   = "chrn"
   |           ^^^^^^
   |
   = fix: did you mean `churn`?"#,
    );
}

#[test]
fn models_that_are_not_where_they_are_looked_for() {
    let with = |model: &str| TOML.replace("\"churn\"\nroll", &format!("\"{model}\"\nroll"));
    refused(
        &with("mlflw:churn@champion"),
        None,
        r#"
error[E0104]: `mlflw:` is not where an endpoint's model can be
  --> gristmill.toml:14:11
   |
14 | model   = "mlflw:churn@champion"
   |           ^^^^^^^^^^^^^^^^^^^^^^
   |
   = fix: write the name of one of the project's models, or "mlflow:churn@champion" for a registered one"#,
    );
    refused(
        &with("mlflow:upsell"),
        None,
        r#"
error[E0104]: `mlflow:upsell` does not say which version
  --> gristmill.toml:14:11
   |
14 | model   = "mlflow:upsell"
   |           ^^^^^^^^^^^^^^^
   |
   = fix: add an alias or a number: "mlflow:upsell@champion", "mlflow:upsell@3""#,
    );
    refused(
        &with("mlflow:churn@champion"),
        None,
        r#"
error[E0104]: endpoints.churn answers with mlflow:churn@champion, but models.churn is a model of this project
  --> gristmill.toml:14:11
   |
14 | model   = "mlflow:churn@champion"
   |           ^^^^^^^^^^^^^^^^^^^^^^^
   |
   = fix: write model = "churn": the endpoint follows its champion by itself"#,
    );
}

#[tokio::test]
async fn what_needs_the_training_rows_is_refused_for_registered_models() {
    let toml = TOML.replace("\"churn\"\nroll", "\"mlflow:upsell@champion\"\nmonitor = { drift = \"psi > 0.1\" }\nroll");
    let text = found(&Folder::new(&toml), Severity::Error).await;
    assert!(text.contains("watching an endpoint whose model was trained elsewhere is not built yet"), "{text}");
    assert!(text.contains("gristmill.toml:15:"), "{text}");
}

#[test]
fn toml_of_tomorrow() {
    refused(
        "project = \"p\"\n[alerts]\nto = \"\\x41\"\n[models]\na = { features = [\n \"x\",\n],\n }\n",
        None,
        r#"
error[E0102]: this escape is TOML 1.1; projects are TOML 1.0
 --> gristmill.toml:3:7
  |
3 | to = "\x41"
  |       ^
  |
  = fix: write it as \u001b, \u00e9 and so on

error[E0102]: an inline table over several lines is TOML 1.1; projects are TOML 1.0
 --> gristmill.toml:7:2
  |
7 | ],
  |  ^
  |
  = fix: put it on one line, or write it as a [table]"#,
    );
}

#[test]
fn broken_toml() {
    let faults = Folder::new("project = \"p\n").load(None).expect_err("faults");
    assert_eq!((faults.len(), faults[0].code), (1, Code::PROJECT_SYNTAX));
    assert_eq!(faults[0].spot.as_ref().map(|s| s.line), Some(1));
}

#[test]
fn an_unknown_table() {
    let folder = Folder::new(TOML);
    folder.put("features/activity.sql", &support::VIEW.replace("from events", "from event -- the events"));
    let faults = folder.good().graph(&Words).expect_err("faults");
    let expected = r#"
error[E0202]: `event` is no table
 --> features/activity.sql:5:6
  |
5 | from event -- the events
  |      ^^^^^
  |
  = fix: did you mean `events`?"#;
    assert_eq!(all(&faults), expected.trim_matches('\n'));
}

#[tokio::test]
async fn now_in_a_feature() {
    let folder = Folder::new(TOML);
    folder.put("features/activity.sql", &support::VIEW.replace("count(*)", "max(now() - at)"));
    folder.put("gristmill.lock", "version = 1\n[sources.events]\ncolumns = [{ name = \"customer_id\", type = \"int\" }, { name = \"at\", type = \"time\" }, { name = \"amount\", type = \"float\" }]\n");
    assert_eq!(
        found(&folder, Severity::Error).await,
        r#"error[E0207]: now() in a feature gives training and serving different values
 --> features/activity.sql:4:25
  |
4 | select customer_id, max(now() - at) as n
  |                         ^^^^^
  |
  = fix: write as_of()"#
    );
}

#[tokio::test]
async fn a_missing_file() {
    let folder = Folder::new(&TOML.replace("data/events.csv", "data/event.csv"));
    assert_eq!(
        found(&folder, Severity::Error).await,
        r#"error[E0107]: sources.events reads data/event.csv, but there is no such file
 --> gristmill.toml:4:8
  |
4 | from = "data/event.csv"
  |        ^^^^^^^^^^^^^^^^
  |
  = fix: did you mean `data/events.csv`?"#
    );
}

#[tokio::test]
async fn a_condition_over_unknown_figures() {
    let folder = Folder::new(&TOML.replace("auc >= 0.7", "acu >= 0.7"));
    assert_eq!(
        found(&folder, Severity::Error).await,
        r#"error[E0209]: `acu >= 0.7`: there is no figure `acu`
  --> gristmill.toml:11:13
   |
11 | gates    = ["acu >= 0.7"]
   |             ^^^^^^^^^^^^
   |
   = fix: did you mean `auc`?"#
    );
}

#[tokio::test]
async fn what_parity_and_known_may_say() {
    refused(
        &TOML.replace("gates    =", "known    = \"later\"\ngates    ="),
        None,
        r#"
error[E0104]: `later` is no value of `known`
  --> gristmill.toml:11:12
   |
11 | known    = "later"
   |            ^^^^^^^
   |
   = fix: values are now, then"#,
    );
    let folder = Folder::new(&TOML.replace(
        "[env.fast]",
        "[endpoints.two]\nmodel = \"churn\"\nmonitor = { parity = \"mismatchrate > 0\", audit = 1000000 }\n\n[env.fast]",
    ));
    let errors = found(&folder, Severity::Error).await;
    assert!(errors.contains("there is no figure `mismatchrate`") && errors.contains("did you mean `mismatch_rate`?"), "{errors}");
    assert!(errors.contains("`audit` is 1000000, at most 100000 feature vectors"), "{errors}");
}

#[tokio::test]
async fn secrets_are_masked_everywhere() {
    let folder = Folder::new(&TOML.replace(
        "[env.fast]",
        "[alerts]\nto = [\"https://joe:hunter2@x.example\", \"slack://${TOKEN}\", \"slack://${NOPE}\"]\n\n[env.fast]",
    ));
    let errors = found(&folder, Severity::Error).await;
    assert!(errors.contains("error[E0106]: `${NOPE}` has no value"), "{errors}");
    let warnings = found(&folder, Severity::Warning).await;
    assert!(warnings.contains("`alerts.to.0` holds a password in the clear"), "{warnings}");
    let project = folder.good();
    let graph = serde_json::to_string(&project.graph(&Words).expect("a graph")).expect("json");
    assert!(graph.contains("slack://${TOKEN}"), "specs hold the name");
    let shown = project.show("alerts").expect("shown").text();
    assert!(shown.contains("https://joe:•••@x.example") && shown.contains("slack://•••"), "{shown}");
    for text in [errors, warnings, shown, format!("{project:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_changed_source() {
    let folder = Folder::new(TOML);
    let lock = Lock::parse("version = 1\n[sources.events]\ncolumns = [{ name = \"customer_id\", type = \"int\" }, { name = \"at\", type = \"time\" }, { name = \"amount\", type = \"float\" }]\n").expect("a lock");
    lock.save(folder.0.path()).expect("saved");
    let project = folder.good();
    let mut now = lock.clone();
    let columns = now.sources.values_mut().next().expect("columns");
    columns[2].kind = "text".into();
    let source = lock.sources.keys().next().expect("a name");
    let inferred = gristmill_project::check::Inferred::from([(source.clone(), std::sync::Arc::new(now.schema(source).expect("a schema")))]);
    let found = gristmill_project::check::check_with(&project, &Words, &inferred).await;
    assert_eq!(
        found.iter().map(|d| d.render(false)).collect::<Vec<_>>().join("\n"),
        r#"error[E0108]: sources.events is not as pinned in gristmill.lock: ~ amount float -> text
 --> gristmill.toml:4:8
  |
4 | from = "data/events.csv"
  |        ^^^^^^^^^^^^^^^^^
  |
  = fix: if this is meant, run gristmill check --lock and commit gristmill.lock; if not, ask whoever writes the source"#
    );
}

#[tokio::test]
async fn a_rollout_is_of_one_kind_and_its_keys_fit() {
    let canary = "{ canary = [\"5%\", \"100%\"], every = \"30m\", abort = \"error_rate > 0.01\" }";
    let told = async |rollout: &str| {
        let folder = Folder::new(&TOML.replace(canary, rollout).replace("[env.fast]\nendpoints.churn.rollout.every = \"2s\"", ""));
        match folder.load(None) {
            Ok(_) => found(&folder, Severity::Error).await,
            Err(faults) => all(&faults),
        }
    };
    for good in [
        "\"manual\"",
        "{ shadow = \"1h\", sample = \"20%\", abort = \"agreement < 0.99 or score_distance > 0.1\", approve = true }",
        "{ blue_green = \"30m\", preview = \"5m\", abort = \"error_rate > 0.01\" }",
        "\"direct\"\nfreeze = [\"fri 16:00 to mon 07:00\", \"2026-12-20 to 2027-01-03\"]",
    ] {
        assert_eq!(told(good).await, "", "{good}");
    }
    for (bad, why) in [
        ("{ shadow = \"1h\", blue_green = \"1h\" }", "a rollout is exactly one of"),
        ("{ canary = [\"100%\"], sample = \"20%\" }", "this kind of rollout has no `sample`"),
        ("{ shadow = \"1h\", preview = \"1m\" }", "this kind of rollout has no `preview`"),
        ("{ canary = [\"100%\"], abort = \"agreement < 0.9\" }", "agreement"),
        ("\"by hand\"", "`by hand` is not a rollout"),
        ("\"direct\"\nfreeze = [\"friday\"]", "`friday` is no time to freeze"),
    ] {
        let errors = told(bad).await;
        assert!(errors.contains(why), "{bad}: {errors}");
    }
}

#[tokio::test]
async fn what_a_shared_call_may_be() {
    let with = |batch: &str| Folder::new(&TOML.replace("model   = \"churn\"\n", &format!("model   = \"churn\"\nbatch   = {batch}\n")));
    assert_eq!(found(&with("{ rows = 64, delay = \"500us\" }"), Severity::Error).await, "");
    assert_eq!(found(&with("{ rows = 2 }"), Severity::Error).await, "", "nobody has to wait");
    let wrong = found(&with("{ rows = 1, delay = \"1h\" }"), Severity::Error).await;
    for part in ["a call of a model takes 2 to 10000 rows of several requests", "`batch.delay` is as long as a request may take"] {
        assert!(wrong.contains(part), "{wrong}");
    }
    assert!(wrong.contains("gristmill.toml:15:20") && wrong.contains("fix: write for instance \"500us\""), "{wrong}");
    let unknown = with("{ rows = 8, wait = \"1ms\" }").load(None).expect_err("an unknown key");
    assert!(all(&unknown).contains("unknown key `wait`"), "{}", all(&unknown));
}

#[tokio::test]
async fn an_experiment_says_what_decides() {
    let told = |rollout: &str| {
        let written = "{ canary = [\"5%\", \"100%\"], every = \"30m\", abort = \"error_rate > 0.01\" }";
        let text = TOML.replace("gates    =", "task     = \"binary\"\ngates    =");
        let folder = Folder::new(&text.replace(written, rollout).replace("[env.fast]\nendpoints.churn.rollout.every = \"2s\"", ""));
        async move { found(&folder, Severity::Error).await }
    };
    for good in [
        "{ ab = \"50%\", decide = \"churned\" }",
        "{ ab = \"20%\", decide = \"less churned\", after = \"3d\", confidence = \"99%\", abort = \"error_rate > 0.01\" }",
        "{ ab = \"50%\", decide = \"logloss\" }",
    ] {
        assert_eq!(told(good).await, "", "{good}");
    }
    for (bad, why) in [
        ("{ ab = \"50%\" }", "does not say what decides"),
        ("{ ab = \"100%\", decide = \"churned\" }", "leaves both versions something to answer"),
        ("{ ab = \"50%\", decide = \"less chruned\" }", "there is no label set `chruned`"),
        ("{ ab = \"50%\", decide = \"mae\" }", "`mae` cannot be told of what models.churn predicts"),
        ("{ ab = \"50%\", decide = \"churned\", confidence = \"10%\" }", "between 50% and 99.9% sure"),
        ("{ canary = [\"5%\", \"100%\"], decide = \"churned\" }", "only an experiment has `decide`"),
        ("{ canary = [\"5%\", \"100%\"], ab = \"50%\", decide = \"churned\" }", "exactly one of"),
    ] {
        let errors = told(bad).await;
        assert!(errors.contains(why), "{bad}: {errors}");
    }
}

#[tokio::test]
async fn what_is_not_built_is_refused() {
    let folder = Folder::new(
        &TOML
            .replace("data/events.csv", "kafka://broker:9092/events")
            .replace("[env.fast]\nendpoints.churn.rollout.every = \"2s\"", "[alerts]\nto = \"mailto:me@x.example\"\nwhen = [\"drift\"]"),
    );
    let errors = found(&folder, Severity::Error).await;
    for what in ["reading a source from kafka", "alerting by `mailto`", "choosing what is told (alerts.when)"] {
        assert!(errors.contains(&format!("error[E0607]: {what} is not built yet")), "{what}\n{errors}");
    }
}
