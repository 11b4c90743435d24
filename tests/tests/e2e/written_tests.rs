//! `gristmill test --write`: a test of real rows holds at once and no longer when the view changes; `plan` runs the tests first.

use gristmill_tests::Project;

#[test]
fn a_written_test_holds_and_sees_a_change() {
    let project = Project::shop();
    project.run(&["test", "--write", "features.activity"]).fails_with(1, "E0202");
    project.run(&["apply", "--yes"]).good();
    let file = project.run(&["test", "--write", "features.activity"]).good().out;
    assert_eq!(file.trim(), "tests/activity_real.toml");
    let text = project.read("tests/activity_real.toml");
    assert_eq!(text.matches("[[test]]").count(), 3, "{text}");
    assert_eq!(project.run(&["test"]).good().out.trim(), "3 passed, 0 failed");
    project.run(&["plan"]).good();
    // Each change of the view is seen, by plan and apply too.
    let view = project.read("features/activity.sql");
    for (from, to) in [
        ("interval '30 days'", "interval '60 days'"),
        ("interval '30 days'", "interval '3 days'"),
        ("interval '7 days'", "interval '20 days'"),
        ("sum(amount)", "avg(amount)"),
        ("sum(amount)", "sum(amount) filter (where kind = 'sale')"),
        ("serve  = 'online'", "serve  = 'online'\nties   = 'include'"),
    ] {
        project.edit("features/activity.sql", from, to);
        let ran = project.run(&["test"]);
        assert_eq!(ran.code, 1, "{from} became {to} and nothing noticed:\n{text}");
        let planned = project.run(&["plan"]);
        assert_eq!(planned.code, 1, "{}", planned.out);
        assert!(planned.err.contains("expected") && planned.out.is_empty(), "{}{}", planned.err, planned.out);
        project.write("features/activity.sql", &view);
    }
    project.run(&["test"]).good();
    // A file that is there stays; another name is another file.
    project.run(&["test", "--write", "features.activity"]).fails_with(1, "E");
    project.run(&["test", "--write", "features.activity", "--name", "more"]).good();
    assert_eq!(project.run(&["test"]).good().out.trim(), "6 passed, 0 failed");
    project.run(&["test", "--write", "labels.buys"]).fails_with(1, "E0704");
    project.run(&["test", "--write", "features.activty"]).fails_with(1, "E0704");
}
