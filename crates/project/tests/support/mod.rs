//! A project in a temporary folder, and an engine that parses just enough SQL to exercise what this crate decides itself.

use async_trait::async_trait;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::port::{Analysis, AsOfPlan, Engine, TableShape, ViewShape};
use gristmill_kernel::table::{Catalog, Relation, TableInfo, TableName, TableWrite, Written};
use gristmill_kernel::view::ViewDef;
use gristmill_kernel::{Code, Fault, Result};
use gristmill_project::text::Text;
use gristmill_project::{EnvSecrets, Project};
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub const VIEW: &str = "/*---\nentity = \"customer_id\"\n---*/\nselect customer_id, count(*) as n\nfrom events\ngroup by customer_id\n";
pub const LABELS: &str = "/*---\nentity = \"customer_id\"\ntime   = \"asked_at\"\nlabel  = \"churned\"\n---*/\nselect customer_id, asked_at, churned from events\n";
pub const TOML: &str = r#"project = "p"

[sources.events]
from = "data/events.csv"
time = "at"
expect = ["customer_id is not null", { that = "amount >= 0", at_least = 0.99, else = "warn" }]

[models.churn]
labels   = "labels/churned.sql"
features = ["activity"]
gates    = ["auc >= 0.7"]

[endpoints.churn]
model   = "churn"
rollout = { canary = ["5%", "100%"], every = "30m", abort = "error_rate > 0.01" }

[env.fast]
endpoints.churn.rollout.every = "2s"
"#;

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    /// A good project; `toml` replaces its file.
    pub fn new(toml: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder
            .put("gristmill.toml", toml)
            .put("features/activity.sql", VIEW)
            .put("labels/churned.sql", LABELS)
            .put("data/events.csv", "customer_id,at,amount\n");
        folder
    }
    pub fn put(&self, path: &str, text: &str) -> &Folder {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
        self
    }
    pub fn load(&self, env: Option<&str>) -> std::result::Result<Project, Vec<Fault>> {
        let vars = BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
        Project::load(self.0.path(), env, Arc::new(EnvSecrets::new(vars, None, self.0.path())))
    }
    pub fn good(&self) -> Project {
        self.load(None).map_err(|faults| all(&faults)).expect("a good project")
    }
}

pub fn all(faults: &[Fault]) -> String {
    faults.iter().map(|f| gristmill_project::render(f, false)).collect::<Vec<_>>().join("\n\n")
}

pub struct Words;

fn words(sql: &str) -> Vec<String> {
    let plain: String = sql.lines().map(|l| l.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut quoted = false;
    let mut word = String::new();
    let mut out = Vec::new();
    for c in plain.chars().chain([' ']) {
        quoted ^= c == '\'';
        if !quoted && (c.is_alphanumeric() || c == '_' || c == '.') {
            word.push(c.to_ascii_lowercase());
        } else if !word.is_empty() {
            out.push(std::mem::take(&mut word));
        }
    }
    out
}

#[async_trait]
impl Engine for Words {
    async fn write(&self, _: TableWrite) -> Result<Written> {
        Err(Fault::internal("not here"))
    }
    async fn table(&self, _: &TableName) -> Result<Option<TableInfo>> {
        Ok(None)
    }
    async fn scan(&self, _: &TableName, _: Option<u64>, _: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Err(Fault::internal("not here"))
    }
    fn analyse(&self, sql: &str, _: &str, _: usize) -> Result<Analysis> {
        let words = words(sql);
        let mut tables: Vec<String> = Vec::new();
        for pair in words.windows(2).filter(|p| p[0] == "from" || p[0] == "join") {
            if !tables.contains(&pair[1]) {
                tables.push(pair[1].clone());
            }
        }
        Ok(Analysis { tables, uses_as_of: words.iter().any(|w| w == "as_of"), normalised: words.join(" ") })
    }
    async fn schema(&self, sql: &str, _: &Catalog) -> Result<SchemaRef> {
        let words = words(sql);
        let columns = words.iter().skip(1).take_while(|w| *w != "from").map(|w| {
            let kind = if w.ends_with("_at") { gristmill_project::lock::arrow_type("time").expect("a type") } else { DataType::Int64 };
            Field::new(w, kind, true)
        });
        Ok(Arc::new(Schema::new(columns.collect::<Vec<_>>())))
    }
    async fn query(&self, _: &str, _: &Catalog, _: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Err(Fault::internal("not here"))
    }
    async fn compile(&self, view: &ViewDef, _: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        if words(&view.sql).iter().any(|w| w == "now") {
            let text = Text::new(&view.file, format!("{}{}", "\n".repeat(view.line_offset), view.sql));
            let span = text.word("now", 0).expect("the word");
            return Err(Fault::invalid(Code::NOW_IN_FEATURE, "now() in a feature gives training and serving different values")
                .fix("write as_of()")
                .at(text.spot(span.start..span.end + 2)));
        }
        Ok(Arc::new(Count(ViewShape {
            shape: "aggregate",
            how: "not at all",
            features: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("name", DataType::Utf8, true)])),
            kept: Vec::new(),
            remarks: Vec::new(),
            notes: Vec::new(),
        })))
    }
    async fn judge_rows(&self, _: &[String], _: &RecordBatch, _: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        Err(Fault::internal("not here"))
    }
    async fn judge(&self, _: &str, _: &Figures) -> Result<Judged> {
        Err(Fault::internal("not here"))
    }
    fn check_condition(&self, condition: &str, names: &[String]) -> Result<()> {
        let sql = ["and", "or", "not", "is", "null", "in", "between"];
        match words(condition).iter().find(|w| w.starts_with(char::is_alphabetic) && !sql.contains(&w.as_str()) && !names.contains(w)) {
            None => Ok(()),
            Some(bad) => Err(Fault::invalid(Code::BAD_CONDITION, format!("there is no figure `{bad}`"))
                .fix(gristmill_project::text::did_you_mean(bad, "figures", names.iter().map(String::as_str)))),
        }
    }
}

/// Counts the rows of the first table.
struct Count(ViewShape);

#[async_trait]
impl AsOfPlan for Count {
    fn shape(&self) -> &ViewShape {
        &self.0
    }
    async fn evaluate(&self, asked: &RecordBatch, tables: &Catalog) -> Result<RecordBatch> {
        assert!(asked.column_by_name("time").is_some());
        let rows: usize = match tables.values().next() {
            Some(Relation::Rows(batches, _)) => batches.iter().map(RecordBatch::num_rows).sum(),
            _ => 0,
        };
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![rows as i64])), Arc::new(StringArray::from(vec![None::<&str>]))];
        Ok(RecordBatch::try_new(self.0.features.clone(), columns).expect("a batch"))
    }
}
