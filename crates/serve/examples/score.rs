//! Our side of `cargo xtask bench scores`: `score MODEL FOLDER` measures a model of a folder that `peers.py` made, on one thread; `score MODEL FOLDER
//! LIBRARY` leaves its graph to that library of ONNX Runtime.
//!
//! The answer is one line of JSON, as the peers give it; the scores lie in the folder as `gristmill.MODEL.f64`, those of the library as `through.MODEL.f64`.

use gristmill_serve::runtime::onnx::{Onnx, library_at};
use gristmill_serve::runtime::{Runtime, lightgbm};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEATURES: usize = 20;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, folder, library) = match arguments.as_slice() {
        [model, folder] => (model, PathBuf::from(folder), None),
        [model, folder, library] => (model, PathBuf::from(folder), Some(PathBuf::from(library))),
        _ => return Err("usage: score MODEL FOLDER [LIBRARY]".into()),
    };
    let who = if library.is_some() { "through" } else { "gristmill" };
    let runtime = match model.as_str() {
        "trees" => Runtime::Forest(Box::new(lightgbm::read(&std::fs::read(folder.join("trees.txt"))?)?.forest)),
        other => {
            let bytes = std::fs::read(folder.join(format!("{other}.onnx")))?;
            let onnx = match library {
                None => Onnx::read(&bytes, Some(FEATURES)),
                Some(library) => {
                    library_at(library);
                    Onnx::read_through(&bytes, Some(FEATURES))
                }
            };
            Runtime::Onnx(Box::new(onnx.map_err(|problem| problem.why)?))
        }
    };
    let bytes = std::fs::read(folder.join("rows.f64"))?;
    let matrix: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let rows = matrix.len() / FEATURES;

    let scores = runtime.run(&matrix, rows)?;
    // Of two classes, the second one's.
    let scores = scores.chunks_exact(runtime.outputs()).filter_map(<[f64]>::last).flat_map(|score| score.to_le_bytes());
    std::fs::write(folder.join(format!("{who}.{model}.f64")), scores.collect::<Vec<u8>>())?;

    let timed = |work: &dyn Fn() -> Result<Vec<f64>, String>| -> Result<Duration, String> {
        let begun = Instant::now();
        std::hint::black_box(work()?);
        Ok(begun.elapsed())
    };
    let all = (0..ROUNDS).map(|_| timed(&|| runtime.run(&matrix, rows))).collect::<Result<Vec<_>, _>>()?;
    let one = matrix.chunks_exact(FEATURES).map(|row| timed(&|| runtime.run(row, 1))).collect::<Result<Vec<_>, _>>()?;
    println!("{}", serde_json::json!({ "all": median(all) / rows as f64, "one": median(one) }));
    Ok(())
}

/// In microseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
