//! The operators of ONNX that become steps. Meanings are those of ONNX's operator documents, as ONNX Runtime computes them.
//!
//! To add one: an arm in `numbers`. What a node asks beyond what its arm knows is [`Failed::Unknown`], never an approximation.

use super::affine::Affine;
use super::encoders;
use super::graph::{Build, Failed, Held};
use super::proto::{self, Attribute, Node, Tensor};
use super::steps::{Arithmetic, Column, Function, Norm, Operand, Pair, Step};
use super::trees::{self, Ensemble};
use gristmill_kernel::limits::MODEL_INPUTS_MAX;

pub(super) type Added = Result<(usize, usize), Failed>;

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
            Some(proto::FLOAT) => match build.input(node, 0)? {
                (from, _) if build.is_single(from) => Ok((from, 0)),
                _ => map(build, Function::Single),
            },
            Some(proto::DOUBLE) => Ok((build.input(node, 0)?.0, 0)),
            Some(proto::INT64 | proto::INT32) => map(build, Function::Whole),
            Some(proto::BOOL) => map(build, Function::Truth),
            _ => Err(unknown(node)),
        },
        "Relu" => match build.with_relu(node) {
            Some(register) => Ok((register, 0)),
            None => map(build, Function::Relu),
        },
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
        "Gather" if int(node, "axis").unwrap_or(0) == 0 => encoders::embed(build, node),
        "Gather" if gathers_columns(build, node) => pick(build, node),
        "OneHotEncoder" => encoders::one_hot(build, node),
        "LabelEncoder" => encoders::look_up(build, node),
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
        "TreeEnsembleRegressor" => trees::add(build, node, Ensemble::REGRESSOR),
        "TreeEnsembleClassifier" => trees::add(build, node, Ensemble::CLASSIFIER),
        _ => Err(unknown(node)),
    }
}

pub(super) fn unknown(node: &Node<'_>) -> Failed {
    Failed::Unknown(format!("the operator {} as it is used here", node.op.escape_debug()))
}
pub(super) fn broken(node: &Node<'_>, what: &str) -> Failed {
    Failed::Broken(format!("a node {}: {what}", node.op.escape_debug()))
}

pub(super) fn attribute<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Attribute<'a>> {
    node.attributes.iter().find(|a| a.name == name)
}
pub(super) fn int(node: &Node<'_>, name: &str) -> Option<i64> {
    attribute(node, name)?.int
}
pub(super) fn float(node: &Node<'_>, name: &str) -> Option<f32> {
    attribute(node, name)?.float
}
pub(super) fn text<'n>(node: &'n Node<'_>, name: &str) -> Option<&'n str> {
    std::str::from_utf8(attribute(node, name)?.text?).ok()
}
pub(super) fn ints<'n>(node: &'n Node<'_>, name: &str) -> &'n [i64] {
    attribute(node, name).map_or(&[], |a| &a.ints)
}
/// A list of numbers, which an attribute may also hold as a tensor of `double` under a longer name.
pub(super) fn floats(node: &Node<'_>, name: &str) -> Vec<f64> {
    let tensor = attribute(node, &format!("{name}_as_tensor")).and_then(|a| a.tensor.as_ref());
    match (attribute(node, name), tensor) {
        (Some(plain), _) if !plain.floats.is_empty() => plain.floats.iter().map(|x| f64::from(*x)).collect(),
        (_, Some(tensor)) => tensor.numbers.clone(),
        _ => Vec::new(),
    }
}
/// How many classes a classifier tells apart.
pub(super) fn labels(node: &Node<'_>) -> usize {
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
    // Exporters write a layer as a product and a sum.
    let with_bias = match (by, &left, &right) {
        (Arithmetic::Add, Operand::Register(_), Operand::Constant(bias)) => build.with_bias(node, 0, bias),
        (Arithmetic::Add, Operand::Constant(bias), Operand::Register(_)) => build.with_bias(node, 1, bias),
        _ => None,
    };
    match with_bias {
        Some(register) => Ok((register, 0)),
        None => Ok((build.push(Step::Arithmetic(left, by, right), one.max(other))?, 0)),
    }
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
    let weights = if product.transposed { turned(numbers, inputs) } else { numbers.clone() };
    let bias = match product.bias {
        Some(bias) => spread(node, bias, outputs)?,
        None => vec![0.0; outputs],
    };
    let affine = Affine::of(build.single, &weights, &bias);
    Ok((build.push(Step::Affine(from, affine), outputs)?, 0))
}

/// Rows of so many numbers as columns.
fn turned(numbers: &[f64], width: usize) -> Vec<f64> {
    (0..width).flat_map(|column| numbers.iter().skip(column).step_by(width).copied()).collect()
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
pub(super) fn after(build: &mut Build<'_>, node: &Node<'_>, scores: usize, width: usize) -> Result<usize, Failed> {
    match text(node, "post_transform").unwrap_or("NONE") {
        "NONE" => Ok(scores),
        "LOGISTIC" => build.push(Step::Map(scores, Function::Sigmoid), width),
        "SOFTMAX" => build.push(Step::Softmax(scores), width),
        _ => Err(unknown(node)),
    }
}

fn linear<'a>(build: &mut Build<'a>, node: &Node<'a>, outputs: usize, output: usize) -> Added {
    let (from, width) = build.input(node, 0)?;
    let coefficients = floats(node, "coefficients");
    let rows = coefficients.len() / width;
    if rows == 0 || rows * width != coefficients.len() {
        return Err(broken(node, &format!("{} coefficients for {width} columns", coefficients.len())));
    }
    let bias = match floats(node, "intercepts") {
        none if none.is_empty() => vec![0.0; rows],
        bias => spread(node, bias, rows)?,
    };
    let weights = turned(&coefficients, width);
    let affine = Affine::of(build.single, &weights, &bias);
    let scores = build.push(Step::Affine(from, affine), rows)?;
    if rows == outputs {
        return Ok((after(build, node, scores, rows)?, output));
    }
    // One score for two classes.
    match (rows, outputs, text(node, "post_transform")) {
        (1, 2, Some("LOGISTIC")) => Ok((build.push(Step::Pair(scores, Pair::Logistic), 2)?, output)),
        _ => Err(unknown(node)),
    }
}
