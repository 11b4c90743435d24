//! Every query parses, reads tables and columns that exist, and every view can be read as of a moment.

use super::{Diagnostic, names};
use crate::project::Project;
use arrow::datatypes::{DataType, SchemaRef};
use gristmill_kernel::port::{Engine, TableShape};
use gristmill_kernel::table::{Catalog, Relation};
use gristmill_kernel::view::{LabelDef, REQUEST, ViewAt};
use gristmill_kernel::{Code, Fault, Name};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn all(project: &Project, engine: &dyn Engine, columns: &BTreeMap<Name, SchemaRef>, found: &mut Vec<Diagnostic>) {
    let mut read = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    let shape = |table: &str, time: &Option<String>| {
        let schema = columns.iter().find(|(n, _)| n.as_str() == table)?.1.clone();
        Some((table.to_owned(), TableShape { schema, time: time.clone() }))
    };
    for view in project.views.values() {
        let reads = match project.reads(engine, &view.sql, &view.file, view.line_offset, view.at == ViewAt::Request) {
            Ok(reads) => reads,
            Err(faults) => {
                found.extend(faults.into_iter().map(Diagnostic::error));
                continue;
            }
        };
        read.extend(reads.tables.keys().cloned());
        let shapes: BTreeMap<String, TableShape> = reads.tables.iter().filter_map(|(t, time)| shape(t, time)).collect();
        if shapes.len() < reads.tables.len() {
            unknown.extend(reads.tables.keys().filter(|t| !shapes.contains_key(*t)).cloned());
            continue;
        }
        let mut shapes = shapes;
        shapes.extend(view.request_schema().map(|schema| (REQUEST.to_owned(), TableShape { schema, time: None })));
        match engine.compile(view, &shapes).await {
            Ok(plan) => {
                for remark in &plan.shape().remarks {
                    let fault = Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("features.{}: {remark}", view.name));
                    found.push(Diagnostic::warning(at_query(project, fault, &view.file, view.line_offset)));
                }
            }
            Err(fault) => found.push(Diagnostic::error(at_query(project, fault, &view.file, view.line_offset))),
        }
    }
    for labels in project.labels.values() {
        match project.reads(engine, &labels.sql, &labels.file, labels.line_offset, false) {
            Ok(reads) => {
                read.extend(reads.tables.keys().cloned());
                if reads.analysis.uses_as_of {
                    let fault =
                        Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("{} uses as_of(), but labels are an ordinary query", labels.file));
                    let fault = fault.fix(format!("give the moment as the column `{}`", labels.time));
                    found.push(Diagnostic::error(at_word(project, fault, labels, "as_of")));
                }
                let shapes: Vec<_> = reads.tables.iter().filter_map(|(t, time)| shape(t, time)).collect();
                if shapes.len() == reads.tables.len() {
                    label_columns(project, engine, labels, shapes, found).await;
                } else {
                    unknown.extend(reads.tables.into_keys().filter(|t| shapes.iter().all(|(s, _)| s != t)));
                }
            }
            Err(faults) => found.extend(faults.into_iter().map(Diagnostic::error)),
        }
    }
    for source in unknown {
        let fault = Fault::invalid(
            Code::SCHEMA_CHANGED,
            format!("the columns of sources.{source} are not known yet, so queries over it are only parsed"),
        );
        let fault = fault.fix(format!("run gristmill run sources.{source}, which pins them in gristmill.lock"));
        found.push(Diagnostic::warning(project.at(fault, &format!("sources.{source}"))));
    }
    names::unused(project, &read, found);
}

/// The label query gives what its header promises.
async fn label_columns(
    project: &Project,
    engine: &dyn Engine,
    labels: &LabelDef,
    shapes: Vec<(String, TableShape)>,
    found: &mut Vec<Diagnostic>,
) {
    let catalog: Catalog = shapes.into_iter().map(|(name, shape)| (name, Relation::Rows(Vec::new(), shape.schema))).collect();
    let schema = match engine.schema(&labels.sql, &catalog).await {
        Ok(schema) => schema,
        Err(fault) => {
            found.push(Diagnostic::error(at_query(project, fault, &labels.file, labels.line_offset)));
            return;
        }
    };
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    for column in labels.entity.iter().chain([&labels.time, &labels.label]) {
        if !names.contains(&column.as_str()) {
            let fault = Fault::invalid(
                Code::BAD_HEADER,
                format!("the header of {} names the column `{column}`, which its query does not give", labels.file),
            );
            let fault = fault.fix(crate::text::did_you_mean(column, "columns of the query", names.iter().copied()));
            found.push(Diagnostic::error(at_word(project, fault, labels, column)));
        }
    }
    let timed = |kind: &DataType| matches!(kind, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Null);
    if let Ok(field) = schema.field_with_name(&labels.time)
        && !timed(field.data_type())
    {
        let fault = Fault::invalid(
            Code::WRONG_TYPE,
            format!("the moment `{}` of {} is {}, not a time", labels.time, labels.file, field.data_type()),
        );
        found.push(Diagnostic::error(at_word(project, fault.fix("cast it to timestamp"), labels, &labels.time)));
    }
}

/// Puts a fault of the engine into the file: its own place if it has one, else the query's first line.
fn at_query(project: &Project, fault: Fault, file: &str, line_offset: usize) -> Fault {
    if fault.spot.is_some() {
        return fault;
    }
    let Some(text) = project.sql.get(file) else { return fault };
    let start: usize = text.text.lines().take(line_offset).map(|l| l.len() + 1).sum();
    let end = text.text.get(start..).and_then(|t| t.find('\n')).map_or(text.text.len(), |i| start + i);
    fault.at(text.spot(start..end))
}

fn at_word(project: &Project, fault: Fault, labels: &LabelDef, word: &str) -> Fault {
    let spot = project.sql.get(&labels.file).and_then(|t| Some(t.spot(t.word(word, 0)?)));
    match spot {
        Some(spot) => fault.at(spot),
        None => fault,
    }
}
