//! The operators of ONNX that become steps. Meanings are those of ONNX's operator documents, as ONNX Runtime computes them.
//!
//! To add one: an arm in [`add`]. What a node asks beyond what its arm knows is [`Failed::Unknown`], never an approximation.

use super::graph::{Arithmetic, Build, Column, Failed, Function, Held, Keys, Norm, Operand, Pair, Step, key};
use super::proto::{self, Attribute, Node, Tensor};
use crate::runtime::forest::{Builder, FileNode, Forest, Link, Missing, Precision, Test};
use gristmill_kernel::limits::MODEL_INPUTS_MAX;
use std::collections::HashMap;

type Added = Result<(usize, usize), Failed>;

/// Adds the steps of a node. Gives its result, and which of the node's outputs that is.
pub fn add<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Result<(Held, usize), Failed> {
    match texts(build, node)? {
        Some(columns) => Ok((Held::Texts(columns), 0)),
        None => numbers(build, node).map(|(register, output)| (Held::Numbers(register), output)),
    }
}

/// The columns of texts that a node passes on, if it does just that.
fn texts<'a>(build: &Build<'a>, node: &Node<'a>) -> Result<Option<Vec<Column>>, Failed> {
    let Some(first) = build.texts(node, 0) else { return Ok(None) };
    match node.op {
        "Identity" => Ok(Some(first.to_vec())),
        "Reshape" if flat(build, node, first.len()) => Ok(Some(first.to_vec())),
        "Concat" if side_by_side(node) => {
            let mut all = Vec::new();
            for place in 0..node.inputs.len() {
                all.extend(build.texts(node, place).ok_or_else(|| unknown(node))?);
                if all.len() > MODEL_INPUTS_MAX {
                    return Err(broken(node, "too many inputs"));
                }
            }
            Ok(Some(all))
        }
        "ArrayFeatureExtractor" | "Gather" if node.op != "Gather" || side_by_side(node) => {
            Ok(Some(picked(build, node, first.len())?.into_iter().map(|place| first[place]).collect()))
        }
        _ => Ok(None),
    }
}

