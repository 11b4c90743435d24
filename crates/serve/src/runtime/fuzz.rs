//! Bytes that nobody wrote: every golden file cut, flipped and spliced, by a seed. A reader refuses or reads, and what it reads scores and is explained.

use super::onnx::Onnx;
use super::shap::Explainer;
use super::{ReadModel, lightgbm, xgboost};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;

/// Changed copies of each file.
const COPIES: usize = 150;

fn files(ending: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/foreign");
    let entries = std::fs::read_dir(folder).expect("the golden files");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).filter(|p| p.to_string_lossy().ends_with(ending)).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{ending}");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a golden file"))).collect()
}

fn changed(bytes: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    let place = |random: &mut SmallRng| random.random_range(0..bytes.len());
    for _ in 0..random.random_range(1..4) {
        let (at, other) = (place(random).min(copy.len() - 1), place(random));
        match random.random_range(0..7) {
            0 => copy[at] ^= 1 << random.random_range(0..8),
            1 => copy[at] = random.random(),
            2 => copy[at] = *b"0123456789-.[]{}=\n :,$#LlN".get(random.random_range(0..26)).expect("a byte"),
            3 => copy.truncate(at + 1),
            4 => drop(copy.drain(at..(at + random.random_range(1..40)).min(copy.len() - 1).max(at))),
            5 => {
                let piece = bytes[other..(other + random.random_range(1..60)).min(bytes.len())].to_vec();
                drop(copy.splice(at..at, piece));
            }
            // A number that says there is much.
            _ => drop(copy.splice(at..at, *b"99999999999999999999")),
        }
        if copy.is_empty() {
            copy.push(b'{');
        }
    }
    copy
}

fn try_all(ending: &str, read: impl Fn(&[u8]) -> Result<ReadModel, String>) {
    let mut random = SmallRng::seed_from_u64(7);
    let (mut read_anyway, mut explained) = (0, 0);
    for (path, bytes) in files(ending) {
        for _ in 0..COPIES {
            let Ok(model) = read(&changed(&bytes, &mut random)) else { continue };
            read_anyway += 1;
            let mut out = vec![0.0; model.forest.outputs()];
            let explainer = Explainer::of(&model.forest);
            for x in [f64::NAN, 0.0, 1e300, -1e300, 3.0, f64::INFINITY] {
                model.forest.score(&vec![x; model.names.len()], &mut out);
                if let Some(explainer) = &explainer {
                    let each = explainer.contributions(&model.forest, &vec![x; model.names.len()], out.len() - 1);
                    assert_eq!(each.len(), model.names.len(), "{}", path.display());
                }
            }
            explained += usize::from(explainer.is_some());
        }
        assert!(read(&bytes[..100]).is_err(), "the beginning of {}", path.display());
    }
    assert!(read_anyway > 0 && explained > 0, "some changes do no harm");
}

#[test]
fn lightgbm_files() {
    try_all(".txt", lightgbm::read);
}

#[test]
fn xgboost_json_files() {
    try_all(".model.json", |bytes| xgboost::read(bytes, xgboost::Rounds::All));
}

#[test]
fn xgboost_ubjson_files() {
    try_all(".model.ubj", |bytes| xgboost::read(bytes, xgboost::Rounds::Best));
}

#[test]
fn onnx_files() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut read_anyway = 0;
    // Those of `tests/models` have words, embeddings and norms; the small ones are enough.
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/fixtures");
    let networks =
        ["sklearn_pipeline", "torch_network", "torch_embedding", "keras_multiclass"].map(|name| fixtures.join(name).join("model.onnx"));
    let networks = networks.map(|path| std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    for bytes in files(".onnx").into_iter().map(|(_, bytes)| bytes).chain(networks) {
        for _ in 0..COPIES {
            let changed = changed(&bytes, &mut random);
            // Graphs that only tract knows are not its to try here: what it does with bytes that nobody wrote is looked at elsewhere.
            let Ok(model) = Onnx::read_own(&changed, Some(5)) else { continue };
            read_anyway += 1;
            for x in [f64::NAN, 0.0, 1e300, f64::INFINITY] {
                let outputs = model.run(&vec![x; model.names().len() * 2], 2).expect("runs");
                assert_eq!(outputs.len(), 2 * model.outputs());
            }
        }
    }
    assert!(read_anyway > 0, "some changes do no harm");
}
