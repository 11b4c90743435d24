//! What a source file may say, how it opens, how long it is, and which files a stage has.
//!
//! Code for tests is free of the bans on environment, processes and libraries; it is not free of length and lints.

use super::Offence;
use super::roles::{FENCES, STAGES, matches, short};
use super::source::{self, Source, Used, blank};
use anyhow::Result;
use cargo_metadata::Metadata;
use std::collections::BTreeSet;
use std::path::Path;

/// The sources of one crate of the product.
#[derive(Debug)]
pub struct CrateSources {
    /// The name without prefix: `ingest`.
    pub name: String,
    /// Its folder relative to the workspace: `crates/ingest`.
    pub folder: String,
    /// Everything under `src`.
    pub files: Vec<Source>,
}

/// Reads every crate under `crates/`.
pub fn read_crates(root: &Path, metadata: &Metadata) -> Result<Vec<CrateSources>> {
    let mut crates = Vec::new();
    for package in &metadata.packages {
        let Some(folder) = package.manifest_path.parent() else { continue };
        let Ok(relative) = folder.as_std_path().strip_prefix(root) else { continue };
        if !relative.starts_with("crates") {
            continue;
        }
        let files = source::read_tree(root, &folder.as_std_path().join("src"))?;
        crates.push(CrateSources { name: short(&package.name).to_owned(), folder: relative.to_string_lossy().replace('\\', "/"), files });
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(crates)
}

/// Offences at every used path that a judge objects to.
fn judged(crates: &[CrateSources], law: &'static str, judge: impl Fn(&CrateSources, &Source, &Used) -> Option<String>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for krate in crates {
        for file in &krate.files {
            let mut lines = BTreeSet::new();
            for used in &file.paths {
                if let Some(text) = judge(krate, file, used).filter(|_| lines.insert(used.line)) {
                    offences.push(Offence::new(format!("{}:{}", file.path, used.line), law, text));
                }
            }
        }
    }
    offences
}

/// A library is named in source only where its fence lets it, renamed or not.
pub fn named_libraries(crates: &[CrateSources]) -> Vec<Offence> {
    judged(crates, "fences", |krate, _, used| {
        let library = used.segments.first().filter(|_| used.segments.len() > 1)?;
        let written = library.replace('_', "-");
        let fence = FENCES.iter().find(|f| f.libraries.iter().any(|l| matches(l, library) || matches(l, &written)))?;
        let inside = fence.only.contains(&krate.name.as_str());
        (!inside).then(|| format!("names {library}, which belongs to {}: {}", fence.only.join(" and "), fence.why))
    })
}

/// The one file that reads the environment.
const ENVIRONMENT: &str = "crates/gristmill/src/config.rs";

/// The environment is read in one file; everything else gets values.
pub fn environment(crates: &[CrateSources]) -> Vec<Offence> {
    let mut offences = judged(crates, "environment", |_, file, used| {
        let reads = used.starts_with(&["std", "env"]) || used.starts_with(&["dotenvy"]);
        let told = || format!("uses {}; only {ENVIRONMENT} reads the environment, pass the value in", used.segments.join("::"));
        (reads && file.path != ENVIRONMENT).then(told)
    });
    for file in crates.iter().flat_map(|c| &c.files).filter(|f| !f.test_only && f.path != ENVIRONMENT) {
        for line in source::arguments_from_environment(&source::without_tests(&blank(&file.text))) {
            let text = format!("takes an argument from the environment; only {ENVIRONMENT} reads it");
            offences.push(Offence::new(format!("{}:{line}", file.path), "environment", text));
        }
    }
    offences
}

/// Processes are started and ended by the runner; the binary may name its exit code, and anybody the number of this process.
pub fn processes(crates: &[CrateSources]) -> Vec<Offence> {
    judged(crates, "processes", |krate, _, used| {
        let names = used.starts_with(&["std", "process"]) || used.starts_with(&["tokio", "process"]);
        let exit_code = krate.name == "gristmill" && used.starts_with(&["std", "process", "ExitCode"]);
        let own_number = used.starts_with(&["std", "process", "id"]);
        let allowed = krate.name == "runner" || exit_code || own_number;
        let told = || format!("uses {}; only runner starts processes, and main returns an ExitCode", used.segments.join("::"));
        (names && !allowed).then(told)
    })
}

/// Routes are made by `web::route`, so that none is without a permission.
pub fn routes(crates: &[CrateSources]) -> Vec<Offence> {
    judged(crates, "routes", |krate, _, used| {
        let makes = used.starts_with(&["axum", "Router"]) || used.starts_with(&["axum", "routing"]);
        (makes && krate.name != "web")
            .then(|| format!("uses {}; add routes with gristmill_web::route, which demands a permission", used.segments.join("::")))
    })
}

/// Files that may hold `unsafe`, with the reason. None does today; the workspace forbids it too.
const UNSAFE: &[(&str, &str)] = &[];

