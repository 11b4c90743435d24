//! Which column of a request is which input of a model: the signature's names and types, in the model's order. Pure.

use super::mlmodel::{Column, ColumnKind, Inputs};
use super::{REQUEST, Refused};
use crate::runtime::onnx::Takes;
use crate::runtime::{Codes, ReadModel};
use gristmill_kernel::model::Feature;
use gristmill_kernel::view::FeatureType;
use std::collections::HashMap;

/// Features in the model's order, and which of them a row may leave out.
pub type Features = (Vec<Feature>, Vec<bool>);

/// The inputs of a forest.
pub fn of_forest(read: &ReadModel, inputs: &Inputs) -> Result<Features, Refused> {
    let Some(columns) = columns(read.names.len(), &read.names, inputs)? else {
        let codes = codes_by_input(read);
        let one = |(input, name): (usize, &String)| match codes.get(&input) {
            Some(Codes::Words(words)) => feature(name, FeatureType::Category, words.clone()),
            _ => feature(name, FeatureType::Number, Vec::new()),
        };
        return Ok((read.names.iter().enumerate().map(one).collect(), vec![false; read.names.len()]));
    };
    let codes = codes_by_column(read, &columns);
    let mut features = Vec::with_capacity(columns.len());
    for (input, (name, column)) in columns.iter().enumerate() {
        features.push(match (&column.kind, codes.get(&input)) {
            (ColumnKind::Text, Some(Codes::Words(words))) => feature(name, FeatureType::Category, words.clone()),
            (ColumnKind::Text, _) => {
                return Err(Refused::new(
                    format!("its column `{}` is text, and its file does not say which words have which codes", name.escape_debug()),
                    "give it numbers, or train on a pandas table with columns of the dtype `category`, whose words are saved with the model",
                ));
            }
            (_, Some(Codes::Other)) => {
                return Err(Refused::new(
                    format!("the categories of its column `{}` are neither words nor numbers from 0 on", name.escape_debug()),
                    "make them text before training: X[column].astype(str).astype(\"category\")",
                ));
            }
            _ => number(name, column)?,
        });
    }
    Ok((features, columns.iter().map(|(_, column)| !column.required).collect()))
}

/// The inputs of a graph.
pub fn of_graph(names: &[String], takes: &[Takes], inputs: &Inputs) -> Result<Features, Refused> {
    let Some(columns) = columns(names.len(), names, inputs)? else {
        let one = |(name, takes): (&String, &Takes)| match takes {
            Takes::Words(words) => feature(name, FeatureType::Category, words.clone()),
            Takes::Boolean => feature(name, FeatureType::Boolean, Vec::new()),
            Takes::Number => feature(name, FeatureType::Number, Vec::new()),
        };
        return Ok((names.iter().zip(takes).map(one).collect(), vec![false; names.len()]));
    };
    let mut features = Vec::with_capacity(columns.len());
    for ((name, column), takes) in columns.iter().zip(takes) {
        features.push(match (&column.kind, takes) {
            (ColumnKind::Text, Takes::Words(words)) => feature(name, FeatureType::Category, words.clone()),
            (ColumnKind::Text, _) => {
                return Err(Refused::new(
                    format!("its column `{}` is text, where the model takes a number", name.escape_debug()),
                    "encode texts before the model, and register it with a signature of the encoded columns",
                ));
            }
            (_, Takes::Words(_)) => {
                return Err(Refused::new(
                    format!("its column `{}` is no text, where the model takes text", name.escape_debug()),
                    "register it with the signature of what it was trained on: mlflow.models.infer_signature(X, predictions)",
                ));
            }
            (_, Takes::Number | Takes::Boolean) => number(name, column)?,
        });
    }
    Ok((features, columns.iter().map(|(_, column)| !column.required).collect()))
}

fn number(name: &str, column: &Column) -> Result<Feature, Refused> {
    match &column.kind {
        ColumnKind::Number => Ok(feature(name, FeatureType::Number, Vec::new())),
        ColumnKind::Boolean => Ok(feature(name, FeatureType::Boolean, Vec::new())),
        ColumnKind::Text => Err(Refused::new(format!("its column `{}` is text", name.escape_debug()), "give it numbers")),
        ColumnKind::Other(kind) => Err(Refused::new(
            format!("its column `{}` has the type {}", name.escape_debug(), kind.escape_debug()),
            "served are columns of numbers, true and false, and words of known categories",
        )),
    }
}

fn feature(name: &str, kind: FeatureType, categories: Vec<String>) -> Feature {
    Feature { view: REQUEST.to_owned(), column: name.to_owned(), kind, categories }
}

/// The signature's columns in the model's order, each with its name; `None` if the signature names none, so that the model's names stand.
///
/// Columns belong to inputs by name where all names are the model's, else by place, as the libraries themselves take tables.
fn columns<'a>(width: usize, names: &'a [String], inputs: &'a Inputs) -> Result<Option<Vec<(&'a str, &'a Column)>>, Refused> {
    let Inputs::Columns(columns) = inputs else { return Ok(None) };
    if columns.len() != width {
        return Err(Refused::new(
            format!("its signature has {} columns, the model takes {width}", columns.len()),
            "register it with the signature of what it was trained on: mlflow.models.infer_signature(X, predictions)",
        ));
    }
    let by_name: HashMap<&str, &Column> = columns.iter().filter_map(|c| Some((c.name.as_deref()?, c))).collect();
    if by_name.len() == width && names.iter().all(|name| by_name.contains_key(name.as_str())) {
        return Ok(Some(names.iter().map(|name| (name.as_str(), by_name[name.as_str()])).collect()));
    }
    let named = |(column, name): (&'a Column, &'a String)| (column.name.as_deref().unwrap_or(name), column);
    Ok(Some(columns.iter().zip(names).map(named).collect()))
}

