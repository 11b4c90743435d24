//! A registry that Feast itself wrote (`testdata/make_feast.py`), taken over.

use gristmill_kernel::Code;
use gristmill_project::import::feast::{Mode, Options, Outcome, Report, Tally, import, registry};
use std::path::{Path, PathBuf};

/// Feast's repository, copied into a folder of its own, and a project beside it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/feast");
        let repo = folder.path().join("rides");
        std::fs::create_dir_all(repo.join("data/rides")).expect("folders");
        for file in ["feature_store.yaml", "data/registry.db"] {
            std::fs::copy(from.join(file), repo.join(file)).expect("a copy");
        }
        Bench { folder }
    }
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).expect("a written file")
    }
    fn import(&self, mode: Mode) -> Report {
        import(&Options { repo: &self.path("rides"), project: None, out: self.folder.path(), mode }).expect("a report")
    }
    /// A view's file without its last line.
    fn view(&self, name: &str) -> String {
        let text = self.read(&format!("features/{name}.sql"));
        text[..text.rfind("-- gristmill import feast ").expect("a mark")].to_owned()
    }
}

fn tally(new: u64, updated: u64, same: u64, kept: u64) -> Tally {
    Tally { new, updated, same, kept }
}

#[test]
fn views_become_files_that_say_what_feast_means() {
    let bench = Bench::new();
    let report = bench.import(Mode::Careful);
    assert_eq!((report.project.as_str(), report.views, report.sources), ("rides", tally(6, 0, 0, 0), tally(5, 0, 0, 0)));
    assert_eq!(
        bench.read("gristmill.toml"),
        "project = \"rides\"\n\
         \n[sources.driver_stats_2]\nfrom = \"rides/data/driver_stats.parquet\"\ntime = \"event_timestamp\"\n\
         \n[sources.driver_stats_push]\nfrom = \"rides/data/driver_stats.parquet\"\ntime = \"event_timestamp\"\n\
         \n[sources.driver_hourly_stats]\nfrom = \"rides/data/hourly.parquet\"\ntime = \"ts\"\n\
         \n[sources.trips_of_day_2]\nfrom = \"rides/data/nested/Trips Of Day.parquet\"\ntime = \"event_timestamp\"\n\
         \n[sources.ride_log]\nfrom = \"rides/data/rides/**/*.parquet\"\ntime = \"event_timestamp\"\n"
    );
    assert_eq!(
        bench.view("driver_stats"),
        "/*---\nentity = \"driver_id\"\nserve  = \"online\"\nties   = \"include\"\n---*/\n-- Feast's feature view driver_stats\n\
         select\n  driver_id,\n  conv_rate,\n  acc_rate\nfrom driver_stats_2\nwhere event_timestamp >= as_of() - interval '1 day'\n"
    );
    let fresh = bench.view("driver_fresh");
    assert!(fresh.contains("from driver_stats_push\nwhere event_timestamp >= as_of() - interval '90 minutes'\n"), "{fresh}");
    let hourly = bench.view("hourly");
    assert!(
        hourly.ends_with(
            "select\n  drv as driver_id,\n  last_value(cr order by ts, written nulls first) as conv_rate,\n  \
             last_value(acc_rate order by ts, written nulls first) as acc_rate\nfrom driver_hourly_stats\n\
             where ts >= as_of() - interval '1000500 microseconds'\ngroup by drv\n"
        ),
        "{hourly}"
    );
    let trips = bench.view("trips_of_day");
    assert!(trips.starts_with("/*---\nentity = [\"driver_id\", \"customer_id\"]\nserve  = \"offline\"\n"), "{trips}");
    assert!(
        trips.ends_with("select\n  driver_id,\n  customer_id,\n  tags,\n  info,\n  raw\nfrom trips_of_day_2\n"),
        "no ttl, no window: {trips}"
    );
    let order = bench.view("order_things");
    assert!(order.contains("entity = \"Order\"\n") && order.contains("select\n  \"Order\",\n  \"a \"\"b\"\"\"\nfrom"), "{order}");
    let counts = bench.view("ride_counts");
    assert!(
        counts.ends_with(
            "select\n  driver_id,\n  sum(amount) filter (where event_timestamp > as_of() - interval '1 hour') as sum_amount_3600s,\n  \
             avg(amount) filter (where event_timestamp > as_of() - interval '7 days') as mean_amount_604800s,\n  \
             count(distinct ride_id) as rides\nfrom ride_log\nwhere event_timestamp >= as_of() - interval '30 days'\ngroup by driver_id\n"
        ),
        "{counts}"
    );
}