/// `unsafe` stands only in listed files, in tests too.
pub fn unsafe_code(crates: &[CrateSources]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in crates.iter().flat_map(|c| &c.files) {
        let used = source::paths(&blank(&file.text)).into_iter().find(|u| u.segments.first().is_some_and(|s| s == "unsafe"));
        let listed = UNSAFE.iter().any(|(path, _)| *path == file.path);
        match used {
            Some(used) if !listed => {
                let place = format!("{}:{}", file.path, used.line);
                offences.push(Offence::new(
                    place,
                    "unsafe",
                    "is unsafe; write it safely, or list the file with its reason in xtask/src/tidy/sources.rs",
                ));
            }
            None if listed => offences.push(Offence::new(&*file.path, "unsafe", "has no unsafe any more; take it off the list")),
            _ => {}
        }
    }
    offences
}

/// Every module says what it promises. Test modules are their own explanation.
pub fn openings(crates: &[CrateSources]) -> Vec<Offence> {
    let files = crates.iter().flat_map(|c| &c.files).filter(|f| !f.test_only);
    files
        .filter(|f| !f.text.trim_start().starts_with("//!"))
        .map(|f| Offence::new(&*f.path, "opening", "does not open with `//!`: say what it promises and how to add one more"))
        .collect()
}

/// The longest a file may be, in lines.
const LINES_MAX: usize = 700;

/// Files that are longer today. May only shrink.
const LONG: &[&str] = &[];

/// A file is short enough to be read in one sitting.
pub fn lengths(crates: &[CrateSources]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in crates.iter().flat_map(|c| &c.files) {
        let lines = file.text.lines().count();
        let listed = LONG.contains(&file.path.as_str());
        if lines > LINES_MAX && !listed {
            let text = format!("has {lines} lines, the limit is {LINES_MAX}; look for the second thing hiding in it");
            offences.push(Offence::new(&*file.path, "length", text));
        } else if lines <= LINES_MAX && listed {
            offences.push(Offence::new(&*file.path, "length", "is short again; take it off the list in xtask/src/tidy/sources.rs"));
        }
    }
    offences
}

/// The files every stage has: the same question is answered in the same file.
const FACE: [&str; 4] = ["lib", "spec", "plan", "run"];

/// Stages that lack a file of the face, and why. May only shrink.
const FACELESS: &[(&str, &str, &str)] =
    &[("serve", "run", "it answers requests instead of running orders; its work is in the request plane")];

/// Every stage has the same face.
pub fn faces(crates: &[CrateSources]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for krate in crates.iter().filter(|c| STAGES.contains(&c.name.as_str())) {
        for part in FACE {
            let there = [format!("{}/src/{part}.rs", krate.folder), format!("{}/src/{part}/mod.rs", krate.folder)];
            let has = krate.files.iter().any(|f| there.contains(&f.path));
            let excused = FACELESS.iter().any(|(stage, missing, _)| *stage == krate.name && *missing == part);
            if !has && !excused {
                offences.push(Offence::new(&*krate.folder, "face", format!("is a stage without src/{part}.rs")));
            } else if has && excused {
                offences.push(Offence::new(
                    &*krate.folder,
                    "face",
                    format!("has src/{part}.rs; take its excuse off the list in xtask/src/tidy/sources.rs"),
                ));
            }
        }
    }
    offences
}

/// Every file is a module somebody declared: a file nobody compiles is a file nobody checks.
pub fn orphans(crates: &[CrateSources]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for krate in crates {
        let declared: BTreeSet<String> = krate.files.iter().flat_map(|f| declared_modules(&f.path, &f.text)).collect();
        for file in &krate.files {
            let entry = ["lib.rs", "main.rs"].iter().any(|e| file.path == format!("{}/src/{e}", krate.folder));
            let binary = file.path.starts_with(&format!("{}/src/bin/", krate.folder));
            if !entry && !binary && !declared.contains(&file.path) {
                offences.push(Offence::new(&*file.path, "orphans", "is not compiled: no module declares it"));
            }
        }
    }
    offences
}

/// The files that a file's `mod NAME;` lines name.
fn declared_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, stem) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = stem.trim_end_matches(".rs");
    let inside = if matches!(stem, "lib" | "main" | "mod") { folder.to_owned() } else { format!("{folder}/{stem}") };
    let blanked = blank(text);
    let mut modules = Vec::new();
    let mut offset = 0;
    for line in blanked.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let Some((_, name)) = line.trim().strip_suffix(';').and_then(|l| l.split_once("mod ")) else { continue };
        let name = name.trim();
        let attribute = text[..start].trim_end().rsplit('\n').next().unwrap_or_default();
        match attribute.trim().strip_prefix("#[path = \"").and_then(|rest| rest.split_once('"')) {
            Some((file, _)) => modules.push(format!("{folder}/{file}")),
            None => modules.extend([format!("{inside}/{name}.rs"), format!("{inside}/{name}/mod.rs")]),
        }
    }
    modules
}
