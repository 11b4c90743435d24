//! Each law is shown to fail on a small workspace that breaks it, and to pass on its twin that does not.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be written is a failed test")]

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A workspace in a temporary folder, written file by file.
struct Fixture(TempDir);

impl Fixture {
    /// A workspace that keeps every law.
    fn new() -> Fixture {
        let fixture = Fixture(TempDir::new().unwrap());
        let lints = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
        fixture.write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n{lints}"));
        fixture.package("kernel", "gristmill-kernel", "", &["lib"]);
        fixture.package("engine", "gristmill-engine", KERNEL, &["lib"]);
        fixture.package("train", "gristmill-train", KERNEL, &["lib", "spec", "plan", "run"]);
        fixture.package("features", "gristmill-features", KERNEL, &["lib", "spec", "plan", "run"]);
        fixture.package("gristmill", "gristmill", &format!("{KERNEL}{TRAIN}"), &["main", "config"]);
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn package(&self, folder: &str, name: &str, dependencies: &str, files: &[&str]) {
        self.manifest(folder, name, &format!("[dependencies]\n{dependencies}"));
        let (entry, others) = files.split_first().unwrap();
        let modules: String = others.iter().map(|f| format!("mod {f};\n")).collect();
        let body = if *entry == "main" { "fn main() {}\n" } else { "" };
        self.write(&format!("crates/{folder}/src/{entry}.rs"), &format!("//! Entry.\n{modules}{body}"));
        for file in others {
            self.write(&format!("crates/{folder}/src/{file}.rs"), "//! Part.\n");
        }
    }

    fn manifest(&self, folder: &str, name: &str, rest: &str) {
        let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lints]\nworkspace = true\n");
        self.write(&format!("crates/{folder}/Cargo.toml"), &format!("{head}{rest}"));
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    /// Laws broken, with their places.
    fn broken(&self) -> Vec<String> {
        xtask::tidy::check(self.root()).unwrap().into_iter().map(|o| format!("{} {}", o.law, o.place)).collect()
    }
}

const KERNEL: &str = "gristmill-kernel = { path = \"../kernel\" }\n";
const TRAIN: &str = "gristmill-train = { path = \"../train\" }\n";
const ENGINE: &str = "gristmill-engine = { path = \"../engine\" }\n";

#[test]
fn a_workspace_that_keeps_every_law_passes() {
    assert_eq!(Fixture::new().broken(), Vec::<String>::new());
}

#[test]
fn a_stage_must_not_import_a_stage() {
    let fixture = Fixture::new();
    fixture.manifest("features", "gristmill-features", &format!("[dependencies]\n{KERNEL}{TRAIN}"));
    assert_eq!(fixture.broken(), ["layers gristmill-features"]);

    // Not even in tests; the binary may, for it plugs the stages together.
    fixture.manifest("features", "gristmill-features", &format!("[dependencies]\n{KERNEL}[dev-dependencies]\n{TRAIN}"));
    assert_eq!(fixture.broken(), ["layers gristmill-features"]);
}

#[test]
fn a_stage_must_not_import_an_adapter_except_in_tests() {
    let fixture = Fixture::new();
    fixture.manifest("train", "gristmill-train", &format!("[dependencies]\n{KERNEL}{ENGINE}"));
    assert_eq!(fixture.broken(), ["layers gristmill-train"]);

    fixture.manifest("train", "gristmill-train", &format!("[dependencies]\n{KERNEL}[dev-dependencies]\n{ENGINE}"));
    assert_eq!(fixture.broken(), Vec::<String>::new());
}

#[test]
fn an_adapter_knows_the_kernel_only_and_a_new_crate_needs_a_role() {
    let fixture = Fixture::new();
    fixture.manifest("engine", "gristmill-engine", &format!("[dependencies]\n{KERNEL}{TRAIN}"));
    assert_eq!(fixture.broken(), ["layers gristmill-engine"]);
    fixture.manifest("engine", "gristmill-engine", &format!("[dependencies]\n{KERNEL}"));
    fixture.package("oven", "gristmill-oven", KERNEL, &["lib"]);
    assert_eq!(fixture.broken(), ["roles gristmill-oven"]);
}

#[test]
fn datafusion_is_named_only_in_the_engine() {
    let fixture = Fixture::new();
    fixture.manifest("engine", "gristmill-engine", &format!("[dependencies]\n{KERNEL}datafusion = \"55\"\n"));
    fixture.write("crates/engine/src/lib.rs", "//! SQL.\nuse datafusion::prelude::SessionContext;\n");
    assert_eq!(fixture.broken(), Vec::<String>::new());

    fixture.write("crates/train/src/run.rs", "//! Part.\nuse datafusion::prelude::SessionContext;\n");
    assert_eq!(fixture.broken(), ["fences crates/train/src/run.rs:2"]);

    // The twin only talks about it.
    fixture
        .write("crates/train/src/run.rs", "//! Part.\n// datafusion::prelude is not for us\nconst WORD: &str = \"datafusion::prelude\";\n");
    assert_eq!(fixture.broken(), Vec::<String>::new());

    fixture.manifest("train", "gristmill-train", &format!("[dependencies]\n{KERNEL}deltalake-core = \"1\"\n"));
    assert_eq!(fixture.broken(), ["fences gristmill-train"]);
}

#[test]
fn a_store_is_a_dependency_of_store_only_and_the_kernel_has_no_runtime() {
    let fixture = Fixture::new();
    fixture.manifest("train", "gristmill-train", &format!("[dependencies]\n{KERNEL}sqlx = \"0.9\"\n"));
    assert_eq!(fixture.broken(), ["fences gristmill-train"]);

    let fixture = Fixture::new();
    fixture.package("store", "gristmill-store", &format!("{KERNEL}sqlx = \"0.9\"\nfjall = \"3\"\n"), &["lib"]);
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.manifest("kernel", "gristmill-kernel", "[dependencies]\ntokio = \"1\"\n");
    assert_eq!(fixture.broken(), ["kernel gristmill-kernel"]);
}

#[test]
fn the_environment_is_read_only_in_the_config() {
    let fixture = Fixture::new();
    let reads = "//! Part.\nuse std::{fmt, env};\npub fn home() -> Option<std::ffi::OsString> {\n    env::var_os(\"HOME\")\n}\n";
    fixture.write("crates/gristmill/src/config.rs", reads);
    assert_eq!(fixture.broken(), Vec::<String>::new());

    fixture.write("crates/train/src/plan.rs", reads);
    assert_eq!(fixture.broken(), ["environment crates/train/src/plan.rs:2"]);

    fixture.write("crates/train/src/plan.rs", "//! Part.\nfn f() -> bool {\n    std::env::var(\"X\").is_ok()\n}\n");
    assert_eq!(fixture.broken(), ["environment crates/train/src/plan.rs:3"]);

    // A command line parser that reads it in passing is no better.
    fixture.write("crates/train/src/plan.rs", "//! Part.\nstruct Args {\n    #[arg(long, env = \"PORT\")]\n    port: u16,\n}\n");
    assert_eq!(fixture.broken(), ["environment crates/train/src/plan.rs:3"]);

    // The twin reads it in its tests; compile-time facts are no environment.
    let tests =
        "//! Part.\nconst V: &str = env!(\"CARGO_PKG_VERSION\");\n#[cfg(test)]\nmod tests {\n    fn f() { std::env::temp_dir(); }\n}\n";
    fixture.write("crates/train/src/plan.rs", tests);
    assert_eq!(fixture.broken(), Vec::<String>::new());
}

#[test]
fn processes_belong_to_the_runner() {
    let fixture = Fixture::new();
    let starts = "//! Part.\npub fn f() {\n    let _ = std::process::Command::new(\"x\");\n}\n";
    fixture.package("runner", "gristmill-runner", KERNEL, &["lib"]);
    fixture.write("crates/runner/src/lib.rs", starts);
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.write("crates/train/src/run.rs", starts);
    assert_eq!(fixture.broken(), ["processes crates/train/src/run.rs:3"]);
    fixture.write("crates/train/src/run.rs", "//! Part.\npub fn f() -> u32 {\n    std::process::id()\n}\n");
    assert_eq!(fixture.broken(), Vec::<String>::new());

    let fixture = Fixture::new();
    let main = |end: &str| format!("//! Entry.\nmod config;\nuse std::process::ExitCode;\nfn main() -> ExitCode {{\n    {end}\n}}\n");
    fixture.write("crates/gristmill/src/main.rs", &main("ExitCode::SUCCESS"));
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.write("crates/gristmill/src/main.rs", &main("std::process::exit(1)"));
    assert_eq!(fixture.broken(), ["processes crates/gristmill/src/main.rs:5"]);
}

#[test]
fn routes_are_made_with_their_permission() {
    let fixture = Fixture::new();
    let makes = "//! Part.\nuse axum::{Router, routing::get};\n";
    fixture.package("web", "gristmill-web", KERNEL, &["lib"]);
    fixture.write("crates/web/src/lib.rs", makes);
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.write("crates/train/src/run.rs", makes);
    assert_eq!(fixture.broken(), ["routes crates/train/src/run.rs:2"]);
}

#[test]
fn a_module_opens_with_what_it_promises() {
    let fixture = Fixture::new();
    fixture.write("crates/train/src/plan.rs", "// not a promise\nfn f() {}\n");
    assert_eq!(fixture.broken(), ["opening crates/train/src/plan.rs"]);

    // A module of tests explains itself.
    fixture.write("crates/train/src/plan.rs", "//! Part.\n#[cfg(test)]\nmod tests;\n");
    fixture.write("crates/train/src/plan/tests.rs", "fn f() { std::env::temp_dir(); }\n");
    assert_eq!(fixture.broken(), Vec::<String>::new());
}

#[test]
fn a_stage_has_its_face_and_every_file_is_compiled() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.root().join("crates/train/src/spec.rs")).unwrap();
    assert_eq!(fixture.broken(), ["face crates/train"]);

    // A folder will do.
    fixture.write("crates/train/src/spec/mod.rs", "//! Part.\n");
    assert_eq!(fixture.broken(), Vec::<String>::new());

    fixture.write("crates/train/src/forgotten.rs", "//! Nobody declares it.\n");
    assert_eq!(fixture.broken(), ["orphans crates/train/src/forgotten.rs"]);
}