fn numbers<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let map = |build: &mut Build<'a>, function| {
        let (from, width) = build.input(node, 0)?;
        Ok((build.push(Step::Map(from, function), width)?, 0))
    };
    match node.op {
        "Identity" | "Dropout" => Ok((build.input(node, 0)?.0, 0)),
        "Flatten" if int(node, "axis").unwrap_or(1) == 1 => {
            let (from, _) = build.input(node, 0)?;
            Ok((build.flat(from)?, 0))
        }
        "Reshape" => reshape(build, node),
        "Cast" => match int(node, "to") {
            Some(proto::FLOAT) => map(build, Function::Single),
            Some(proto::DOUBLE) => Ok((build.input(node, 0)?.0, 0)),
            Some(proto::INT64 | proto::INT32) => map(build, Function::Whole),
            Some(proto::BOOL) => map(build, Function::Truth),
            _ => Err(unknown(node)),
        },
        "Relu" => map(build, Function::Relu),
        "Sigmoid" => map(build, Function::Sigmoid),
        "Tanh" => map(build, Function::Tanh),
        "Exp" => map(build, Function::Exp),
        "Sqrt" => map(build, Function::Sqrt),
        "Log" => map(build, Function::Log),
        "Abs" => map(build, Function::Absolute),
        "Erf" => map(build, Function::Erf),
        "Softplus" => map(build, Function::Softplus),
        "LeakyRelu" => map(build, Function::Leaky(f64::from(float(node, "alpha").unwrap_or(0.01)))),
        "Elu" => map(build, Function::Elu(f64::from(float(node, "alpha").unwrap_or(1.0)))),
        "Gelu" if text(node, "approximate").unwrap_or("none") == "none" => map(build, Function::Gelu),
        "Clip" => {
            let (least, most) = (bound(build, node, 1, "min", f64::NEG_INFINITY)?, bound(build, node, 2, "max", f64::INFINITY)?);
            map(build, Function::Clip(least, most))
        }
        "BatchNormalization" if int(node, "training_mode").unwrap_or(0) == 0 => batch_normalization(build, node),
        "LayerNormalization" => layer_normalization(build, node),
        "Gather" if int(node, "axis").unwrap_or(0) == 0 => embed(build, node),
        "Gather" if gathers_columns(build, node) => pick(build, node),
        "OneHotEncoder" => one_hot(build, node),
        "LabelEncoder" => look_up(build, node),
        "Neg" => map(build, Function::Negate),
        "Softmax" if [-1, 1].contains(&int(node, "axis").unwrap_or(-1)) => {
            let (from, width) = build.input(node, 0)?;
            Ok((build.push(Step::Softmax(from), width)?, 0))
        }
        "Add" => arithmetic(build, node, Arithmetic::Add),
        "Sum" => sum(build, node),
        "Sub" => arithmetic(build, node, Arithmetic::Subtract),
        "Mul" => arithmetic(build, node, Arithmetic::Multiply),
        "Div" => arithmetic(build, node, Arithmetic::Divide),
        "MatMul" => product(build, node, Product { transposed: false, bias: None }),
        "Gemm" => gemm(build, node),
        "Concat" if side_by_side(node) => join(build, node),
        "FeatureVectorizer" => join(build, node),
        "ArrayFeatureExtractor" => pick(build, node),
        "Scaler" => {
            let (from, width) = build.input(node, 0)?;
            let (offset, scale) = (spread(node, floats(node, "offset"), width)?, spread(node, floats(node, "scale"), width)?);
            Ok((build.push(Step::Scale { from, offset, scale }, width)?, 0))
        }
        "Imputer" => impute(build, node),
        "Normalizer" => {
            let norm = match text(node, "norm").unwrap_or("MAX") {
                "MAX" => Norm::Max,
                "L1" => Norm::Sum,
                "L2" => Norm::Euclid,
                _ => return Err(unknown(node)),
            };
            let (from, width) = build.input(node, 0)?;
            Ok((build.push(Step::Normalize(from, norm), width)?, 0))
        }
        "LinearRegressor" => linear(build, node, usize::try_from(int(node, "targets").unwrap_or(1)).unwrap_or(0), 0),
        "LinearClassifier" => linear(build, node, labels(node), 1),
        "TreeEnsembleRegressor" => trees(build, node, Ensemble::REGRESSOR),
        "TreeEnsembleClassifier" => trees(build, node, Ensemble::CLASSIFIER),
        _ => Err(unknown(node)),
    }
}

fn unknown(node: &Node<'_>) -> Failed {
    Failed::Unknown(format!("the operator {} as it is used here", node.op.escape_debug()))
}
fn broken(node: &Node<'_>, what: &str) -> Failed {
    Failed::Broken(format!("a node {}: {what}", node.op.escape_debug()))
}

fn attribute<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Attribute<'a>> {
    node.attributes.iter().find(|a| a.name == name)
}
fn int(node: &Node<'_>, name: &str) -> Option<i64> {
    attribute(node, name)?.int
}
fn float(node: &Node<'_>, name: &str) -> Option<f32> {
    attribute(node, name)?.float
}
fn text<'n>(node: &'n Node<'_>, name: &str) -> Option<&'n str> {
    std::str::from_utf8(attribute(node, name)?.text?).ok()
}
fn ints<'n>(node: &'n Node<'_>, name: &str) -> &'n [i64] {
    attribute(node, name).map_or(&[], |a| &a.ints)
}
/// A list of numbers, which an attribute may also hold as a tensor of `double` under a longer name.
fn floats(node: &Node<'_>, name: &str) -> Vec<f64> {
    let tensor = attribute(node, &format!("{name}_as_tensor")).and_then(|a| a.tensor.as_ref());
    match (attribute(node, name), tensor) {
        (Some(plain), _) if !plain.floats.is_empty() => plain.floats.iter().map(|x| f64::from(*x)).collect(),
        (_, Some(tensor)) => tensor.numbers.clone(),
        _ => Vec::new(),
    }
}
/// How many classes a classifier tells apart.
fn labels(node: &Node<'_>) -> usize {
    node.attributes.iter().filter(|a| a.name.starts_with("classlabels_")).map(|a| a.ints.len() + a.texts.len()).sum()
}