#[test]
fn what_has_no_counterpart_is_named_with_what_to_do() {
    let bench = Bench::new();
    let report = bench.import(Mode::Dry);
    assert!(!bench.path("gristmill.toml").exists() && !bench.path("features").exists(), "a dry run writes nothing");
    assert_eq!((report.dry_run, report.views), (true, tally(6, 0, 0, 0)));
    let said = |what: &str| {
        let mut all = report.not_taken.iter().chain(&report.notes);
        all.find(|note| note.what == what).unwrap_or_else(|| panic!("{what} is not named: {report:?}"))
    };
    for (what, why) in [
        ("feature view global_stats", "no entity"),
        ("feature view far_away", "s3://bucket/x.parquet"),
        ("feature view in_a_lake", "Delta"),
        ("feature view in_a_warehouse", "a.b.c"),
        ("feature view ride_modes", "`mode`"),
        ("on demand feature view rate_plus", "Python"),
    ] {
        let note = said(what);
        assert!(note.why.contains(why) && note.fix.is_some() && report.not_taken.contains(note), "{note:?}");
    }
    assert!(said("saved dataset january").why.contains("no such thing"));
    assert_eq!(report.not_taken.len(), 7, "{:?}", report.not_taken);
    let trips: Vec<&str> = report.notes.iter().filter(|n| n.what == "feature view Trips-Of Day").map(|n| n.why.as_str()).collect();
    assert!(
        trips.iter().any(|why| why.contains("is trips_of_day here")) && trips.iter().any(|why| why.ends_with("tags, info")),
        "{trips:?}"
    );
    let service = said("feature service rides_v1").fix.clone().expect("a fix");
    assert!(service.contains(r#"features = ["driver_stats", "trips_of_day"]"#) && service.contains("[endpoints.rides_v1]"), "{service}");
    let kafka: Vec<&str> = report.notes.iter().filter(|n| n.what == "feature view ride_counts").map(|n| n.why.as_str()).collect();
    assert!(kafka.iter().any(|why| why.contains("ride_events")) && kafka.iter().any(|why| why.contains("slide_interval")), "{kafka:?}");
}

#[test]
fn a_second_import_writes_nothing_and_changes_of_people_stay() {
    let bench = Bench::new();
    bench.import(Mode::Careful);
    let again = bench.import(Mode::Careful);
    assert_eq!((again.views, again.sources), (tally(0, 0, 6, 0), tally(0, 0, 5, 0)));
    assert!(again.files.iter().all(|file| file.outcome == Outcome::Same), "{:?}", again.files);

    let mine = format!("{}-- mine\n", bench.read("features/hourly.sql"));
    std::fs::write(bench.path("features/hourly.sql"), &mine).expect("a file");
    let toml = format!(
        "# mine\n{}\n[models.m]\nfeatures = [\"hourly\"]\n",
        bench.read("gristmill.toml").replace("hourly.parquet", "daily.parquet")
    );
    let toml = toml.replace("[sources.ride_log]\nfrom = \"rides/data/rides/**/*.parquet\"\ntime = \"event_timestamp\"\n", "");
    std::fs::write(bench.path("gristmill.toml"), &toml).expect("a file");
    // A file as an earlier Feast had it: the mark still fits what it says.
    let old = bench.read("features/driver_stats.sql").replace("acc_rate", "old_rate");
    let body = &old[..old.rfind("-- gristmill import feast ").expect("a mark")];
    let mark = gristmill_kernel::Digest::of(body).short();
    std::fs::write(bench.path("features/driver_stats.sql"), format!("{body}-- gristmill import feast {mark}\n")).expect("a file");

    let third = bench.import(Mode::Careful);
    assert_eq!((third.views, third.sources), (tally(0, 1, 4, 1), tally(1, 0, 3, 1)), "{:?}", third.notes);
    assert_eq!(bench.read("features/hourly.sql"), mine);
    assert!(bench.view("driver_stats").contains("acc_rate"));
    let now = bench.read("gristmill.toml");
    assert!(
        now.starts_with(&toml)
            && now.ends_with("\n[sources.ride_log]\nfrom = \"rides/data/rides/**/*.parquet\"\ntime = \"event_timestamp\"\n"),
        "{now}"
    );
    assert!(
        third.notes.iter().any(|n| n.what == "sources.driver_hourly_stats" && n.fix.as_ref().is_some_and(|f| f.contains("hourly.parquet")))
    );
    let forced = bench.import(Mode::Force);
    assert_eq!(forced.views, tally(0, 1, 5, 0));
    assert!(!bench.read("features/hourly.sql").contains("mine"));
}

#[test]
fn the_registry_is_found_and_its_project_chosen() {
    let bench = Bench::new();
    let of =
        |repo: &str, project: Option<&str>| import(&Options { repo: &bench.path(repo), project, out: &bench.path("p"), mode: Mode::Dry });
    let file = of("rides/data/registry.db", Some("rides")).expect("the file itself");
    assert_eq!(file.views, tally(6, 0, 0, 0));
    assert_eq!(of("rides/feature_store.yaml", None).expect("the store's file").project, "rides");
    assert_eq!(of("rides", Some("other")).expect("another project").views, tally(1, 0, 0, 0));
    assert_eq!(of("rides/data/registry.db", None).expect_err("two projects").code, Code::BAD_VALUE);
    assert_eq!(of("rides", Some("none")).expect_err("no such project").code, Code::UNKNOWN_NAME);
    assert_eq!(of("nowhere", None).expect_err("no folder").code, Code::IO);
    let yaml = |text: &str| {
        std::fs::write(bench.path("rides/feature_store.yaml"), text).expect("a file");
        of("rides", None).expect_err(text).code
    };
    assert_eq!(yaml("project: rides\nregistry:\n  registry_type: sql\n  path: postgresql://db/feast\n"), Code::NOT_SUPPORTED);
    assert_eq!(yaml("project: rides\nregistry: s3://bucket/registry.db\n"), Code::NOT_SUPPORTED);
    assert_eq!(yaml("project: rides\nregistry: data/none.db\n"), Code::FILE_NOT_FOUND);
    assert_eq!(yaml("project: [rides]\n"), Code::SOURCE_UNREADABLE);
    std::fs::write(bench.path("rides/data/registry.db"), b"no registry").expect("a file");
    assert_eq!(of("rides/data/registry.db", None).expect_err("no registry").code, Code::SOURCE_UNREADABLE);
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/feast/data/registry.db")).expect("the fixture");
    assert_eq!(registry::read(&whole).expect("a registry").views.len(), 12);
    for length in (0..whole.len()).step_by(7) {
        let _sound_or_not = registry::read(&whole[..length]);
    }
    let mut seed = 7_u64;
    for _ in 0..3_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = whole.clone();
        let at = (seed >> 33) as usize % bytes.len();
        bytes[at] = (seed >> 20) as u8;
        let _sound_or_not = registry::read(&bytes);
    }
    // Sources in sources, deeper than Feast has them: 26 is `batch_source`, 7 of a view, 1 of a feature view, 6 of a registry.
    let within = |number: u32, inner: Vec<u8>| {
        let tag = number << 3 | 2;
        let tag = if tag < 128 { vec![tag as u8] } else { vec![(tag & 127) as u8 | 128, (tag >> 7) as u8] };
        [tag, vec![inner.len() as u8], inner].concat()
    };
    let deep = (0..4).fold(Vec::new(), |inner, _| within(26, inner));
    assert!(registry::read(&within(6, within(1, within(7, deep)))).expect_err("deep").contains("deeply"));
}