#[test]
fn files_are_short_and_safe() {
    let fixture = Fixture::new();
    fixture.write("crates/train/src/plan.rs", &format!("//! Part.\n{}", "const _: () = ();\n".repeat(699)));
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.write("crates/train/src/plan.rs", &format!("//! Part.\n{}", "const _: () = ();\n".repeat(700)));
    assert_eq!(fixture.broken(), ["length crates/train/src/plan.rs"]);

    fixture.write("crates/train/src/plan.rs", "//! Part.\n// nothing unsafe here\nfn f() {\n    unsafe { g() }\n}\n");
    assert_eq!(fixture.broken(), ["unsafe crates/train/src/plan.rs:4"]);
}

#[test]
fn there_is_one_arrow_and_one_set_of_lints() {
    let fixture = Fixture::new();
    let lock = |second: &str| {
        let package = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        format!("version = 4\n{}{}{}", package("arrow", "59.3.2"), package("arrow-array", "59.3.2"), package("arrow-array", second))
    };
    fixture.write("Cargo.lock", &lock("59.3.2"));
    assert_eq!(fixture.broken(), Vec::<String>::new());
    fixture.write("Cargo.lock", &lock("60.1.0"));
    assert_eq!(fixture.broken(), ["one arrow Cargo.lock"]);

    let fixture = Fixture::new();
    fixture.write("crates/engine/Cargo.toml", "[package]\nname = \"gristmill-engine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    assert_eq!(fixture.broken(), ["lints gristmill-engine"]);
}

#[test]
fn the_command_fails_with_the_place_and_passes_on_the_twin() {
    let fixture = Fixture::new();
    let tidy = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_xtask")).args(["tidy", "--root"]).arg(fixture.root()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(tidy().0);
    fixture.manifest("features", "gristmill-features", &format!("[dependencies]\n{KERNEL}{TRAIN}"));
    let (passed, said) = tidy();
    assert!(!passed && said.contains("gristmill-features: must not depend on train"), "{said}");
}