/// One number per column; a single one stands for all.
fn spread(node: &Node<'_>, numbers: Vec<f64>, width: usize) -> Result<Vec<f64>, Failed> {
    match numbers.len() {
        1 => Ok(vec![numbers[0]; width]),
        count if count == width => Ok(numbers),
        count => Err(broken(node, &format!("{count} numbers for {width} columns"))),
    }
}

fn reshape<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (from, width) = build.input(node, 0)?;
    if flat(build, node, width) { Ok((build.flat(from)?, 0)) } else { Err(unknown(node)) }
}

/// Whether a new shape leaves rows of this width as they are.
fn flat<'a>(build: &Build<'a>, node: &Node<'a>, width: usize) -> bool {
    match build.constant(node, 1).map(|shape| shape.numbers.as_slice()) {
        Some([rows, columns]) => [-1.0, 0.0].contains(rows) && *columns == width as f64 || *rows == 0.0 && *columns == -1.0,
        Some([-1.0]) => width == 1,
        _ => false,
    }
}

fn side_by_side(node: &Node<'_>) -> bool {
    [-1, 1].contains(&int(node, "axis").unwrap_or(0))
}

fn join<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let mut from = Vec::new();
    let mut all = 0_usize;
    for place in 0..node.inputs.len() {
        let (register, width) = build.input(node, place)?;
        from.push(register);
        all = all.saturating_add(width);
    }
    if from.len() > MODEL_INPUTS_MAX {
        return Err(broken(node, "too many inputs"));
    }
    Ok((build.push(Step::Join(from), all)?, 0))
}

fn pick<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (from, width) = build.input(node, 0)?;
    let columns = picked(build, node, width)?;
    let count = columns.len();
    Ok((build.push(Step::Pick(from, columns), count)?, 0))
}

fn picked<'a>(build: &Build<'a>, node: &Node<'a>, width: usize) -> Result<Vec<usize>, Failed> {
    let columns = &build.constant(node, 1).ok_or_else(|| unknown(node))?.numbers;
    let column = |x: &f64| match if *x < 0.0 && node.op == "Gather" { *x + width as f64 } else { *x } {
        x if x >= 0.0 && x < width as f64 => Ok(x as usize),
        _ => Err(broken(node, "a column that is not there")),
    };
    columns.iter().map(column).collect()
}

/// Whether a `Gather` takes columns of rows: along the last dimension, by a list.
fn gathers_columns<'a>(build: &Build<'a>, node: &Node<'a>) -> bool {
    let along = match int(node, "axis") {
        Some(-1) => true,
        Some(1) => build.input(node, 0).is_ok_and(|(from, _)| build.is_flat(from)),
        _ => false,
    };
    along && build.constant(node, 1).is_some_and(|places| places.dims.len() == 1)
}

fn sum<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (mut all, width) = build.input(node, 0)?;
    for place in 1..node.inputs.len() {
        let (next, same) = build.input(node, place)?;
        if same != width {
            return Err(unknown(node));
        }
        all = build.push(Step::Arithmetic(Operand::Register(all), Arithmetic::Add, Operand::Register(next)), width)?;
    }
    Ok((all, 0))
}

