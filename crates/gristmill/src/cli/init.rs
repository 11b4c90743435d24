//! `gristmill init DIR --example NAME`.

use super::{Cx, Ended, Exit};
use clap::Args;
use gristmill_kernel::{Code, Fault, Result};
use std::path::{Path, PathBuf};

/// Make a project from an example.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder; it must be empty or new.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Which example: churn, ads, turbines or empty.
    #[arg(long, default_value = "empty")]
    example: String,
}

impl Init {
    pub fn run(self, cx: &Cx) -> Ended {
        let dir = cx.outside.here.join(&self.dir);
        if dir.join("gristmill.toml").exists() {
            return Err(Fault::conflict(Code::BAD_VALUE, format!("{} already holds a project", dir.display()))
                .fix("choose another folder")
                .into());
        }
        let count = write_example(&dir, &self.example)?;
        cx.out.say(format!("wrote {count} files into {}", dir.display()));
        cx.out.hint(format!("next: cd {} && gristmill check && gristmill plan && gristmill apply", self.dir.display()));
        Ok(Exit::Done)
    }
}

/// Writes the files of an example; files that are there already stay as they are.
pub fn write_example(dir: &Path, example: &str) -> Result<usize> {
    let files = gristmill_project::example_files(example).ok_or_else(|| {
        Fault::not_found(Code::UNKNOWN_NAME, format!("there is no example `{example}`"))
            .fix(format!("examples are {}", gristmill_project::examples::NAMES.join(", ")))
    })?;
    let mut count = 0;
    for (path, bytes) in files {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Fault::io(format!("make {}", folder.display()), e))?;
        }
        if !path.exists() {
            std::fs::write(&path, bytes).map_err(|e| Fault::io(format!("write {}", path.display()), e))?;
            count += 1;
        }
    }
    Ok(count)
}
