//! The JSON schema of `gristmill.toml`, for completion and checks in editors (`#:schema .gristmill/schema.json`).

use crate::file::File;
use gristmill_kernel::{Fault, Result};
use std::path::Path;

/// Where it is written, relative to the project.
pub const FILE: &str = ".gristmill/schema.json";

/// The schema.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

/// Writes the schema into a project; a file that is the same is left alone.
pub fn write(dir: &Path) -> Result<()> {
    let text = format!("{:#}\n", schema());
    let path = dir.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let io = |e| Fault::io(format!("write {FILE}"), e);
    std::fs::create_dir_all(dir.join(".gristmill")).map_err(io)?;
    std::fs::write(&path, text).map_err(io)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_key_is_described() {
        let schema = super::schema();
        let model = &schema["$defs"]["Model"];
        assert_eq!(model["additionalProperties"], false);
        for (name, key) in model["properties"].as_object().expect("keys") {
            assert!(key["description"].is_string(), "models.*.{name}");
        }
        assert!(schema["$defs"]["ExpectEntry"]["anyOf"].is_array());
    }

    #[test]
    fn it_is_written_once() {
        let folder = tempfile::tempdir().expect("a folder");
        super::write(folder.path()).expect("written");
        super::write(folder.path()).expect("again");
        assert!(folder.path().join(super::FILE).is_file());
    }
}