/// A bound of `Clip`: an input since version 11, an attribute before.
fn bound<'a>(build: &Build<'a>, node: &Node<'a>, place: usize, name: &str, none: f64) -> Result<f64, Failed> {
    match node.inputs.get(place) {
        Some(given) if !given.is_empty() => match build.constant(node, place).map(|constant| constant.numbers.as_slice()) {
            Some([bound]) => Ok(*bound),
            _ => Err(unknown(node)),
        },
        _ => Ok(float(node, name).map_or(none, f64::from)),
    }
}

/// A constant of one number per column.
fn per_column<'a>(build: &Build<'a>, node: &Node<'a>, place: usize, width: usize) -> Result<&'a [f64], Failed> {
    let numbers = &build.constant(node, place).ok_or_else(|| unknown(node))?.numbers;
    if numbers.len() == width { Ok(numbers) } else { Err(broken(node, &format!("{} numbers for {width} columns", numbers.len()))) }
}

fn batch_normalization<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (from, width) = build.input(node, 0)?;
    let epsilon = f64::from(float(node, "epsilon").unwrap_or(1e-5));
    let [scale, bias, mean, variance] = [
        per_column(build, node, 1, width)?,
        per_column(build, node, 2, width)?,
        per_column(build, node, 3, width)?,
        per_column(build, node, 4, width)?,
    ];
    let scale = scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    let scaled = build.push(Step::Scale { from, offset: mean.to_vec(), scale }, width)?;
    let sum = Step::Arithmetic(Operand::Register(scaled), Arithmetic::Add, Operand::Constant(bias.to_vec()));
    Ok((build.push(sum, width)?, 0))
}

fn layer_normalization<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (from, width) = build.input(node, 0)?;
    if ![-1, 1].contains(&int(node, "axis").unwrap_or(-1)) {
        return Err(unknown(node));
    }
    let scale = per_column(build, node, 1, width)?.to_vec();
    let bias = if node.inputs.len() > 2 { per_column(build, node, 2, width)?.to_vec() } else { vec![0.0; width] };
    let epsilon = f64::from(float(node, "epsilon").unwrap_or(1e-5));
    Ok((build.push(Step::Standardize { from, epsilon, scale, bias }, width)?, 0))
}

/// Rows of a constant table, chosen by numbers.
fn embed<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let table = build.constant(node, 0).filter(|table| table.dims.len() == 2).ok_or_else(|| unknown(node))?;
    let (from, count) = build.input(node, 1)?;
    let (rows, width) = (table.dims[0], usize::try_from(table.dims[1]).unwrap_or(0));
    if rows < 1 || width == 0 {
        return Err(broken(node, "a table without rows"));
    }
    Ok((build.push(Step::Embed { from, table: table.numbers.clone(), width }, count.saturating_mul(width))?, 0))
}

/// The columns of a value, and whether they are words.
fn columns_of<'a>(build: &Build<'a>, node: &Node<'a>) -> Result<(Vec<Column>, bool), Failed> {
    if let Some(columns) = build.texts(node, 0) {
        return Ok((columns.to_vec(), true));
    }
    let (register, width) = build.input(node, 0)?;
    Ok(((0..width).map(|place| Column { register, place }).collect(), false))
}

/// The categories that a node lists, by what stands for each of them in a column.
fn keys(build: &mut Build<'_>, column: Column, words: &[&[u8]], numbers: &[f64]) -> Result<Keys, Failed> {
    build.allow(words.len() + numbers.len())?;
    let mut keys = Keys::new();
    for place in 0..words.len() + numbers.len() {
        let x = match words.get(place) {
            Some(word) => build.code(column, word),
            None => numbers[place - words.len()],
        };
        // The first of two equal categories wins.
        keys.entry(key(x)).or_insert(place);
    }
    // scikit-learn puts what is missing behind the other categories, and its converter writes it as a word.
    if let Some(b"nan" | b"None") = words.last().copied() {
        keys.entry(key(f64::NAN)).or_insert(words.len() - 1);
    }
    Ok(keys)
}

