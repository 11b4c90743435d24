//! Searching registered models and versions.
//!
//! The filter's meaning is the kernel's [`Filter::holds`], asked for each row as it comes, in the order of the answer, until the page is full.
//! Comparisons that an index can answer (a name, a run, a tag that is something) narrow the statement as well; they only ever leave out what
//! the filter would refuse anyway. A row brings the tags that the filter asks about, and the page's own tags and aliases follow at the end.

use super::super::open::fault;
use super::SqliteRegistry;
use super::read::{bare_model, bare_version, model_columns, seen_versions, version_columns, whole_models, whole_versions};
use crate::registry::search::{Column, Kind, ModelFields, VersionFields};
use futures::TryStreamExt;
use gristmill_kernel::Result;
use gristmill_kernel::tracking::filter::{Field, Filter, Op, Value};
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, RegisteredModel};
use gristmill_kernel::tracking::{Page, Search};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::{BTreeMap, HashMap};

/// Longest list of names that narrows a statement; a longer one is only asked of the rows.
const NAMES_NARROWED_MAX: usize = 500;

/// A statement while it is put together. Only words from this file and placeholders enter its text.
struct Statement {
    text: String,
    values: Vec<String>,
    /// Tags that the filter asks about: column `tag0`, `tag1`, ...
    tags: Vec<String>,
}

impl Statement {
    fn new(kind: Kind, search: &Search) -> Result<Statement> {
        kind.check(&search.filter, &search.order)?;
        let mut tags = Vec::new();
        tags_of(&search.filter, &mut tags);
        let mut statement = Statement { text: String::new(), values: Vec::new(), tags };
        let (columns, from, joined) = match kind {
            Kind::Models => (model_columns!(), "registered_models m WHERE 1 = 1", "registered_model_tags t WHERE t.asset = m.asset"),
            Kind::Versions => {
                (version_columns!(), seen_versions!(), "model_version_tags t WHERE t.asset = n.asset AND t.number = n.number")
            }
        };
        let mut text = format!("SELECT {columns}");
        for (i, tag) in statement.tags.clone().into_iter().enumerate() {
            let place = statement.bind(tag);
            text.push_str(&format!(", (SELECT t.value FROM {joined} AND t.name = {place}) AS tag{i}"));
        }
        text.push_str(&format!(" FROM {from}"));
        statement.narrow(&search.filter, kind, joined, &mut text);
        let order = kind.order(&search.order)?;
        let order: Vec<String> = order.iter().map(|(column, ascending)| ordered(kind, *column, *ascending)).collect();
        text.push_str(&format!(" ORDER BY {}", order.join(", ")));
        statement.text = text;
        Ok(statement)
    }

    fn bind(&mut self, value: String) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// What must hold in any case and an index knows.
    fn narrow(&mut self, filter: &Filter, kind: Kind, joined: &str, text: &mut String) {
        let test = match filter {
            Filter::All(parts) => return parts.iter().for_each(|part| self.narrow(part, kind, joined, text)),
            Filter::Test(test) if !test.or_absent => test,
            _ => return,
        };
        let values: Vec<String> = match &test.op {
            Op::Equal(Value::Text(value)) => vec![value.clone()],
            Op::In(values) if values.len() <= NAMES_NARROWED_MAX => {
                let texts: Option<Vec<String>> =
                    values.iter().map(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None }).collect();
                let Some(texts) = texts.filter(|texts| !texts.is_empty()) else { return };
                texts
            }
            _ => return,
        };
        let column = match &test.field {
            Field::Attribute(name) => match kind.column(name) {
                Ok(column @ (Column::Name | Column::Run)) => sql_column(kind, column),
                _ => return,
            },
            Field::Tag(_) => "t.value",
            _ => return,
        };
        let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        let places = places.join(",");
        match &test.field {
            Field::Tag(name) => {
                let name = self.bind(name.clone());
                text.push_str(&format!(" AND EXISTS (SELECT 1 FROM {joined} AND t.name = {name} AND {column} IN ({places}))"));
            }
            _ => text.push_str(&format!(" AND {column} IN ({places})")),
        }
    }

    /// The tags that a row brings along.
    fn tags(&self, row: &SqliteRow) -> Result<BTreeMap<String, String>> {
        let mut tags = BTreeMap::new();
        for (i, tag) in self.tags.iter().enumerate() {
            let value: Option<String> = row.try_get(format!("tag{i}").as_str()).map_err(|e| fault("read a tag", e))?;
            if let Some(value) = value {
                tags.insert(tag.clone(), value);
            }
        }
        Ok(tags)
    }

    /// The rows of one page, decoded, and whether there are more.
    async fn page<T>(
        &self,
        db: &mut SqliteConnection,
        search: &Search,
        decode: impl Fn(&SqliteRow) -> Result<Option<T>>,
    ) -> Result<Page<T>> {
        // Texts differ with each filter: they are not worth a place among the prepared statements.
        let mut query = sqlx::query(AssertSqlSafe(self.text.clone())).persistent(false);
        for value in &self.values {
            query = query.bind(value);
        }
        let (mut items, mut left_out) = (Vec::new(), 0usize);
        let mut rows = query.fetch(db);
        while let Some(row) = rows.try_next().await.map_err(|e| fault("search", e))? {
            let Some(item) = decode(&row)? else { continue };
            if left_out < search.offset {
                left_out += 1;
                continue;
            }
            if items.len() >= search.limit {
                return Ok(Page { items, more: true });
            }
            items.push(item);
        }
        Ok(Page { items, more: false })
    }
}

