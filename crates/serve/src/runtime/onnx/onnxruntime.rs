//! Any other graph, by ONNX Runtime, whose shared library the user has: `onnxruntime` of PyPI carries it, as do its releases.
//!
//! The library is one for the process. It is loaded when the first graph needs it, and only if somebody said where it is ([`library_at`]).
//!
//! The file was read by [`super::proto`] before: its weights are in it, its inputs are numbers, its answer has a name. When a model is loaded, one
//! row of zeros goes through it, so what cannot run is refused then, and not with the first request. The library is code that nobody fenced in: a
//! model that makes it crash ends the server, so whoever gives it the library trusts their models.

use super::{Slot, proto};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::Tensor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

static PLACE: OnceLock<PathBuf> = OnceLock::new();
static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();

struct Library {
    environment: Environment,
    /// What it says about itself.
    about: String,
}

/// Says where the library is. The first one to say so is believed.
pub fn library_at(place: PathBuf) {
    PLACE.get_or_init(|| place);
}

/// What the library says about itself, or why it cannot be loaded; `None` if nobody said where it is.
pub fn about_library() -> Option<Result<String, String>> {
    let loaded = library()?;
    Some(loaded.as_ref().map(|library| library.about.clone()).map_err(Clone::clone))
}

fn library() -> Option<&'static Result<Library, String>> {
    let place = PLACE.get()?;
    Some(LIBRARY.get_or_init(|| load(place).map_err(|why| format!("ONNX Runtime at {}: {why}", place.display()))))
}

fn load(place: &Path) -> Result<Library, String> {
    // Its loader takes what is not there for a name to look up in the system's folders, and a relative path as beside this program.
    let place = place.canonicalize().map_err(|e| e.to_string())?;
    let says: ort::logging::LoggerFunction = Arc::new(|level, category, _, _, message| match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!(category, "ONNX Runtime: {message}"),
        LogLevel::Warning => tracing::warn!(category, "ONNX Runtime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::debug!(category, "ONNX Runtime: {message}"),
    });
    let environment = ort::init_from(&place).map_err(|e| e.to_string())?;
    let environment = environment.with_name("gristmill").with_telemetry(false).with_logger(says).build().map_err(|e| e.to_string())?;
    environment.set_log_level(LogLevel::Warning);
    let about = ort::info();
    // `ORT Build Info: git-branch=..., git-commit-id=..., build type=Release, cmake cxx flags: ...`
    let about = about.split(", cmake").next().unwrap_or(about).trim_start_matches("ORT Build Info: ").to_owned();
    Ok(Library { environment, about })
}

/// A graph that runs.
pub struct Plan {
    inputs: Vec<Input>,
    /// Rows of a call, where the graph takes no other number of them.
    at_once: Option<usize>,
    answer: String,
    /// What computes, and what of it is wanted. `Run` of the library is not safe to be called from several threads: https://docs.rs/ort/latest/ort/session/struct.Session.html. Each call uses
    /// all cores if there is enough to do.
    session: Mutex<(Session, RunOptions<HasSelectedOutputs>)>,
}

struct Input {
    slot: Slot,
    /// Whether its shape is `[rows]`, not `[rows, columns]`.
    is_list: bool,
}

impl Plan {
    /// Makes a plan that gives one value of a graph, and the width of that value. `None` without a library.
    pub fn of(bytes: &[u8], slots: &[Slot], answer: &str) -> Option<Result<(Plan, usize), String>> {
        Some(library()?.as_ref().map_err(Clone::clone).and_then(|library| Plan::by(library, bytes, slots, answer)))
    }