fn one_hot<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (columns, are_texts) = columns_of(build, node)?;
    let words = attribute(node, "cats_strings").map_or(&[][..], |a| &a.texts);
    let numbers: Vec<f64> = ints(node, "cats_int64s").iter().map(|x| *x as f64).collect();
    // Several columns make a third dimension, which a row of numbers has not.
    let ([column], true) = (columns.as_slice(), are_texts != words.is_empty() && words.is_empty() != numbers.is_empty()) else {
        return Err(unknown(node));
    };
    let count = words.len() + numbers.len();
    let keys = keys(build, *column, words, &numbers)?;
    let strict = int(node, "zeros").unwrap_or(1) == 0;
    Ok((build.push(Step::OneHot { from: *column, keys, strict }, count)?, 0))
}

fn look_up<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (columns, are_texts) = columns_of(build, node)?;
    let words = attribute(node, "keys_strings").map_or(&[][..], |a| &a.texts);
    let whole = ints(node, "keys_int64s").iter().map(|x| *x as f64);
    let numbers: Vec<f64> = floats(node, "keys_floats").into_iter().chain(whole).collect();
    let (values, otherwise) = match (ints(node, "values_int64s"), floats(node, "values_floats")) {
        ([], values) => (values, f64::from(float(node, "default_float").unwrap_or(-0.0))),
        (values, _) => (values.iter().map(|x| *x as f64).collect(), int(node, "default_int64").unwrap_or(-1) as f64),
    };
    let count = words.len() + numbers.len();
    if count == 0 || values.len() != count || are_texts == words.is_empty() || words.is_empty() == numbers.is_empty() {
        return Err(unknown(node));
    }
    // Each column of texts has codes of its own.
    let mut found = Vec::with_capacity(columns.len());
    for from in columns {
        let keys = keys(build, from, words, &numbers)?;
        found.push(build.push(Step::Lookup { from, keys, values: values.clone(), otherwise }, 1)?);
    }
    match found.as_slice() {
        [one] => Ok((*one, 0)),
        several => Ok((build.push(Step::Join(several.to_vec()), several.len())?, 0)),
    }
}

fn impute<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (from, width) = build.input(node, 0)?;
    let whole = ints(node, "imputed_value_int64s");
    let (by, missing) = match whole.is_empty() {
        true => (floats(node, "imputed_value_floats"), f64::from(float(node, "replaced_value_float").unwrap_or(0.0))),
        false => (whole.iter().map(|x| *x as f64).collect(), int(node, "replaced_value_int64").unwrap_or(0) as f64),
    };
    let by = spread(node, by, width)?;
    Ok((build.push(Step::Fill { from, missing, by }, width)?, 0))
}

fn arithmetic<'a>(build: &mut Build<'a>, node: &Node<'a>, by: Arithmetic) -> Added {
    let side = |build: &Build<'a>, place: usize| match build.constant(node, place) {
        // A constant of one row: `[columns]`, `[1, columns]`, or one number.
        Some(constant) if constant.dims.iter().rev().skip(1).all(|dim| *dim == 1) && !constant.numbers.is_empty() => {
            Ok((Operand::Constant(constant.numbers.clone()), constant.numbers.len()))
        }
        Some(_) => Err(unknown(node)),
        None => build.input(node, place).map(|(register, width)| (Operand::Register(register), width)),
    };
    let ((left, one), (right, other)) = (side(build, 0)?, side(build, 1)?);
    if one != other && one != 1 && other != 1 {
        return Err(broken(node, &format!("{one} columns with {other}")));
    }
    Ok((build.push(Step::Arithmetic(left, by, right), one.max(other))?, 0))
}

/// A product with constant weights.
struct Product {
    /// Whether the weights are `[outputs, inputs]`.
    transposed: bool,
    bias: Option<Vec<f64>>,
}