fn tags_of(filter: &Filter, tags: &mut Vec<String>) {
    match filter {
        Filter::All(parts) | Filter::Any(parts) => parts.iter().for_each(|part| tags_of(part, tags)),
        Filter::Not(part) => tags_of(part, tags),
        Filter::Test(test) => {
            if let Field::Tag(name) = &test.field
                && !tags.contains(name)
            {
                tags.push(name.clone());
            }
        }
    }
}

fn sql_column(kind: Kind, column: Column) -> &'static str {
    match (kind, column) {
        (_, Column::Name) => "m.name",
        (Kind::Models, Column::Created) => "m.created_at",
        (Kind::Models, _) => "m.updated_at",
        (Kind::Versions, Column::Number) => "n.number",
        (Kind::Versions, Column::Run) => "n.run",
        (Kind::Versions, Column::Source) => "n.source",
        (Kind::Versions, Column::Stage) => "n.stage",
        (Kind::Versions, Column::User) => "n.user_name",
        (Kind::Versions, Column::Model) => "n.model",
        (Kind::Versions, Column::Created) => "v.made_at",
        (Kind::Versions, Column::Updated) => "n.updated_at",
    }
}

/// What is absent comes last, whichever the direction.
fn ordered(kind: Kind, column: Column, ascending: bool) -> String {
    let direction = if ascending { "ASC" } else { "DESC" };
    let name = sql_column(kind, column);
    match column {
        Column::Run | Column::User | Column::Model => format!("{name} IS NULL, {name} {direction}"),
        _ => format!("{name} {direction}"),
    }
}

impl SqliteRegistry {
    pub(super) async fn find_models(&self, search: &Search) -> Result<Page<RegisteredModel>> {
        let statement = Statement::new(Kind::Models, search)?;
        let mut db = self.ledger.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("search registered models", e))?;
        let found = statement.page(&mut tx, search, |row| {
            let mut model = bare_model(row)?;
            model.tags = statement.tags(row)?;
            Ok(search.filter.holds(&ModelFields(&model)).then_some(model))
        });
        let Page { items, more } = found.await?;
        Ok(Page { items: whole_models(&mut tx, items).await?, more })
    }

    pub(super) async fn find_versions(&self, search: &Search) -> Result<Page<ModelVersion>> {
        let statement = Statement::new(Kind::Versions, search)?;
        let mut db = self.ledger.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("search model versions", e))?;
        let found = statement.page(&mut tx, search, |row| {
            let mut version = bare_version(row)?;
            version.tags = statement.tags(row)?;
            Ok(search.filter.holds(&VersionFields(&version)).then_some(version))
        });
        let Page { items, more } = found.await?;
        Ok(Page { items: whole_versions(&mut tx, items).await?, more })
    }

    pub(super) async fn newest_of_stages(&self, names: &[String]) -> Result<Vec<ModelVersion>> {
        let mut db = self.ledger.reader().await?;
        let mut tx = db.begin().await.map_err(|e| fault("read the newest versions", e))?;
        let mut newest = Vec::new();
        for part in names.chunks(NAMES_NARROWED_MAX) {
            let places: Vec<String> = (1..=part.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                concat!(
                    "SELECT ",
                    version_columns!(),
                    " FROM ",
                    seen_versions!(),
                    " AND (n.asset, n.number) IN (SELECT o.asset, max(o.number) FROM model_version_notes o \
                      JOIN registered_models r ON r.asset = o.asset WHERE o.deleted = 0 AND r.name IN ({}) GROUP BY o.asset, o.stage)"
                ),
                places.join(",")
            );
            let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
            for name in part {
                query = query.bind(name);
            }
            let rows = query.fetch_all(&mut *tx).await.map_err(|e| fault("read the newest versions", e))?;
            newest.extend(rows.iter().map(bare_version).collect::<Result<Vec<_>>>()?);
        }
        let at: HashMap<&str, usize> = names.iter().enumerate().rev().map(|(i, name)| (name.as_str(), i)).collect();
        let stage = |stage: ModelStage| ModelStage::ALL.iter().position(|s| *s == stage);
        newest.sort_by_key(|version| (at.get(version.name.as_str()).copied(), stage(version.stage)));
        newest.dedup_by(|a, b| a.id == b.id);
        whole_versions(&mut tx, newest).await
    }
}
