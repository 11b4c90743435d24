//! Models of other libraries, loaded as the server loads a registered version, predict what those libraries predict.
//!
//! `tests/models` makes the cases; each says how much may differ. A difference is measured against the larger of 1 and the expected value.

use super::tests::stored;
use crate::model::LoadedModel;
use crate::plan::Row;
use flate2::read::GzDecoder;
use gristmill_kernel::model::Task;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// What `case.json` says.
#[derive(serde::Deserialize)]
struct About {
    model: String,
    task: Task,
    classes: Vec<String>,
    rows: usize,
    tolerance: f64,
}

/// A case: the files of a registered version, what is asked and what is expected.
struct Case {
    name: String,
    about: About,
    files: Vec<(String, Vec<u8>)>,
    rows: Vec<Row>,
    expected: Vec<Vec<f64>>,
}

impl Case {
    fn read(folder: &Path) -> Case {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let file = |file: &str| std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{name}/{file}: {e}"));
        let about: About = serde_json::from_slice(&file("case.json")).expect("case.json");
        let (columns, cells) = table(&file("rows.csv.gz"));
        let described = MlModelColumns::of(&file("MLmodel"));
        let row = |cells: Vec<String>| columns.iter().cloned().zip(cells).map(|(column, cell)| described.value(column, &cell)).collect();
        let number = |cell: String| cell.parse::<f64>().expect("a number");
        let expected = table(&file("expected.csv.gz")).1.into_iter().map(|row| row.into_iter().map(number).collect()).collect();
        let files = ["MLmodel", &about.model].map(|key| (key.to_owned(), file(key))).into();
        Case { rows: cells.into_iter().map(row).collect(), name, about, files, expected }
    }

    /// Every case under a folder.
    fn all(folder: &Path) -> Vec<Case> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.iter().map(|folder| Case::read(folder)).collect()
    }

    /// Loads the case as a registered version.
    async fn load(&self) -> Result<LoadedModel, String> {
        let files: Vec<(&str, Vec<u8>)> = self.files.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())).collect();
        let stored = stored(&files).await;
        let model = LoadedModel::registered(&stored.version, &stored.blobs).await.map_err(|fault| fault.to_string())?;
        model.ok_or_else(|| "it is no registered version".to_owned())
    }

    /// Asks for every row, and gives the largest difference; `Err` if it is above the tolerance.
    fn check(&self, model: &LoadedModel) -> Result<f64, String> {
        assert!(self.rows.len() >= 1000 && self.rows.len() == self.expected.len(), "{}", self.name);
        assert_eq!((self.rows.len(), &self.about.classes, self.about.task), (self.about.rows, &model.shape.classes, model.shape.task));
        let mut worst: (f64, String) = (0.0, String::new());
        for (chunk, expected) in self.rows.chunks(256).zip(self.expected.chunks(256)) {
            let rows: Vec<&Row> = chunk.iter().collect();
            let columns = model.request_columns(&rows).map_err(|fault| fault.to_string())?;
            let scored = model.encode(&columns).and_then(|matrix| model.score(&matrix, rows.len())).map_err(|fault| fault.to_string())?;
            for ((row, scored), expected) in rows.iter().zip(scored).zip(expected) {
                let scored = scored.map_err(|fault| format!("{row:?}: {fault}"))?;
                if scored.outputs.len() != expected.len() {
                    return Err(format!("{} outputs instead of {}", scored.outputs.len(), expected.len()));
                }
                for (got, expected) in scored.outputs.iter().zip(expected) {
                    let off = (got - expected).abs() / expected.abs().max(1.0);
                    if off > worst.0 || off.is_nan() {
                        worst = (off, format!("{got} instead of {expected} for {row:?}"));
                    }
                }
                self.check_outcome(scored.outcome.as_deref(), expected)?;
            }
        }
        if worst.0 <= self.about.tolerance { Ok(worst.0) } else { Err(format!("off by {}: {}", worst.0, worst.1)) }
    }

    /// The class is the likeliest one, where the library's own numbers say clearly which that is.
    fn check_outcome(&self, outcome: Option<&str>, expected: &[f64]) -> Result<(), String> {
        let probabilities = match expected {
            [one] if self.about.task == Task::Binary => vec![1.0 - one, *one],
            all => all.to_vec(),
        };
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        match (outcome, order.as_slice()) {
            (None, _) if self.about.classes.is_empty() => Ok(()),
            (_, [first, second, ..]) if probabilities[*first] - probabilities[*second] <= 2.0 * self.about.tolerance => Ok(()),
            (Some(outcome), [first, ..]) if outcome == self.about.classes[*first] => Ok(()),
            (outcome, _) => Err(format!("{outcome:?} where the library says {expected:?}")),
        }
    }
}