fn product<'a>(build: &mut Build<'a>, node: &Node<'a>, product: Product) -> Added {
    let (from, width) = build.input(node, 0)?;
    let weights: &Tensor<'a> = build.constant(node, 1).ok_or_else(|| unknown(node))?;
    let [first, second] = weights.dims.as_slice() else { return Err(unknown(node)) };
    let (inputs, outputs) = if product.transposed { (*second, *first) } else { (*first, *second) };
    let (inputs, outputs) = (usize::try_from(inputs).unwrap_or(0), usize::try_from(outputs).unwrap_or(0));
    if inputs != width || outputs == 0 {
        return Err(broken(node, &format!("weights of {inputs} inputs for {width} columns")));
    }
    let numbers = &weights.numbers;
    let weights = match product.transposed {
        true => numbers.clone(),
        false => (0..outputs).flat_map(|output| (0..inputs).map(move |input| numbers[input * outputs + output])).collect(),
    };
    let bias = match product.bias {
        Some(bias) => spread(node, bias, outputs)?,
        None => vec![0.0; outputs],
    };
    Ok((build.push(Step::Affine { from, weights, bias }, outputs)?, 0))
}

fn gemm<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let plain =
        int(node, "transA").unwrap_or(0) == 0 && float(node, "alpha").unwrap_or(1.0) == 1.0 && float(node, "beta").unwrap_or(1.0) == 1.0;
    let bias = match node.inputs.get(2) {
        None => None,
        Some(_) => Some(build.constant(node, 2).ok_or_else(|| unknown(node))?.numbers.clone()),
    };
    match plain {
        true => product(build, node, Product { transposed: int(node, "transB").unwrap_or(0) != 0, bias }),
        false => Err(unknown(node)),
    }
}

/// What a model of `ai.onnx.ml` does with its scores.
fn after(build: &mut Build<'_>, node: &Node<'_>, scores: usize, width: usize) -> Result<usize, Failed> {
    match text(node, "post_transform").unwrap_or("NONE") {
        "NONE" => Ok(scores),
        "LOGISTIC" => build.push(Step::Map(scores, Function::Sigmoid), width),
        "SOFTMAX" => build.push(Step::Softmax(scores), width),
        _ => Err(unknown(node)),
    }
}

fn linear<'a>(build: &mut Build<'a>, node: &Node<'a>, outputs: usize, output: usize) -> Added {
    let (from, width) = build.input(node, 0)?;
    let weights = floats(node, "coefficients");
    let rows = weights.len() / width;
    if rows == 0 || rows * width != weights.len() {
        return Err(broken(node, &format!("{} coefficients for {width} columns", weights.len())));
    }
    let bias = match floats(node, "intercepts") {
        none if none.is_empty() => vec![0.0; rows],
        bias => spread(node, bias, rows)?,
    };
    let scores = build.push(Step::Affine { from, weights, bias }, rows)?;
    if rows == outputs {
        return Ok((after(build, node, scores, rows)?, output));
    }
    // One score for two classes.
    match (rows, outputs, text(node, "post_transform")) {
        (1, 2, Some("LOGISTIC")) => Ok((build.push(Step::Pair(scores, Pair::Logistic), 2)?, output)),
        _ => Err(unknown(node)),
    }
}

/// How a node names the leaves of its trees.
#[derive(Clone, Copy)]
struct Ensemble {
    leaves: &'static str,
    is_classifier: bool,
}

impl Ensemble {
    const REGRESSOR: Ensemble = Ensemble { leaves: "target", is_classifier: false };
    const CLASSIFIER: Ensemble = Ensemble { leaves: "class", is_classifier: true };
}

