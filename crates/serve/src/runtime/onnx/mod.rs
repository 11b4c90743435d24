//! ONNX models: one row of numbers in, scores out.
//!
//! Graphs of the operators to which scikit-learn, LightGBM, XGBoost and small networks are converted run here, in our own code ([`graph`],
//! [`ops`]). Any other graph runs by ONNX Runtime if the user said where that is ([`onnxruntime`]), else by tract where gristmill was built with the
//! feature `onnx`. Each way [`proto`] reads the file first and decides what is asked and answered: the one output of numbers, which holds
//! probabilities where there are labels beside it.
//!
//! An input of texts is a column of words: the graph's encoders say which words there are, and a row gives the place of its word among them
//! ([`Takes::Words`]), [`OTHER_WORD`] for any other word, NaN for none. Graphs that do more with texts than encode them are refused.
//!
//! Refused too: weights in other files, several outputs of numbers.

mod affine;
mod encoders;
mod graph;
mod onnxruntime;
mod ops;
#[cfg(target_arch = "x86_64")]
mod panels;
mod proto;
mod steps;
#[cfg(feature = "onnx")]
mod tract;
mod trees;

pub use onnxruntime::{about_library, library_at};

use gristmill_kernel::limits::{MODEL_INPUTS_MAX, MODEL_OUTPUTS_MAX};
use gristmill_kernel::model::Task;
use proto::{Graph, Node, Value};
use std::collections::HashMap;

/// A model that runs.
pub struct Onnx {
    names: Vec<String>,
    takes: Vec<Takes>,
    /// Inputs of true and false, and of integers, each with the number of its element type.
    strict: Vec<(usize, i64)>,
    task: Task,
    classes: Vec<String>,
    /// How many numbers the graph gives per row.
    given: usize,
    engine: Engine,
}

/// What an input of a graph takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// A number, NaN where it is missing.
    Number,
    /// True, which a row has as 1, or false.
    Boolean,
    /// One of these words; a row has its place among them.
    Words(Vec<String>),
}

enum Engine {
    Own(graph::Program),
    OnnxRuntime(Box<onnxruntime::Plan>),
    #[cfg(feature = "onnx")]
    Tract(tract::Plan),
}

/// What stands for a word that a graph does not know.
pub const OTHER_WORD: f64 = -1.0;

impl Engine {
    /// The words that a column of a slot may be.
    fn words(&self, slot: usize, column: usize) -> Vec<String> {
        match self {
            Engine::Own(program) => program.words()[slot][column].clone(),
            // These are given no graph with texts.
            Engine::OnnxRuntime(_) => Vec::new(),
            #[cfg(feature = "onnx")]
            Engine::Tract(_) => Vec::new(),
        }
    }
}

/// Why a file cannot answer, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, as part of a sentence.
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    fn new(why: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { why: why.into(), fix: fix.into() }
    }
}

/// An input of the graph and its place in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub name: String,
    pub from: usize,
    pub width: usize,
    /// The number of its element type.
    pub kind: i64,
}

const AGAIN: &str = "convert it again: skl2onnx.to_onnx(model, X[:1].astype(numpy.float32), options={\"zipmap\": False})";

impl Onnx {
    /// Reads a file. `width` is how many columns a row has, where somebody knows.
    pub fn read(bytes: &[u8], width: Option<usize>) -> Result<Onnx, Problem> {
        Onnx::read_with(bytes, width, graph::Program::of, beyond)
    }

    /// Reads a file whose graph runs without tract.
    #[cfg(test)]
    pub fn read_own(bytes: &[u8], width: Option<usize>) -> Result<Onnx, Problem> {
        Onnx::read_with(bytes, width, graph::Program::of, |_, _, _, what| Err(Problem::new(what, "")))
    }

    /// Reads a file for ONNX Runtime, whether our own steps could run its graph or not.
    pub fn read_through(bytes: &[u8], width: Option<usize>) -> Result<Onnx, Problem> {
        let nobody = |_: &Graph<'_>, _: &[Slot], _: &str| Err(graph::Failed::Unknown("ONNX Runtime".to_owned()));
        Onnx::read_with(bytes, width, nobody, beyond)
    }