/// Which columns are text, as the signature in `MLmodel` says.
struct MlModelColumns(super::MlModel);

impl MlModelColumns {
    fn of(bytes: &[u8]) -> MlModelColumns {
        MlModelColumns(super::MlModel::read(bytes).expect("MLmodel"))
    }
    fn value(&self, column: String, cell: &str) -> (String, Value) {
        let super::Inputs::Columns(columns) = &self.0.inputs else { panic!("a signature of columns") };
        let text = columns.iter().any(|c| c.name.as_deref() == Some(column.as_str()) && c.kind == super::mlmodel::ColumnKind::Text);
        let value = match (cell, text) {
            ("", _) => Value::Null,
            (word, true) => word.into(),
            (number, false) => number.parse::<f64>().expect("a number").into(),
        };
        (column, value)
    }
}

/// The header and the rows of a compressed table.
fn table(bytes: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(GzDecoder::new(bytes));
    let columns = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect()).collect();
    (columns, rows)
}

/// Checks every case under a folder; gives their names.
async fn check_all(folder: &Path) -> Vec<String> {
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for case in Case::all(folder) {
        match case.load().await.and_then(|model| case.check(&model)) {
            Ok(worst) => println!("{:<28} {} rows, off by {worst:.1e} of {:.1e}", case.name, case.rows.len(), case.about.tolerance),
            Err(why) => wrong.push(format!("{}: {why}", case.name)),
        }
        names.push(case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    names
}

#[tokio::test]
async fn models_of_others_predict_as_their_libraries() {
    let names = check_all(&models().join("fixtures")).await;
    for library in ["sklearn", "lightgbm", "xgboost", "catboost", "torch", "keras"] {
        assert!(names.iter().any(|name| name.starts_with(library)), "no case of {library} among {names:?}");
    }
}

#[tokio::test]
async fn a_wrong_expectation_is_found_in_every_case() {
    for mut case in Case::all(&models().join("fixtures")) {
        let model = case.load().await.unwrap_or_else(|why| panic!("{}: {why}", case.name));
        let (row, output) = (case.rows.len() - 1, case.expected[0].len() - 1);
        let right = case.expected[row][output];
        case.expected[row][output] = right + 3.0 * case.about.tolerance * right.abs().max(1.0);
        let why = case.check(&model).expect_err("one value of the last row is off by three tolerances");
        assert!(why.starts_with("off by"), "{}: {why}", case.name);
        case.expected[row][output] = f64::NAN;
        assert!(case.check(&model).is_err(), "{}", case.name);
    }
}

#[tokio::test]
async fn a_word_that_an_encoder_refuses_is_an_error_of_its_row() {
    let case = Case::read(&models().join("fixtures/sklearn_pipeline_forest"));
    let model = case.load().await.expect("loads");
    let mut strange = case.rows[1].clone();
    strange.insert("plan".into(), "unheard of".into());
    let matrix = model.encode(&model.request_columns(&[&case.rows[1], &strange]).expect("columns")).expect("a matrix");
    let scored = model.score(&matrix, 2).expect("scores");
    assert!(scored[0].is_ok() && scored[1].as_ref().is_err_and(|fault| fault.message.contains("NaN")), "{scored:?}");
}

/// The last line that a Python program printed.
#[expect(clippy::disallowed_methods, reason = "the test remakes its cases with the libraries themselves")]
fn python(program: &Path, args: &[&Path]) -> String {
    let ran = Command::new(program).args(args).stderr(Stdio::inherit()).output().expect("it starts");
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{} ended with {}: {out}", program.display(), ran.status);
    out.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test]
#[ignore = "needs Python and PyPI: cargo test -- --include-ignored"]
async fn models_made_just_now_predict_as_their_libraries() {
    let (venvs, folder) = (models().join("../clients/venvs.py"), tempfile::tempdir().expect("a folder"));
    let environment = python(Path::new("python3"), &[&venvs, Path::new("models")]);
    let groups = ["sklearn", "lightgbm", "xgboost"].map(Path::new);
    python(Path::new(&environment), &[&models().join("make.py"), folder.path(), groups[0], groups[1], groups[2]]);
    let made = check_all(folder.path()).await;
    let kept = Case::all(&models().join("fixtures")).into_iter().map(|case| case.name);
    let kept: Vec<String> = kept.filter(|name| groups.iter().any(|group| name.starts_with(&*group.to_string_lossy()))).collect();
    assert_eq!(made, kept, "every case was made again");
}