fn trees<'a>(build: &mut Build<'a>, node: &Node<'a>, kind: Ensemble) -> Added {
    let (from, width) = build.input(node, 0)?;
    let broken = |what: String| broken(node, &what);
    let file = Trees::of(node, kind).map_err(broken)?;
    let outputs = if kind.is_classifier { labels(node) } else { usize::try_from(int(node, "n_targets").unwrap_or(1)).unwrap_or(0) };
    let average = match text(node, "aggregate_function").unwrap_or("SUM") {
        "SUM" => false,
        "AVERAGE" => true,
        _ => return Err(unknown(node)),
    };
    let base = floats(node, "base_values");
    // Two classes with one score: its leaves all add to the same class.
    let paired = kind.is_classifier && outputs == 2 && file.leaves.values().flatten().all(|(class, _)| *class == file.first_class);
    let places = if paired { 1 } else { outputs };
    let base = match base.len() {
        0 => vec![0.0; places],
        count if count == places => base,
        _ => return Err(unknown(node)),
    };
    if average && base.iter().any(|b| *b != 0.0) {
        return Err(unknown(node));
    }
    let precision = if build.single { Precision::Single } else { Precision::Double };
    let forest = file.forest(Builder::new(width, base, precision, Link::Identity).map_err(broken)?, paired, average).map_err(broken)?;
    let scores = build.push(Step::Forest(from, Box::new(forest)), places)?;
    let output = usize::from(kind.is_classifier);
    if !paired {
        return Ok((after(build, node, scores, places)?, output));
    }
    let pair = match (file.none_negative, text(node, "post_transform").unwrap_or("NONE")) {
        // Such a score is a probability already.
        (true, "NONE" | "LOGISTIC") => Pair::Complement,
        (false, "LOGISTIC") => Pair::Logistic,
        (false, "NONE") => Pair::Opposite,
        _ => return Err(unknown(node)),
    };
    Ok((build.push(Step::Pair(scores, pair), 2)?, output))
}

/// The trees of a node: parallel lists, one entry per node of a tree.
struct Trees<'n, 'a> {
    ids: Vec<(i64, i64)>,
    /// Entries by tree and node.
    places: HashMap<(i64, i64), usize>,
    /// What a leaf adds to which output, by tree and node.
    leaves: HashMap<(i64, i64), Vec<(usize, f64)>>,
    first_class: usize,
    none_negative: bool,
    features: &'n [i64],
    modes: &'n [&'a [u8]],
    values: Vec<f64>,
    if_true: &'n [i64],
    if_false: &'n [i64],
    missing_is_true: &'n [i64],
}

impl<'n, 'a> Trees<'n, 'a> {
    fn of(node: &'n Node<'a>, kind: Ensemble) -> Result<Trees<'n, 'a>, String> {
        let ids: Vec<(i64, i64)> = ints(node, "nodes_treeids").iter().copied().zip(ints(node, "nodes_nodeids").iter().copied()).collect();
        let modes = attribute(node, "nodes_modes").map_or(&[][..], |a| &a.texts);
        let values = floats(node, "nodes_values");
        let (if_true, if_false) = (ints(node, "nodes_truenodeids"), ints(node, "nodes_falsenodeids"));
        let (features, missing_is_true) = (ints(node, "nodes_featureids"), ints(node, "nodes_missing_value_tracks_true"));
        let count = ids.len();
        let same = [ints(node, "nodes_nodeids").len(), modes.len(), values.len(), if_true.len(), if_false.len(), features.len()];
        if count == 0 || same.iter().any(|n| *n != count) || !(missing_is_true.is_empty() || missing_is_true.len() == count) {
            return Err("lists of different lengths".into());
        }
        let places: HashMap<(i64, i64), usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        if places.len() != count {
            return Err("a node of a tree is there twice".into());
        }
        let list = |name: &str| ints(node, &format!("{}_{name}", kind.leaves));
        let (tree_ids, node_ids, classes) = (list("treeids"), list("nodeids"), list("ids"));
        let weights = floats(node, &format!("{}_weights", kind.leaves));
        if [tree_ids.len(), node_ids.len(), classes.len()].iter().any(|n| *n != weights.len()) || weights.is_empty() {
            return Err("lists of leaves of different lengths".into());
        }
        let mut leaves: HashMap<(i64, i64), Vec<(usize, f64)>> = HashMap::new();
        for (place, weight) in weights.iter().enumerate() {
            let class = usize::try_from(classes[place]).map_err(|_| "a leaf of a class below 0")?;
            leaves.entry((tree_ids[place], node_ids[place])).or_default().push((class, *weight));
        }
        let first_class = usize::try_from(classes[0]).unwrap_or(0);
        let none_negative = weights.iter().all(|w| *w >= 0.0);
        Ok(Trees { ids, places, leaves, first_class, none_negative, features, modes, values, if_true, if_false, missing_is_true })
    }

