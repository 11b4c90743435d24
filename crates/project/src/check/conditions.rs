//! Every condition parses and uses only names it can know.

use super::Diagnostic;
use crate::figures;
use crate::file::Rollout;
use crate::project::Project;
use arrow::datatypes::SchemaRef;
use gristmill_kernel::limits::PARITY_ROWS_MAX;
use gristmill_kernel::port::Engine;
use gristmill_kernel::{Code, Fault, Name, Span};
use std::collections::BTreeMap;

pub(super) fn all(project: &Project, engine: &dyn Engine, columns: &BTreeMap<Name, SchemaRef>, found: &mut Vec<Diagnostic>) {
    let mut check = |condition: &str, names: &[String], path: &str| {
        if let Err(fault) = engine.check_condition(condition, names) {
            found.push(Diagnostic::error(place(project, fault, condition, path)));
        }
    };
    for (name, model) in &project.file.models {
        let names = figures::gates(model.task, &model.gates);
        for (i, gate) in model.gates.iter().enumerate() {
            check(gate, &names, &format!("models.{name}.gates.{i}"));
        }
        if let Some(when) = model.retrain.as_ref().and_then(|r| r.when.as_ref()) {
            check(when, &owned(&figures::RETRAIN), &format!("models.{name}.retrain.when"));
        }
    }
    for (name, endpoint) in &project.file.endpoints {
        check(&endpoint.monitor.drift, &owned(&figures::DRIFT), &format!("endpoints.{name}.monitor.drift"));
        check(&endpoint.monitor.parity, &owned(&figures::PARITY), &format!("endpoints.{name}.monitor.parity"));
        if let Rollout::Table(table) = &endpoint.rollout
            && let Some(abort) = &table.abort
        {
            let copies = table.shadow.is_some() || table.blue_green.is_some();
            check(abort, &figures::live(copies), &format!("endpoints.{name}.rollout.abort"));
        }
    }
    for (name, endpoint) in project.file.endpoints.iter().filter(|(_, e)| e.monitor.audit > PARITY_ROWS_MAX) {
        let what =
            format!("`audit` is {}, at most {PARITY_ROWS_MAX} feature vectors of a window are computed again", endpoint.monitor.audit);
        let fault = Fault::invalid(Code::BAD_VALUE, what).fix(format!("write audit = {PARITY_ROWS_MAX} or fewer"));
        found.push(Diagnostic::error(project.at(fault, &format!("endpoints.{name}.monitor.audit"))));
    }
    for (name, source) in &project.file.sources {
        let Some(schema) = columns.get(name) else { continue };
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        if let Some(time) = source.time.as_ref().filter(|t| !names.contains(t)) {
            let fault = Fault::invalid(Code::UNKNOWN_COLUMN, format!("sources.{name} has no column `{time}`"));
            let fix = crate::text::did_you_mean(time, "columns", names.iter().map(String::as_str));
            found.push(Diagnostic::error(project.at(fault.fix(fix), &format!("sources.{name}.time"))));
        }
        for (i, expect) in source.expect.iter().enumerate() {
            let path = format!("sources.{name}.expect.{i}");
            let answer = match helper(&expect.that) {
                Some(helper) => helper.check(&names, source.time.is_some()),
                None => engine.check_condition(&expect.that, &names),
            };
            if let Err(fault) = answer {
                found.push(Diagnostic::error(place(project, fault, &expect.that, &path)));
            }
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// A condition's fault points into the TOML file, not into the condition alone.
fn place(project: &Project, mut fault: Fault, condition: &str, path: &str) -> Fault {
    fault.spot = None;
    if !fault.message.contains(condition.trim()) {
        fault.message = format!("`{}`: {}", condition.trim(), fault.message);
    }
    project.at(fault, path)
}

/// A helper that stands alone.
enum Helper<'a> {
    Unique(Vec<&'a str>),
    Fresh(&'a str),
}

fn helper(that: &str) -> Option<Helper<'_>> {
    let inner = |name: &str| that.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
    if let Some(columns) = inner("unique").filter(|c| !c.contains(['(', ')'])) {
        return Some(Helper::Unique(columns.split(',').map(str::trim).collect()));
    }
    inner("fresh").filter(|c| !c.contains(['(', ')'])).map(Helper::Fresh)
}

impl Helper<'_> {
    fn check(&self, names: &[String], timed: bool) -> Result<(), Fault> {
        match self {
            Helper::Unique(columns) => {
                let known = |c: &str| names.iter().any(|n| n == c.trim_matches('"'));
                match columns.iter().find(|c| !known(c)) {
                    None => Ok(()),
                    Some(bad) => Err(Fault::invalid(Code::UNKNOWN_COLUMN, format!("there is no column `{bad}`"))
                        .fix(crate::text::did_you_mean(bad, "columns", names.iter().map(String::as_str)))),
                }
            }
            Helper::Fresh(age) if !timed => Err(Fault::invalid(Code::BAD_CONDITION, format!("`fresh({age})` needs a source with a time"))
                .fix("add time = \"COLUMN\" to the source")),
            Helper::Fresh(age) => {
                let text = age.trim().trim_matches('\'');
                let words: Vec<&str> = text.split_whitespace().collect();
                let units = ["second", "minute", "hour", "day", "week"];
                let spelled =
                    matches!(words[..], [number, unit] if number.parse::<u32>().is_ok() && units.contains(&unit.trim_end_matches('s')));
                let quoted = age.trim().len() >= 2 && age.trim().starts_with('\'') && age.trim().ends_with('\'');
                if quoted && (spelled || text.parse::<Span>().is_ok()) {
                    return Ok(());
                }
                Err(Fault::invalid(Code::BAD_CONDITION, format!("`fresh({age})` names no duration")).fix("write fresh('2 minutes')"))
            }
        }
    }
}
