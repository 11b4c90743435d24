//! What differs between two model versions: parameters, metrics, features, inputs and content.

use crate::promote::find;
use gristmill_kernel::model::ModelFile;
use gristmill_kernel::port::Ports;
use gristmill_kernel::run::Run;
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::version::{Place, Version, Which};
use gristmill_kernel::{Fault, Result, VersionRef};
use std::collections::{BTreeMap, BTreeSet};

/// One side against the other; `None` where a side lacks it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Pair<T> {
    /// In the first version.
    pub a: Option<T>,
    /// In the second version.
    pub b: Option<T>,
}

/// What differs. Equal things are left out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The first version.
    pub a: VersionRef,
    /// The second version.
    pub b: VersionRef,
    /// Whether the content is the same to the bit.
    pub same_content: bool,
    /// The digests, if they differ.
    pub digest: Option<Pair<String>>,
    /// Parameters of the runs.
    pub params: BTreeMap<String, Pair<String>>,
    /// Metrics of the runs.
    pub metrics: BTreeMap<String, Pair<f64>>,
    /// Features (`view.column`) and their types, for models.
    pub features: BTreeMap<String, Pair<String>>,
    /// The versions they were made from, by asset.
    pub inputs: BTreeMap<String, Pair<u64>>,
    /// Keys of the runs' specs.
    pub spec: BTreeMap<String, Pair<serde_json::Value>>,
    /// Keys of the versions' meta.
    pub meta: BTreeMap<String, Pair<serde_json::Value>>,
}

struct Side {
    version: Version,
    run: Run,
    features: BTreeMap<String, String>,
}

/// Compares two versions.
pub async fn diff(ports: &Ports, a: &VersionRef, b: &VersionRef) -> Result<Difference> {
    let (a, b) = (side(ports, a).await?, side(ports, b).await?);
    Ok(compare(&a, &b))
}

fn compare(a: &Side, b: &Side) -> Difference {
    let same_content = a.version.digest == b.version.digest;
    let digest = (!same_content).then(|| Pair { a: Some(a.version.digest.to_string()), b: Some(b.version.digest.to_string()) });
    let inputs = |run: &Run| run.inputs.iter().map(|v| (v.asset.to_string(), v.number)).collect::<BTreeMap<_, _>>();
    Difference {
        a: a.version.id.clone(),
        b: b.version.id.clone(),
        same_content,
        digest,
        params: unequal(&a.run.params, &b.run.params),
        metrics: unequal(&numbers(&a.run), &numbers(&b.run)).into_iter().collect(),
        features: unequal(&a.features, &b.features),
        inputs: unequal(&inputs(&a.run), &inputs(&b.run)),
        spec: unequal(&keys(&a.run.spec), &keys(&b.run.spec)),
        meta: unequal(&keys(&a.version.meta), &keys(&b.version.meta)),
    }
}

/// A metric that is NaN on both sides does not differ; JSON has no NaN, so it is left out.
fn numbers(run: &Run) -> BTreeMap<String, f64> {
    run.metrics.iter().filter(|(_, v)| !v.is_nan()).map(|(k, v)| (k.clone(), *v)).collect()
}

fn keys(value: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        serde_json::Value::Null => BTreeMap::new(),
        other => BTreeMap::from([("value".to_owned(), other.clone())]),
    }
}

fn unequal<T: Clone + PartialEq>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>) -> BTreeMap<String, Pair<T>> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| (name.clone(), Pair { a: a.get(name).cloned(), b: b.get(name).cloned() }))
        .collect()
}

async fn side(ports: &Ports, id: &VersionRef) -> Result<Side> {
    let version = find(ports, &id.asset, &Which::Number(id.number)).await?;
    let run = ports
        .ledger
        .run(&version.run)
        .await?
        .ok_or_else(|| Fault::damaged(format!("{id} was made by run {}, which is not in the ledger", version.run)))?;
    let features = features(ports, &version).await?;
    Ok(Side { version, run, features })
}

/// The inputs of a model; nothing for other assets.
async fn features(ports: &Ports, version: &Version) -> Result<BTreeMap<String, String>> {
    let Place::Blob { digest } = &version.place else { return Ok(BTreeMap::new()) };
    if version.id.asset.kind != gristmill_kernel::AssetKind::Models {
        return Ok(BTreeMap::new());
    }
    let bytes = ports.blobs.get(digest).await?.ok_or_else(|| Fault::damaged(format!("the content of {} is gone", version.id)))?;
    // Of a version that a client registered: its files.
    if let Ok(manifest) = Manifest::read(&bytes) {
        return Ok(manifest.files().iter().map(|(key, digest)| (key.clone(), digest.short())).collect());
    }
    let model = ModelFile::read(&bytes)?;
    let kind = |kind| match kind {
        gristmill_kernel::view::FeatureType::Number => "number",
        gristmill_kernel::view::FeatureType::Boolean => "boolean",
        gristmill_kernel::view::FeatureType::Category => "category",
    };
    Ok(model.features.iter().map(|f| (format!("{}.{}", f.view, f.column), kind(f.kind).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::run;
    use gristmill_kernel::{Digest, Timestamp};

    fn side(number: u64, auc: f64, feature: &str) -> Side {
        let id = VersionRef { asset: "models.churn".parse().expect("address"), number };
        let mut run = run(&[("auc", auc), ("ks", f64::NAN)], &[("depth", "3")]);
        run.inputs = vec![VersionRef { asset: "training_sets.churn".parse().expect("address"), number }];
        run.spec = serde_json::json!({ "train": "gbdt", "seed": number });
        let version = Version {
            id,
            digest: Digest::of(number.to_string()),
            place: Place::Meta,
            rows: None,
            meta: serde_json::json!({ "task": "binary" }),
            run: run.id.clone(),
            made_at: Timestamp::default(),
        };
        Side { version, run, features: BTreeMap::from([(feature.to_owned(), "number".to_owned())]) }
    }

    #[test]
    fn only_what_differs_is_said() {
        let d = compare(&side(1, 0.7, "a.x"), &side(2, 0.8, "a.y"));
        assert!(!d.same_content && d.digest.is_some());
        assert_eq!(d.metrics.keys().collect::<Vec<_>>(), ["auc"]);
        assert_eq!(d.metrics["auc"], Pair { a: Some(0.7), b: Some(0.8) });
        assert!(d.params.is_empty() && d.meta.is_empty());
        assert_eq!(d.features["a.x"], Pair { a: Some("number".into()), b: None });
        assert_eq!(d.inputs["training_sets.churn"], Pair { a: Some(1), b: Some(2) });
        assert_eq!(d.spec.keys().collect::<Vec<_>>(), ["seed"]);
    }

    #[test]
    fn a_version_does_not_differ_from_itself() {
        let d = compare(&side(1, 0.7, "a.x"), &side(1, 0.7, "a.x"));
        assert!(d.same_content && d.metrics.is_empty() && d.features.is_empty() && d.inputs.is_empty() && d.spec.is_empty());
    }
}