/// What the codes of each categorical input stand for, where the file lists as many columns as inputs.
fn codes_by_input(read: &ReadModel) -> HashMap<usize, &Codes> {
    let categories = &read.categories;
    match categories.codes.len() == categories.inputs.len() {
        true => categories.inputs.iter().copied().zip(&categories.codes).collect(),
        false => HashMap::new(),
    }
}

/// The same with the signature at hand: where an input that no tree asks about hides that it is categorical, the columns of text are.
fn codes_by_column<'a>(read: &'a ReadModel, columns: &[(&str, &Column)]) -> HashMap<usize, &'a Codes> {
    let texts: Vec<usize> = (0..columns.len()).filter(|i| columns[*i].1.kind == ColumnKind::Text).collect();
    match texts.len() == read.categories.codes.len() {
        true => texts.into_iter().zip(&read.categories.codes).collect(),
        false => codes_by_input(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Categories;
    use crate::runtime::forest::{Builder, Link, Precision};
    use gristmill_kernel::model::Task;

    fn model(names: &[&str], categorical: &[usize], codes: Vec<Codes>) -> ReadModel {
        let builder = Builder::new(names.len(), vec![0.0], Precision::Double, Link::Identity).expect("a builder");
        ReadModel {
            forest: builder.finish(),
            task: Task::Regression,
            classes: vec![],
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            categories: Categories { inputs: categorical.to_vec(), codes },
        }
    }
    fn columns_of(kinds: &[(&str, ColumnKind)]) -> Inputs {
        Inputs::Columns(kinds.iter().map(|(n, k)| Column { name: Some((*n).into()), kind: k.clone(), required: true }).collect())
    }
    fn words(words: &[&str]) -> Codes {
        Codes::Words(words.iter().map(|w| (*w).to_owned()).collect())
    }
    fn names(features: &Features) -> Vec<&str> {
        features.0.iter().map(|f| f.column.as_str()).collect()
    }

    #[test]
    fn columns_are_taken_by_name_or_else_by_place() {
        let read = model(&["a", "b"], &[], vec![]);
        let turned = columns_of(&[("b", ColumnKind::Boolean), ("a", ColumnKind::Number)]);
        let found = of_forest(&read, &turned).expect("features");
        assert_eq!((names(&found), found.0[1].kind), (vec!["a", "b"], FeatureType::Boolean));
        let spaced = model(&["mean_radius", "x"], &[], vec![]);
        let found = of_forest(&spaced, &columns_of(&[("mean radius", ColumnKind::Number), ("x", ColumnKind::Number)])).expect("features");
        assert_eq!(names(&found), ["mean radius", "x"]);
        assert_eq!(names(&of_forest(&read, &Inputs::Tensors(1)).expect("features")), ["a", "b"]);
        let refused = of_forest(&read, &columns_of(&[("a", ColumnKind::Number)])).expect_err("too few");
        assert!(refused.why.contains("1 columns, the model takes 2"), "{}", refused.why);
    }

    #[test]
    fn words_need_codes() {
        let plan = || vec![words(&["basic", "plus"])];
        let signature = columns_of(&[("age", ColumnKind::Number), ("plan", ColumnKind::Text)]);
        let found = of_forest(&model(&["age", "plan"], &[1], plan()), &signature).expect("features");
        assert_eq!((found.0[1].kind, found.0[1].categories.len()), (FeatureType::Category, 2));
        let hidden = of_forest(&model(&["age", "plan"], &[], plan()), &signature).expect("no tree asks about the plan");
        assert_eq!(hidden.0[1].kind, FeatureType::Category);
        let unsaid = of_forest(&model(&["age", "plan"], &[1], plan()), &Inputs::Unsaid).expect("features");
        assert_eq!(unsaid.0[1].kind, FeatureType::Category);
        assert!(of_forest(&model(&["age", "plan"], &[1], vec![]), &signature).is_err());
        let numbers = columns_of(&[("age", ColumnKind::Number), ("plan", ColumnKind::Number)]);
        assert!(of_forest(&model(&["age", "plan"], &[1], vec![Codes::Other]), &numbers).is_err());
        let same = of_forest(&model(&["age", "plan"], &[1], vec![Codes::Same]), &numbers).expect("codes themselves");
        assert_eq!(same.0[1].kind, FeatureType::Number);
        assert!(of_graph(&["x".into()], &[Takes::Number], &columns_of(&[("x", ColumnKind::Other("datetime".into()))])).is_err());
    }

    #[test]
    fn a_graph_takes_text_where_it_encodes_text() {
        let (names, takes) = (["age".to_owned(), "plan".to_owned()], [Takes::Number, Takes::Words(vec!["basic".to_owned()])]);
        let signature = columns_of(&[("plan", ColumnKind::Text), ("age", ColumnKind::Number)]);
        let found = of_graph(&names, &takes, &signature).expect("features");
        assert_eq!((found.0[1].kind, found.0[1].categories.len()), (FeatureType::Category, 1));
        let unsaid = of_graph(&names, &takes, &Inputs::Unsaid).expect("features");
        assert_eq!((unsaid.0[0].kind, unsaid.0[1].kind), (FeatureType::Number, FeatureType::Category));
        let unsaid = of_graph(&names, &[Takes::Boolean, Takes::Number], &Inputs::Unsaid).expect("features");
        assert_eq!((unsaid.0[0].kind, unsaid.0[1].kind), (FeatureType::Boolean, FeatureType::Number));
        assert!(of_graph(&names, &[Takes::Number, Takes::Boolean], &signature).is_err());
        let numbers = columns_of(&[("plan", ColumnKind::Number), ("age", ColumnKind::Number)]);
        assert!(of_graph(&names, &takes, &numbers).is_err());
    }
}
