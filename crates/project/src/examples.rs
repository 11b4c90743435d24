//! The example projects that the binary carries, for `gristmill init` and `demo`.
//!
//! To add a file: a line here. A test compares this list with the folder `examples/`.

/// The names of the examples.
pub const NAMES: [&str; 4] = ["churn", "ads", "turbines", "empty"];

type File = (&'static str, &'static [u8]);

macro_rules! example {
    ($name:literal: $($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../../../examples/", $name, "/", $file)) as &[u8])),*]
    };
}

const CHURN: &[File] = example!("churn":
    "gristmill.toml",
    "gristmill.lock",
    "README.md",
    "features/activity.sql",
    "features/profile.sql",
    "labels/churned.sql",
    "tests/activity.toml",
    "tests/profile.toml",
    "data/online_retail.parquet",
    "data/ATTRIBUTION.md",
);

const ADS: &[File] = example!("ads":
    "gristmill.toml",
    "gristmill.lock",
    "README.md",
    "features/traffic.sql",
    "features/audience.sql",
    "features/item.sql",
    "labels/clicked.sql",
    "labels/shelf.sql",
    "tests/traffic.toml",
    "tests/item.toml",
    "data/impressions.parquet",
    "data/clicks.parquet",
    "data/items.parquet",
    "data/ATTRIBUTION.md",
);

const TURBINES: &[File] = example!("turbines":
    "gristmill.toml",
    "gristmill.lock",
    "README.md",
    "features/sensors.sql",
    "features/stops.sql",
    "labels/stops.sql",
    "tests/sensors.toml",
    "tests/stops.toml",
    "data/wind_turbines.parquet",
    "data/ATTRIBUTION.md",
);

const EMPTY: &[File] = example!("empty": "gristmill.toml", "README.md");

/// The files of an example, by path; `None` if there is no such example.
pub fn example_files(name: &str) -> Option<Vec<File>> {
    match name {
        "churn" => Some(CHURN.to_vec()),
        "ads" => Some(ADS.to_vec()),
        "turbines" => Some(TURBINES.to_vec()),
        "empty" => Some(EMPTY.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn walk(dir: &Path, prefix: &str, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry")) {
            let name = format!("{prefix}{}", entry.file_name().into_string().expect("text"));
            if entry.path().is_dir() {
                if !name.starts_with('.') {
                    walk(&entry.path(), &format!("{name}/"), out);
                }
            } else {
                out.push(name);
            }
        }
    }

    #[test]
    fn every_file_of_an_example_is_carried() {
        for name in NAMES {
            let mut files = Vec::new();
            walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name), "", &mut files);
            let carried: Vec<&str> = example_files(name).expect(name).into_iter().map(|(path, _)| path).collect();
            let missing: Vec<&String> = files.iter().filter(|f| !carried.contains(&f.as_str())).collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
        assert!(example_files("nope").is_none());
    }
}