    fn read_with(bytes: &[u8], width: Option<usize>, own: Own, beyond: Beyond) -> Result<Onnx, Problem> {
        let graph = proto::read(bytes).map_err(|why| Problem::new(why, "export it again"))?;
        if graph.constants.iter().any(|constant| constant.external) {
            return Err(Problem::new(
                "some of its weights are in another file",
                "register it in one: mlflow.onnx.log_model(model, name=\"model\", save_as_external_data=False)",
            ));
        }
        let slots = slots(&graph, width)?;
        let scores = scores(&graph)?;
        let text = slots.iter().find(|slot| slot.kind == proto::TEXT);
        let (engine, given) = match (own(&graph, &slots, &scores.name), text) {
            (Ok((program, given)), _) => (Engine::Own(program), given),
            (Err(graph::Failed::Broken(why)), _) => return Err(Problem::new(why, "export it again")),
            (Err(graph::Failed::Unknown(what)), Some(text)) => {
                let why = format!("its input `{}` is text, and it needs {what}", text.name.escape_debug());
                return Err(Problem::new(why, "encode texts before the model, and convert the part behind them"));
            }
            (Err(graph::Failed::Unknown(what)), None) => beyond(bytes, &slots, &scores.name, &what)?,
        };
        if given == 0 || given > MODEL_OUTPUTS_MAX {
            return Err(Problem::new(format!("it gives {given} numbers per row"), AGAIN));
        }
        let task = match (scores.are_classes, given) {
            (true, 1 | 2) => Task::Binary,
            (true, _) => Task::Multiclass,
            (false, 1) => Task::Regression,
            (false, given) => {
                return Err(Problem::new(format!("it predicts {given} numbers at once"), "register one model per number"));
            }
        };
        let count = match task {
            Task::Regression | Task::Ranking => 0,
            Task::Binary => 2,
            Task::Multiclass => given,
        };
        let classes = match scores.classes.len() == count {
            true => scores.classes,
            false => (0..count).map(|class| class.to_string()).collect(),
        };
        let (mut names, mut takes, mut strict) = (Vec::new(), Vec::new(), Vec::new());
        for (number, slot) in slots.iter().enumerate() {
            for column in 0..slot.width {
                if [proto::BOOL, proto::INT32, proto::INT64].contains(&slot.kind) {
                    strict.push((names.len(), slot.kind));
                }
                names.push(if slot.width > 1 { format!("{}{column}", slot.name) } else { slot.name.clone() });
                takes.push(match slot.kind {
                    proto::TEXT => Takes::Words(engine.words(number, column)),
                    proto::BOOL => Takes::Boolean,
                    _ => Takes::Number,
                });
            }
        }
        Ok(Onnx { names, takes, strict, task, classes, given, engine })
    }

    /// The inputs in order: those of the graph, each column of one with several by its name and number.
    pub fn names(&self) -> &[String] {
        &self.names
    }
    /// What each input takes.
    pub fn takes(&self) -> &[Takes] {
        &self.takes
    }
    /// What it predicts.
    pub fn task(&self) -> Task {
        self.task
    }
    /// The classes in output order, for classification.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
    /// Outputs of a row: one number, or one per class if there are more than two.
    pub fn outputs(&self) -> usize {
        if self.task == Task::Multiclass { self.given } else { 1 }
    }

    /// Whether one call uses all cores, and others wait for it.
    pub fn uses_all_cores(&self) -> bool {
        matches!(self.engine, Engine::OnnxRuntime(_))
    }

    /// The first value in some rows that its input has no way to take, as the place of the input, the value and what it takes: ONNX has no missing
    /// values of whole numbers, and none of true and false.
    pub fn refused(&self, matrix: &[f64]) -> Option<(usize, f64, &'static str)> {
        if self.strict.is_empty() {
            return None;
        }
        let in_row = |row: &[f64]| self.strict.iter().find_map(|(place, kind)| Some((*place, row[*place], not_taken(*kind, row[*place])?)));
        matrix.chunks_exact(self.names.len()).find_map(in_row)
    }

    /// The outputs of some rows of numbers, both one row behind the other.
    pub fn run(&self, matrix: &[f64], rows: usize) -> Result<Vec<f64>, String> {
        let given = match &self.engine {
            Engine::Own(program) => program.run(matrix, rows),
            Engine::OnnxRuntime(plan) => plan.run(matrix, rows, self.given)?,
            #[cfg(feature = "onnx")]
            Engine::Tract(plan) => plan.run(matrix, rows, self.given)?,
        };
        if self.outputs() == self.given {
            return Ok(given);
        }
        // Of two classes, the second one's probability.
        Ok(given.chunks_exact(self.given).filter_map(|row| row.last().copied()).collect())
    }
}

