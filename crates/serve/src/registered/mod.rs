//! Versions that clients registered: from the files of a version to something that answers, or to a refusal that says what to do.
//!
//! A version's content is a manifest: files by key, each a blob. `MLmodel` among them says in which forms (flavours) the model is there; the
//! first form of [`FLAVOURS`] that can answer does. Its inputs are columns of the request, named as the signature names them.
//!
//! Invariant: no file of a client is trusted. A key is looked up in the manifest and nowhere else; sizes are checked before content is read;
//! content is read where a panic ends nothing but the attempt. To add a flavour: a line in [`FLAVOURS`].

mod features;
mod mlmodel;
mod port;
mod yaml;

pub use port::Registered;

use crate::model::Shape;
use crate::runtime::onnx::Onnx;
use crate::runtime::{ReadModel, Runtime, lightgbm, xgboost};
use bytes::Bytes;
use gristmill_kernel::limits::{MLMODEL_BYTES_MAX, MODEL_BYTES_MAX};
use gristmill_kernel::port::Blobs;
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::{Code, Digest, Fault, Result, VersionRef};
use mlmodel::{Flavor, Inputs, MlModel};

/// The view under which the columns of a request stand in the names of features.
pub const REQUEST: &str = "request";

/// Why a form of a model cannot answer, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    why: String,
    fix: String,
}

impl Refused {
    fn new(why: impl Into<String>, fix: impl Into<String>) -> Refused {
        Refused { why: why.into(), fix: fix.into() }
    }
    /// As the refusal of a version.
    fn of(self, id: &VersionRef) -> Fault {
        Fault::invalid(Code::NOT_SERVABLE, format!("{id} cannot be served: {}", self.why)).fix(self.fix)
    }
}

/// What answers, and how it is asked.
pub(crate) struct Answering {
    pub shape: Shape,
    pub runtime: Runtime,
}

/// A form in which a model may be there.
struct Flavour {
    /// Its name in `MLmodel`.
    name: &'static str,
    /// The key of the file to read.
    file: fn(&Flavor) -> Result<&str, Refused>,
    /// Makes something that answers of that file.
    read: fn(&[u8], &Flavor, &Inputs) -> Result<Answering, Refused>,
}

/// The forms that can answer, best first.
const FLAVOURS: [Flavour; 3] = [
    Flavour { name: "lightgbm", file: lightgbm_file, read: read_lightgbm },
    Flavour { name: "xgboost", file: data, read: read_xgboost },
    Flavour { name: "onnx", file: data, read: read_onnx },
];

/// How other forms can be registered so that they answer: by flavour, most telling first.
const CONVERSIONS: [(&str, &str); 9] = [
    (
        "sklearn",
        "convert it to ONNX and register that: onx = skl2onnx.to_onnx(model, X[:1].astype(numpy.float32), options={\"zipmap\": False}); \
         mlflow.onnx.log_model(onx, name=\"model\", signature=signature)",
    ),
    ("catboost", "save it with model.save_model(path, format=\"onnx\") and register that with mlflow.onnx.log_model"),
    ("pytorch", "export it with torch.onnx.export and register that with mlflow.onnx.log_model(..., save_as_external_data=False)"),
    ("tensorflow", SAVED_MODEL),
    ("keras", SAVED_MODEL),
    ("spark", "convert it with onnxmltools.convert_sparkml and register that with mlflow.onnx.log_model"),
    ("h2o", "train it as LightGBM or XGBoost, which are served as they are"),
    (
        "transformers",
        "export it with optimum.exporters.onnx and register that with mlflow.onnx.log_model(..., save_as_external_data=False)",
    ),
    (
        "python_function",
        "it is Python code, which is not run here: register the model inside it with mlflow.lightgbm, mlflow.xgboost or mlflow.onnx",
    ),
];

const SAVED_MODEL: &str = "save it with model.export(FOLDER), convert that with python -m tf2onnx.convert --saved-model FOLDER --output model.onnx, \
                           and register that with mlflow.onnx.log_model(..., save_as_external_data=False)";

/// Loads what answers for a version.
pub(crate) async fn load(id: &VersionRef, manifest: &Manifest, blobs: &dyn Blobs) -> Result<Answering> {
    let Some(description) = manifest.files().get("MLmodel") else {
        let fix = "register a folder that mlflow.FLAVOUR.log_model wrote, such as models:/m-... or runs:/RUN/model";
        return Err(Refused::new("there is no file `MLmodel` among its files", fix).of(id));
    };
    let description = content(id, "MLmodel", description, MLMODEL_BYTES_MAX, blobs).await?;
    let unreadable = |why: String| Refused::new(format!("its `MLmodel`: {why}"), "register it again with a current mlflow client").of(id);
    let described = MlModel::read(&description).map_err(unreadable)?;
    let (flavour, key) = choose(&described).map_err(|refused| refused.of(id))?;
    let Some(digest) = manifest.files().get(&key) else {
        let why = format!("`MLmodel` names the file `{}`, which is not among its files", key.escape_debug());
        return Err(Refused::new(why, "register it again: the upload was not complete").of(id));
    };
    let bytes = content(id, &key, digest, MODEL_BYTES_MAX, blobs).await?;
    let read = move || {
        let entries = described.flavors.get(flavour.name).cloned().unwrap_or_default();
        (flavour.read)(&bytes, &entries, &described.inputs)
    };
    let outcome = tokio::task::spawn_blocking(read).await.map_err(|e| {
        let refused = Refused::new(format!("reading its file `{}` failed", key.escape_debug()), "register it again from a sound file");
        refused.of(id).because(e)
    })?;
    outcome.map_err(|refused| refused.of(id))
}