    /// Builds the forest, trees in the order of the file.
    fn forest(&self, mut builder: Builder, paired: bool, average: bool) -> Result<Forest, String> {
        let mut trees: Vec<(i64, Vec<usize>)> = Vec::new();
        let mut by_id: HashMap<i64, usize> = HashMap::new();
        for (place, (tree, _)) in self.ids.iter().enumerate() {
            let at = *by_id.entry(*tree).or_insert_with(|| {
                trees.push((*tree, Vec::new()));
                trees.len() - 1
            });
            trees[at].1.push(place);
        }
        let count = trees.len();
        for (tree, mut places) in trees {
            let inner = || places.iter().filter(|place| self.modes[**place] != b"LEAF");
            let children: std::collections::HashSet<i64> = inner().flat_map(|p| [self.if_true[*p], self.if_false[*p]]).collect();
            let root = places
                .iter()
                .position(|place| !children.contains(&self.ids[*place].1))
                .ok_or_else(|| format!("tree {tree} has no root"))?;
            places.swap(0, root);
            let local: HashMap<usize, usize> = places.iter().enumerate().map(|(local, place)| (*place, local)).collect();
            builder.tree(0, places.len(), |at| self.node(places[at], &local, paired)).map_err(|why| format!("tree {tree}: {why}"))?;
        }
        Ok(if average { builder.averaged(count).finish() } else { builder.finish() })
    }

    fn node(&self, place: usize, local: &HashMap<usize, usize>, paired: bool) -> Result<FileNode<'_>, String> {
        let (tree, number) = self.ids[place];
        let value = self.values[place];
        // Whether the test is as ours, or ours the other way round.
        let (test, straight) = match self.modes[place] {
            b"LEAF" => {
                let values = self.leaves.get(&(tree, number)).map_or(&[][..], Vec::as_slice);
                return Ok(if paired { FileNode::Leaf(values.iter().map(|(_, value)| value).sum()) } else { FileNode::Leaves(values) });
            }
            b"BRANCH_LEQ" => (Test::AtMost(value), true),
            b"BRANCH_LT" => (Test::Below(value), true),
            b"BRANCH_GT" => (Test::AtMost(value), false),
            b"BRANCH_GTE" => (Test::Below(value), false),
            other => return Err(format!("the test {} is not known", other.escape_ascii())),
        };
        let child = |number: i64| {
            let place = self.places.get(&(tree, number)).ok_or_else(|| format!("node {number} is asked for"))?;
            local.get(place).copied().ok_or_else(|| format!("node {number} is of another tree"))
        };
        let (yes, no) = (child(self.if_true[place])?, child(self.if_false[place])?);
        let feature = usize::try_from(self.features[place]).unwrap_or(usize::MAX);
        // NaN compares with nothing, so the test fails, unless the file says otherwise.
        let missing_is_true = self.missing_is_true.get(place).is_some_and(|flag| *flag != 0);
        let (left, right) = if straight { (yes, no) } else { (no, yes) };
        Ok(FileNode::Split { feature, test, left, right, missing: Missing::NaN, default_left: missing_is_true == straight })
    }
}