/// What an element type takes, if it does not take a value.
fn not_taken(kind: i64, value: f64) -> Option<&'static str> {
    let (takes, what) = match kind {
        proto::BOOL => (value == 0.0 || value == 1.0, "true or false"),
        proto::INT32 => (value.fract() == 0.0 && (i32::MIN.into()..=i32::MAX.into()).contains(&value), "a whole number of 32 bits"),
        proto::INT64 => (value.fract() == 0.0 && value.abs() <= i64::MAX as f64, "a whole number of 64 bits"),
        _ => (true, ""),
    };
    if takes { None } else { Some(what) }
}

/// Where each input stands in a row.
fn slots(graph: &Graph<'_>, width: Option<usize>) -> Result<Vec<Slot>, Problem> {
    let constants: Vec<&str> = graph.constants.iter().map(|constant| constant.name).collect();
    let inputs: Vec<&Value<'_>> = graph.inputs.iter().filter(|input| !constants.contains(&input.name)).collect();
    let mut slots = Vec::new();
    let mut from = 0;
    for input in &inputs {
        let name = input.name.escape_debug().to_string();
        let kind = match input.kind {
            Some(kind @ (proto::FLOAT | proto::DOUBLE | proto::INT32 | proto::INT64 | proto::BOOL | proto::TEXT)) => kind,
            _ => return Err(Problem::new(format!("its input `{name}` is no tensor of numbers or texts"), AGAIN)),
        };
        let alone = inputs.len() == 1;
        let width = match input.shape.as_deref() {
            Some([_, Some(width)]) => usize::try_from(*width).ok(),
            Some([_, None]) | None if alone => width,
            Some([_, None] | [_]) | None => Some(1),
            Some(_) => None,
        };
        let width = width.filter(|width| *width > 0 && from + width <= MODEL_INPUTS_MAX).ok_or_else(|| {
            Problem::new(format!("the shape of its input `{name}` is not [rows, columns]"), "convert it with a known number of columns")
        })?;
        slots.push(Slot { name: input.name.to_owned(), from, width, kind });
        from += width;
    }
    if slots.is_empty() { Err(Problem::new("it has no input", AGAIN)) } else { Ok(slots) }
}

/// Which value of the graph is the answer.
struct Scores {
    name: String,
    /// Whether it is one number per class.
    are_classes: bool,
    /// The classes, if the file says.
    classes: Vec<String>,
}

fn scores(graph: &Graph<'_>) -> Result<Scores, Problem> {
    let makers: HashMap<&str, &Node<'_>> = graph.nodes.iter().flat_map(|node| node.outputs.iter().map(move |name| (*name, node))).collect();
    let mut labels = None;
    let mut found: Vec<&str> = Vec::new();
    for output in &graph.outputs {
        match output.kind {
            Some(proto::FLOAT | proto::DOUBLE) => found.push(output.name),
            Some(_) => labels = Some(output.name),
            // Probabilities in dictionaries: what goes into them is what is wanted.
            None => match makers.get(output.name) {
                Some(node) if node.op == "ZipMap" => found.extend(node.inputs.first()),
                _ => return Err(Problem::new(format!("its output `{}` is no tensor", output.name.escape_debug()), AGAIN)),
            },
        }
    }
    if found.len() > 1 {
        let likely: Vec<&str> = found.iter().copied().filter(|name| name.contains("proba")).collect();
        found = if likely.len() == 1 { likely } else { found };
    }
    let [name] = found.as_slice() else {
        let what = if found.is_empty() {
            "it gives labels alone, no scores".to_owned()
        } else {
            format!("it has {} outputs of numbers", found.len())
        };
        return Err(Problem::new(what, "convert it with one output of scores (and, for classifiers, one of labels)"));
    };
    let classes = labels.map(|label| classes(graph, &makers, label)).unwrap_or_default();
    // Softmax makes probabilities of classes, also where a network has no output of labels.
    let maker = makers.get(name).is_some_and(|node| node.op.ends_with("Classifier") || node.op == "Softmax");
    Ok(Scores { name: (*name).to_owned(), are_classes: labels.is_some() || maker, classes })
}

