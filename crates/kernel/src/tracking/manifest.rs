//! The content of a registered version: which files it consists of, each by the digest of its content.
//!
//! A manifest is stored as a blob, and the version's place names that blob; the files are blobs too. It is a format of the product: JSON with
//! a `format` number, read for ever, a newer one refused.
//!
//! The version's own digest is [`Manifest::digest`], over what the files are and not over how this text is written.

use crate::error::{Code, Fault, Result};
use crate::{Digest, limits};
use std::collections::BTreeMap;

/// The newest format, which is the one that is written.
pub const MANIFEST_FORMAT: u64 = 1;

/// The files of a version, by their keys relative to it: `MLmodel`, `data/model.pkl`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    files: BTreeMap<String, Digest>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    format: u64,
    files: Vec<StoredFile>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredFile {
    key: String,
    digest: Digest,
}

impl Manifest {
    /// Checks and takes a list of files: keys are artifact keys, each there once.
    pub fn new(files: impl IntoIterator<Item = (String, Digest)>) -> Result<Manifest> {
        let mut known = BTreeMap::new();
        for (key, digest) in files {
            crate::port::ArtifactKey::new(&key)?;
            if known.insert(key.clone(), digest).is_some() {
                return Err(Fault::invalid(Code::BAD_PATH, format!("file `{key}` is named twice")));
            }
            if known.len() > limits::ARTIFACTS_LISTED_MAX {
                return Err(Fault::new(
                    crate::Kind::TooLarge,
                    Code::BODY_TOO_LARGE,
                    format!("a model version has at most {} files", limits::ARTIFACTS_LISTED_MAX),
                ));
            }
        }
        Ok(Manifest { files: known })
    }
    /// The files, by key.
    pub fn files(&self) -> &BTreeMap<String, Digest> {
        &self.files
    }
    /// The digest of the content: over the sorted keys and the digest of each.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.files.iter().flat_map(|(key, digest)| [key.as_bytes(), digest.bytes().as_slice()]))
    }
    /// The stored text.
    pub fn write(&self) -> Result<Vec<u8>> {
        let files = self.files.iter().map(|(key, digest)| StoredFile { key: key.clone(), digest: *digest }).collect();
        serde_json::to_vec(&Stored { format: MANIFEST_FORMAT, files }).map_err(|e| Fault::internal("encode a manifest").because(e))
    }
    /// Reads a stored text.
    pub fn read(bytes: &[u8]) -> Result<Manifest> {
        let damaged = |e: String| Fault::damaged(format!("the manifest of a model version cannot be read: {e}"));
        #[derive(serde::Deserialize)]
        struct Format {
            format: u64,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if format > MANIFEST_FORMAT {
            return Err(Fault::conflict(
                Code::NEWER_FORMAT,
                format!("the manifest of a model version has format {format}, this gristmill knows formats up to {MANIFEST_FORMAT}"),
            )
            .fix("use the newer gristmill that wrote it"));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        Manifest::new(stored.files.into_iter().map(|file| (file.key, file.digest))).map_err(|e| damaged(e.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Format 1, for ever.
    const GOLDEN: &str = r#"{"format":1,"files":[{"key":"MLmodel","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},{"key":"data/model.pkl","digest":"sha256:a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"}]}"#;

    fn manifest() -> Manifest {
        Manifest::new([("data/model.pkl".to_owned(), Digest::of("y")), ("MLmodel".to_owned(), Digest::of("x"))]).expect("a manifest")
    }

    #[test]
    fn the_first_format_reads_for_ever() {
        assert_eq!(String::from_utf8(manifest().write().expect("write")).expect("text"), GOLDEN);
        assert_eq!(Manifest::read(GOLDEN.as_bytes()).expect("read"), manifest());
    }

    #[test]
    fn a_digest_is_of_the_content() {
        let other = Manifest::new([("MLmodel".to_owned(), Digest::of("x"))]).expect("a manifest");
        assert_ne!(other.digest(), manifest().digest());
        assert_ne!(Manifest::default().digest(), other.digest());
        assert_eq!(Manifest::read(&manifest().write().expect("write")).expect("read").digest(), manifest().digest());
    }

    #[test]
    fn what_cannot_be_a_manifest_is_refused() {
        let newer = GOLDEN.replace("\"format\":1", "\"format\":2");
        assert_eq!(Manifest::read(newer.as_bytes()).expect_err("newer").code, Code::NEWER_FORMAT);
        for bad in
            ["", "{}", "[]", r#"{"format":1}"#, &GOLDEN.replace("MLmodel", "../MLmodel"), &GOLDEN.replace("data/model.pkl", "MLmodel")]
        {
            assert_eq!(Manifest::read(bad.as_bytes()).expect_err(bad).code, Code::DAMAGED, "{bad}");
        }
    }
}
