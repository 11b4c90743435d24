use super::*;
use gristmill_kernel::Name;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn at(seconds: u64) -> Timestamp {
    // A Thursday, midnight UTC.
    Timestamp::from_micros(0).plus(Span::from_secs(seconds))
}
fn spec(every: Option<&str>, when: Option<&str>) -> RetrainSpec {
    let name = Name::new("churn").expect("name");
    RetrainSpec {
        model: name.clone(),
        endpoint: Some(name),
        every: every.map(str::to_owned),
        when: when.map(str::to_owned),
        cooldown: Span::from_secs(HOUR),
    }
}
fn facts(now: u64, last_trained: u64) -> Facts {
    Facts {
        now: at(now),
        last_trained: Some(at(last_trained)),
        last_attempt: None,
        running: false,
        report: None,
        new_rows: None,
        new_labels: None,
    }
}
fn report(number: u64, made_at: u64, drift: bool) -> Report {
    Report {
        id: VersionRef { asset: "monitors.churn".parse().expect("address"), number },
        made_at: at(made_at),
        drift: Some(drift),
        first: drift.then(|| "psi(activity.spend_90d) = 0.41 > 0.2".to_owned()),
        quality_drop: Some(0.03),
        mismatch_rate: Some(0.01),
    }
}
fn holds(holds: bool) -> Judged {
    Judged { holds: Some(holds), observed: "new_rows = 7".into() }
}

#[test]
fn a_span_counts_from_the_last_training() {
    let weekly = spec(Some("7d"), None);
    assert_eq!(due(&weekly, &facts(7 * DAY - 1, 0), None).expect("judged"), None);
    let reason = due(&weekly, &facts(7 * DAY, 0), None).expect("judged").expect("due");
    assert!(reason.text.starts_with("schedule: every 7d"), "{}", reason.text);
}

#[test]
fn a_cron_line_is_read_in_utc_and_missed_moments_are_one() {
    // Mondays at three; the first after Thursday midnight is four days and three hours later.
    let line = "0 3 * * 1";
    assert_eq!(next_time(line, at(0)).expect("a moment"), at(4 * DAY + 3 * HOUR));
    assert_eq!(next_time(line, at(4 * DAY + 3 * HOUR)).expect("a moment"), at(11 * DAY + 3 * HOUR), "strictly after");
    let spec = spec(Some(line), None);
    let late = due(&spec, &facts(40 * DAY, 0), None).expect("judged").expect("due");
    let later = due(&spec, &facts(41 * DAY, 0), None).expect("judged").expect("due");
    assert_eq!(late.token, later.token, "still the same cause");
    assert_eq!(due(&spec, &facts(40 * DAY, 40 * DAY - 1), None).expect("judged"), None, "answered");
}

#[test]
fn nonsense_is_an_error_with_a_fix() {
    let fault = next_time("sometimes", at(0)).expect_err("nonsense");
    assert!(fault.code == Code::BAD_VALUE && fault.fix.is_some());
}

#[test]
fn a_drift_report_triggers_once() {
    let spec = spec(None, Some("drift"));
    let mut known = Facts { report: Some(report(4, 10 * HOUR, true)), ..facts(11 * HOUR, 0) };
    assert_eq!(figures(&known).0["drift"], Figure::Bool(true));
    let reason = due(&spec, &known, Some(&holds(true))).expect("judged").expect("due");
    assert_eq!(reason.text, "drift: psi(activity.spend_90d) = 0.41 > 0.2");
    assert!(reason.token.contains("monitors.churn@4"));
    let again = due(&spec, &Facts { now: at(12 * HOUR), ..known.clone() }, Some(&holds(true))).expect("judged").expect("due");
    assert_eq!(reason.token, again.token, "a crash before the answer doubles nothing");
    known.last_trained = Some(at(11 * HOUR));
    assert_eq!(figures(&known).0["drift"], Figure::Bool(false), "answered");
    assert_eq!(figures(&known).0["quality_drop"], Figure::Missing, "about the model before");
    known.report = Some(report(5, 30 * HOUR, true));
    assert_eq!(figures(&known).0["drift"], Figure::Bool(true), "a newer report is a new cause");
}

#[test]
fn without_a_report_drift_is_unknown() {
    assert_eq!(figures(&facts(1, 0)).0["drift"], Figure::Missing);
    let inconclusive = Report { drift: None, ..report(1, 10, false) };
    assert_eq!(figures(&Facts { report: Some(inconclusive), ..facts(20, 0) }).0["drift"], Figure::Missing);
}

#[test]
fn unknown_and_false_are_not_due() {
    let spec = spec(None, Some("drift or new_rows > 100"));
    for holds in [None, Some(false)] {
        let judged = Judged { holds, observed: String::new() };
        assert_eq!(due(&spec, &facts(DAY, 0), Some(&judged)).expect("judged"), None);
    }
    let reason = due(&spec, &facts(DAY, 0), Some(&holds(true))).expect("judged").expect("due");
    assert_eq!(reason.text, "when drift or new_rows > 100: new_rows = 7", "no report: it was not drift");
}

#[test]
fn one_at_a_time_with_a_rest_between() {
    let daily = spec(Some("1d"), None);
    let free = facts(2 * DAY, 0);
    assert!(due(&daily, &free, None).expect("judged").is_some());
    assert!(due(&daily, &Facts { running: true, ..free.clone() }, None).expect("judged").is_none());
    let try_at = |ago: u64, worked| Facts { last_attempt: Some(Attempt { at: at(2 * DAY - ago), worked }), ..free.clone() };
    assert!(due(&daily, &try_at(HOUR - 1, true), None).expect("judged").is_none());
    assert!(due(&daily, &try_at(HOUR, true), None).expect("judged").is_some());
    let eager = RetrainSpec { cooldown: Span::from_secs(0), ..daily };
    assert!(due(&eager, &try_at(59, false), None).expect("judged").is_none(), "a failed try rests at least a minute");
    assert!(due(&eager, &try_at(60, false), None).expect("judged").is_some());
}

#[test]
fn a_failed_try_is_a_new_cause() {
    let daily = spec(Some("1d"), None);
    let first = due(&daily, &facts(2 * DAY, 0), None).expect("judged").expect("due");
    let failed = Facts { last_attempt: Some(Attempt { at: at(DAY), worked: false }), ..facts(2 * DAY, 0) };
    let second = due(&daily, &failed, None).expect("judged").expect("due");
    assert_ne!(first.token, second.token);
}

#[test]
fn nothing_is_trained_for_the_first_time() {
    let never = Facts { last_trained: None, ..facts(100 * DAY, 0) };
    assert_eq!(due(&spec(Some("1d"), Some("drift")), &never, Some(&holds(true))).expect("judged"), None);
}

#[test]
fn figures_have_every_name() {
    let names: Vec<String> = figures(&facts(1, 0)).0.into_keys().collect();
    let mut wanted = NAMES.map(str::to_owned);
    wanted.sort();
    assert_eq!(names, wanted);
    assert_eq!(figures(&facts(7_200, 0)).get("age_hours"), Some(2.0));
}

#[test]
fn drift_is_recognised_as_a_word() {
    for yes in ["drift", "new_rows > 3 or DRIFT", "(drift)"] {
        assert!(mentions_drift(yes), "{yes}");
    }
    for no in ["new_rows > 3", "drifts", "x.drift", "plan = 'drift'"] {
        assert!(!mentions_drift(no), "{no}");
    }
}