/// The classes, found from the output of labels backwards: in the attributes of a classifier, or in the list that labels are taken from.
fn classes(graph: &Graph<'_>, makers: &HashMap<&str, &Node<'_>>, label: &str) -> Vec<String> {
    let mut at = label;
    for _ in 0..graph.nodes.len().min(64) {
        let Some(node) = makers.get(at) else { break };
        let written = node.attributes.iter().find(|a| a.name.starts_with("classlabels_"));
        if let Some(written) = written {
            let words = written.texts.iter().map(|word| String::from_utf8_lossy(word).into_owned());
            return written.ints.iter().map(i64::to_string).chain(words).collect();
        }
        let Some(first) = node.inputs.first() else { break };
        if let Some(list) = graph.constants.iter().find(|constant| constant.name == *first) {
            let words = list.texts.iter().map(|word| String::from_utf8_lossy(word).into_owned());
            return list.numbers.iter().map(f64::to_string).chain(words).collect();
        }
        at = first;
    }
    Vec::new()
}

/// Our own steps, if they can run a graph.
type Own = fn(&Graph<'_>, &[Slot], &str) -> Result<(graph::Program, usize), graph::Failed>;

/// What runs a graph that our own steps do not, and how many numbers it gives per row.
type Beyond = fn(&[u8], &[Slot], &str, &str) -> Result<(Engine, usize), Problem>;

fn beyond(bytes: &[u8], slots: &[Slot], scores: &str, what: &str) -> Result<(Engine, usize), Problem> {
    match onnxruntime::Plan::of(bytes, slots, scores) {
        Some(Ok((plan, given))) => Ok((Engine::OnnxRuntime(Box::new(plan)), given)),
        Some(Err(why)) => {
            Err(Problem::new(format!("it needs {what}, and {why}"), "export it for the operators that this ONNX Runtime has"))
        }
        None => without(bytes, slots, scores, what),
    }
}

#[cfg(feature = "onnx")]
fn without(bytes: &[u8], slots: &[Slot], scores: &str, _: &str) -> Result<(Engine, usize), Problem> {
    let (plan, given) = tract::Plan::of(bytes, slots, scores)
        .map_err(|why| Problem::new(why, "train it as LightGBM or XGBoost, or ask for the operator"))?;
    Ok((Engine::Tract(plan), given))
}

#[cfg(not(feature = "onnx"))]
fn without(_: &[u8], _: &[Slot], _: &str, what: &str) -> Result<(Engine, usize), Problem> {
    Err(Problem::new(
        format!("it needs {what}, which gristmill has not of its own"),
        "give it ONNX Runtime: pip install onnxruntime, then start gristmill with ORT_DYLIB_PATH=.../onnxruntime/capi/libonnxruntime.so.VERSION \
         (gristmill doctor says whether it can be loaded); or train it as LightGBM or XGBoost",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/foreign");
        std::fs::read(folder.join(name)).expect(name)
    }

    #[test]
    fn what_converters_write_is_understood() {
        let words = Onnx::read(&golden("onnx_forest_words.onnx"), None).map_err(|p| p.why).expect("reads");
        assert_eq!((words.task(), words.classes(), words.outputs()), (Task::Binary, &["no".to_owned(), "yes".to_owned()][..], 1));
        assert_eq!(words.names(), ["X0", "X1", "X2", "X3", "X4"]);
        let zipped = Onnx::read(&golden("onnx_zipmap.onnx"), None).map_err(|p| p.why).expect("dictionaries are seen through");
        assert_eq!((zipped.task(), zipped.outputs()), (Task::Binary, 1));
        assert_eq!(words.refused(&[f64::NAN; 5]), None, "words and fractions may be missing");
        let problem = Onnx::read(&golden("onnx_refused_external.onnx"), None).err().expect("weights elsewhere");
        assert!(problem.fix.contains("save_as_external_data=False"), "{problem:?}");
    }
    #[test]
    fn what_an_element_type_has_no_value_for_is_refused() {
        for (kind, taken, refused) in [
            (proto::BOOL, &[0.0, 1.0][..], &[f64::NAN, 2.0, 0.5, f64::INFINITY][..]),
            (proto::INT32, &[0.0, -2_147_483_648.0, 2_147_483_647.0], &[f64::NAN, 1.5, 2_147_483_648.0, f64::NEG_INFINITY]),
            (proto::INT64, &[0.0, -9e18, 9e18], &[f64::NAN, 1.5, 1e19, f64::INFINITY]),
            (proto::FLOAT, &[f64::NAN, 1.5, f64::INFINITY], &[]),
        ] {
            for value in taken {
                assert_eq!(not_taken(kind, *value), None, "{kind} {value}");
            }
            for value in refused {
                assert!(not_taken(kind, *value).is_some(), "{kind} {value}");
            }
        }
    }
}