/// The form that answers, and the key of its file.
fn choose(described: &MlModel) -> Result<(&'static Flavour, String), Refused> {
    let mut first: Option<Refused> = None;
    for flavour in &FLAVOURS {
        let Some(entries) = described.flavors.get(flavour.name) else { continue };
        match (flavour.file)(entries) {
            Ok(key) => return Ok((flavour, key.to_owned())),
            Err(refused) => first = first.or(Some(refused)),
        }
    }
    Err(first.unwrap_or_else(|| {
        let names: Vec<&str> = described.flavors.keys().map(String::as_str).take(20).collect();
        let known = CONVERSIONS.iter().find(|(name, _)| described.flavors.contains_key(*name));
        let own = "register it as LightGBM (mlflow.lightgbm), XGBoost (mlflow.xgboost) or ONNX (mlflow.onnx)";
        Refused::new(
            format!("it has the flavours {}, none of which is served", names.join(", ").escape_debug()),
            known.map_or(own, |(_, fix)| fix),
        )
    }))
}

async fn content(id: &VersionRef, key: &str, digest: &Digest, limit: usize, blobs: &dyn Blobs) -> Result<Bytes> {
    let shown = key.escape_debug();
    let bytes = blobs.get(digest).await?.ok_or_else(|| Fault::damaged(format!("the content of `{shown}` of {id} is gone")))?;
    if bytes.len() > limit {
        let why = format!("its file `{shown}` has {} bytes, at most {limit} are read", bytes.len());
        return Err(Refused::new(why, "train a smaller model").of(id));
    }
    Ok(bytes)
}

/// The file that the entries name.
fn data(entries: &Flavor) -> Result<&str, Refused> {
    entries.entry("data").ok_or_else(|| Refused::new("its `MLmodel` names no file of it", "register it again with a current mlflow client"))
}

fn lightgbm_file(entries: &Flavor) -> Result<&str, Refused> {
    let file = data(entries)?;
    if file.ends_with(".pkl") || file.ends_with(".skops") {
        return Err(Refused::new(
            format!("`{}` is an object of Python, which is not opened here", file.escape_debug()),
            "register the booster inside it, which is saved as text: mlflow.lightgbm.log_model(model.booster_, name=\"model\", signature=signature)",
        ));
    }
    Ok(file)
}

fn read_lightgbm(bytes: &[u8], _: &Flavor, inputs: &Inputs) -> Result<Answering, Refused> {
    let fix = "save it again with a current LightGBM and register that";
    forest("lightgbm", lightgbm::read(bytes).map_err(|why| Refused::new(format!("its LightGBM file: {why}"), fix))?, inputs)
}

fn read_xgboost(bytes: &[u8], entries: &Flavor, inputs: &Inputs) -> Result<Answering, Refused> {
    // The scikit-learn classes predict with the best round, a booster with all.
    let wrapped = entries.entry("model_class").is_some_and(|class| class.starts_with("xgboost.sklearn."));
    let rounds = if wrapped { xgboost::Rounds::Best } else { xgboost::Rounds::All };
    let read = xgboost::read(bytes, rounds).map_err(|why| {
        let fix = "save it again with a current XGBoost: mlflow.xgboost.log_model(model, name=\"model\", model_format=\"json\")";
        Refused::new(format!("its XGBoost file: {why}"), fix)
    })?;
    forest("xgboost", read, inputs)
}

fn forest(platform: &str, read: ReadModel, inputs: &Inputs) -> Result<Answering, Refused> {
    let (features, optional) = features::of_forest(&read, inputs)?;
    let outputs = read.forest.outputs();
    let ReadModel { forest, task, classes, .. } = read;
    let shape = Shape { platform: platform.to_owned(), task, classes, features, outputs, optional };
    Ok(Answering { shape, runtime: Runtime::Forest(Box::new(forest)) })
}

fn read_onnx(bytes: &[u8], _: &Flavor, inputs: &Inputs) -> Result<Answering, Refused> {
    let columns = match inputs {
        Inputs::Columns(columns) => Some(columns.len()),
        Inputs::Tensors(_) | Inputs::Unsaid => None,
    };
    let onnx = Onnx::read(bytes, columns).map_err(|problem| Refused::new(format!("its ONNX file: {}", problem.why), problem.fix))?;
    let (features, optional) = features::of_graph(onnx.names(), onnx.takes(), inputs)?;
    let (task, classes, outputs) = (onnx.task(), onnx.classes().to_vec(), onnx.outputs());
    let shape = Shape { platform: "onnx".to_owned(), task, classes, features, outputs, optional };
    Ok(Answering { shape, runtime: Runtime::Onnx(Box::new(onnx)) })
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