    fn by(library: &Library, bytes: &[u8], slots: &[Slot], answer: &str) -> Result<(Plan, usize), String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let session = || -> ort::Result<Session> {
            // Threads that wait for work without sleeping would take the cores from whoever answers requests.
            let builder = Session::builder(&library.environment)?.with_intra_threads(cores)?.with_intra_op_spinning(false)?;
            builder.with_inter_threads(1)?.commit_from_memory(bytes)
        };
        let session = session().map_err(shown)?;
        if !session.outputs().iter().any(|output| output.name() == answer) {
            return Err(format!("ONNX Runtime gives the outputs of a graph alone, and `{}` is none", answer.escape_debug()));
        }
        let (mut inputs, mut at_once) = (Vec::new(), None);
        for input in session.inputs() {
            let slot = slots.iter().find(|slot| slot.name == input.name());
            let slot = slot.ok_or_else(|| format!("it has another input, `{}`", input.name().escape_debug()))?.clone();
            let shape = input.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
            // What is not known is below 0.
            at_once = at_once.or(shape.first().and_then(|rows| usize::try_from(*rows).ok()).filter(|rows| *rows > 0));
            inputs.push(Input { slot, is_list: shape.len() == 1 });
        }
        if at_once.is_some_and(|rows| rows > 1) {
            return Err(format!("it takes {} rows at once and no other number of them", at_once.unwrap_or_default()));
        }
        let wanted = RunOptions::new().map_err(shown)?.with_outputs(OutputSelector::no_default().with(answer));
        let plan = Plan { inputs, at_once, answer: answer.to_owned(), session: Mutex::new((session, wanted)) };
        let width = slots.iter().map(|slot| slot.width).sum();
        let given = plan.call(&vec![0.0; width], 1)?.len();
        Ok((plan, given))
    }

    /// The answers of some rows, both one row behind the other.
    pub fn run(&self, matrix: &[f64], rows: usize, given: usize) -> Result<Vec<f64>, String> {
        let width = matrix.len().checked_div(rows).unwrap_or(0);
        let mut answers = Vec::with_capacity(rows * given);
        for matrix in matrix.chunks((self.at_once.unwrap_or(rows) * width).max(1)) {
            let rows = matrix.len() / width;
            let answer = self.call(matrix, rows)?;
            if answer.len() != rows * given {
                return Err(format!("ONNX Runtime gave {} numbers for {rows} rows, not {given} for each", answer.len()));
            }
            answers.extend(answer);
        }
        Ok(answers)
    }

    fn call(&self, matrix: &[f64], rows: usize) -> Result<Vec<f64>, String> {
        let inputs = self.inputs.iter().map(|input| Ok((input.slot.name.as_str(), input.tensor(matrix, rows)?)));
        let inputs = inputs.collect::<ort::Result<Vec<_>>>().map_err(shown)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, wanted) = &mut *session;
        let outputs = session.run_with_options(inputs, wanted).map_err(shown)?;
        let answer = outputs.get(&self.answer).ok_or("ONNX Runtime gave no answer")?;
        match answer.try_extract_tensor::<f32>() {
            Ok((_, numbers)) => Ok(numbers.iter().map(|x| f64::from(*x)).collect()),
            Err(_) => answer.try_extract_tensor::<f64>().map(|(_, numbers)| numbers.to_vec()).map_err(shown),
        }
    }
}

impl Input {
    fn tensor(&self, matrix: &[f64], rows: usize) -> ort::Result<SessionInputValue<'static>> {
        let Slot { from, width, kind, .. } = self.slot;
        let shape = if self.is_list { vec![rows] } else { vec![rows, width] };
        let columns = (from, width, matrix.len() / rows);
        Ok(match kind {
            proto::DOUBLE => Tensor::from_array((shape, chosen(matrix, columns, |x| x)))?.into(),
            proto::INT32 => Tensor::from_array((shape, chosen(matrix, columns, |x| x as i32)))?.into(),
            proto::INT64 => Tensor::from_array((shape, chosen(matrix, columns, |x| x as i64)))?.into(),
            proto::BOOL => Tensor::from_array((shape, chosen(matrix, columns, |x| x != 0.0)))?.into(),
            _ => Tensor::from_array((shape, chosen(matrix, columns, |x| x as f32)))?.into(),
        })
    }
}

/// Some columns of a matrix of `all`, as they are taken.
fn chosen<T>(matrix: &[f64], (from, width, all): (usize, usize, usize), taken: impl Fn(f64) -> T) -> Vec<T> {
    if width == all {
        return matrix.iter().map(|x| taken(*x)).collect();
    }
    matrix.chunks_exact(all).flat_map(|row| &row[from..from + width]).map(|x| taken(*x)).collect()
}

/// The first line of what the library says.
fn shown(error: ort::Error) -> String {
    let text = error.to_string();
    format!("ONNX Runtime says: {}", text.lines().next().unwrap_or_default().chars().take(200).collect::<String>())
}
