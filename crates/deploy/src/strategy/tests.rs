use super::*;
use gristmill_kernel::{Name, VersionRef};
use proptest::prelude::*;

const MINUTE: u64 = 60;

pub(super) fn model(number: u64) -> VersionRef {
    VersionRef { asset: "models.churn".parse().expect("address"), number }
}
pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000).plus(Span::from_secs(seconds))
}
fn judging(approve: bool) -> Judging {
    Judging { abort: Some("error_rate > 0.01".into()), at_least: 100, patience: Span::from_secs(60 * MINUTE), approve }
}
fn free() -> Leave {
    Leave::default()
}
fn rollout(steps: &[u32]) -> Rollout {
    Rollout::Canary { steps: steps.to_vec(), every: Span::from_secs(30 * MINUTE), judging: judging(false) }
}
pub(super) fn deployment(permille: u32, step: u32) -> Deployment {
    Deployment {
        format: 1,
        endpoint: Name::new("churn").expect("name"),
        stable: model(1),
        canary: Some(Canary { model: model(2), permille, mirrored: 0, step, began_at: at(0), since: at(0) }),
        serve: serde_json::Value::Null,
    }
}
fn evidence(rows: u64, abort: Option<bool>) -> Evidence {
    Evidence { rows, abort, observed: "error_rate = 0.5".into(), experiment: None }
}
#[test]
fn a_rollout_walks_its_steps() {
    let spec = rollout(&[50, 250, 1000]);
    let good = evidence(100, Some(false));
    assert!(matches!(decide(&spec, &deployment(50, 0), &good, &free(), at(29 * MINUTE)), Step::Hold(_)));
    assert_eq!(decide(&spec, &deployment(50, 0), &good, &free(), at(30 * MINUTE)), Step::Advance { traffic: Traffic::Share(250), step: 1 });
    assert_eq!(
        decide(&spec, &deployment(250, 1), &good, &free(), at(30 * MINUTE)),
        Step::Advance { traffic: Traffic::Share(1000), step: 2 }
    );
    assert!(
        matches!(decide(&spec, &deployment(1000, 2), &good, &free(), at(29 * MINUTE)), Step::Hold(_)),
        "the last step has its time too"
    );
    assert!(
        matches!(decide(&spec, &deployment(1000, 2), &evidence(99, Some(false)), &free(), at(30 * MINUTE)), Step::Hold(_)),
        "and its rows"
    );
    assert_eq!(decide(&spec, &deployment(1000, 2), &good, &free(), at(30 * MINUTE)), Step::Complete);
}

#[test]
fn nothing_to_judge_holds_then_pauses() {
    let spec = rollout(&[50, 1000]);
    for nothing in [evidence(0, Some(false)), evidence(99, Some(false)), evidence(1_000, None)] {
        assert!(matches!(decide(&spec, &deployment(50, 0), &nothing, &free(), at(59 * MINUTE)), Step::Hold(_)));
        assert!(matches!(decide(&spec, &deployment(50, 0), &nothing, &free(), at(60 * MINUTE)), Step::Pause(_)));
        assert!(matches!(decide(&spec, &deployment(1000, 1), &nothing, &free(), at(60 * 24 * MINUTE)), Step::Pause(_)));
    }
}

#[test]
fn at_least_zero_still_wants_one_row() {
    let nothing = Judging { abort: None, at_least: 0, patience: Span::from_secs(0), approve: false };
    let spec = Rollout::Canary { steps: vec![1000], every: Span::from_secs(0), judging: nothing };
    assert!(matches!(decide(&spec, &deployment(1000, 0), &evidence(0, Some(false)), &free(), at(1)), Step::Pause(_)));
    assert_eq!(decide(&spec, &deployment(1000, 0), &evidence(1, Some(false)), &free(), at(1)), Step::Complete);
}

#[test]
fn a_clock_that_goes_back_only_waits() {
    let mut there = deployment(50, 0);
    if let Some(canary) = &mut there.canary {
        canary.since = at(10_000);
    }
    assert!(matches!(decide(&rollout(&[50, 1000]), &there, &evidence(100, Some(false)), &free(), at(0)), Step::Hold(_)));
}

#[test]
fn direct_completes_what_is_under_way() {
    assert_eq!(decide(&Rollout::Direct, &deployment(50, 0), &evidence(0, None), &free(), at(0)), Step::Complete);
}

proptest! {
    #[test]
    fn laws_of_a_step(
        mut steps in proptest::collection::btree_set(1u32..1000, 0..5).prop_map(|s| s.into_iter().collect::<Vec<_>>()),
        permille in 1u32..=1000, rows in 0u64..300, minutes in 0u64..200, abort in proptest::option::of(any::<bool>()),
    ) {
        steps.push(1000);
        let step = decide(&rollout(&steps), &deployment(permille, 0), &evidence(rows, abort), &free(), at(minutes * MINUTE));
        // An abort always wins, and only an abort aborts.
        prop_assert_eq!(matches!(step, Step::Abort(_)), abort == Some(true));
        let progress = matches!(step, Step::Advance { .. } | Step::Complete);
        // No data, no time, no verdict: no progress. With all three there is always progress.
        prop_assert_eq!(progress, rows >= 100 && minutes >= 30 && abort == Some(false));
        if let Step::Advance { traffic, step: number } = step {
            let next = traffic.permilles().0;
            prop_assert!(next > permille, "shares rise");
            prop_assert_eq!(steps.get(number as usize), Some(&next));
            prop_assert!(!steps.iter().any(|s| *s > permille && *s < next), "no step is skipped");
        }
        prop_assert_eq!(step == Step::Complete, progress && permille == 1000);
    }

    #[test]
    fn a_whole_rollout_takes_every_step_once(
        inner in proptest::collection::btree_set(1u32..1000, 0..5),
        answers in proptest::collection::vec((0u64..200, proptest::option::weighted(0.9, Just(false))), 400),
    ) {
        let steps: Vec<u32> = inner.into_iter().chain([1000]).collect();
        let spec = rollout(&steps);
        let mut there = deployment(first(&spec).permilles().0, 0);
        let (mut seen, mut done) = (vec![first(&spec).permilles().0], false);
        for (tick, (rows, abort)) in answers.iter().enumerate() {
            let now = at(tick as u64 * 10 * MINUTE);
            let since = there.canary.as_ref().expect("a canary").since;
            match decide(&spec, &there.clone(), &evidence(*rows, *abort), &free(), now) {
                Step::Advance { traffic, step } => {
                    let permille = traffic.permilles().0;
                    prop_assert!(*rows >= 100 && abort.is_some());
                    let canary = there.canary.as_mut().expect("a canary");
                    prop_assert!(now.since(since) >= Span::from_secs(30 * MINUTE));
                    (canary.permille, canary.step, canary.since) = (permille, step, now);
                    seen.push(permille);
                }
                Step::Complete => {
                    prop_assert!(now.since(since) >= Span::from_secs(30 * MINUTE));
                    done = true;
                    break;
                }
                Step::Abort(_) => prop_assert!(false, "nobody asked for it"),
                Step::Hold(_) | Step::Pause(_) => {}
            }
        }
        prop_assert!(!done || seen == steps, "{seen:?} instead of {steps:?}");
    }
}

/// Every strategy, with and without approval.
fn strategies() -> Vec<Rollout> {
    let span = Span::from_secs(30 * MINUTE);
    let mut all = vec![Rollout::Direct, Rollout::Manual];
    for approve in [false, true] {
        let judging = || judging(approve);
        all.push(Rollout::Canary { steps: vec![50, 250, 1000], every: span, judging: judging() });
        all.push(Rollout::Shadow { sample: 200, lasts: span, judging: judging() });
        all.push(Rollout::BlueGreen { sample: 200, preview: span, bake: span, judging: judging() });
    }
    all
}

/// A version that has just begun.
fn begun(rollout: &Rollout) -> Deployment {
    let mut there = deployment(0, 0);
    if let Some(canary) = &mut there.canary {
        (canary.permille, canary.mirrored) = first(rollout).permilles();
    }
    there
}

/// What a rollout shows of itself with good figures and all the time it wants, until it is complete.
fn walk(rollout: &Rollout, leave: &Leave) -> Result<Vec<Traffic>, Step> {
    let mut there = begun(rollout);
    let mut seen = vec![first(rollout)];
    loop {
        match decide(rollout, &there, &evidence(100, Some(false)), leave, at(60 * MINUTE)) {
            Step::Complete => return Ok(seen),
            Step::Advance { traffic, step } => {
                let canary = there.canary.as_mut().expect("a canary");
                (canary.permille, canary.mirrored) = traffic.permilles();
                canary.step = step;
                seen.push(traffic);
            }
            other => return Err(other),
        }
    }
}

#[test]
fn each_strategy_shows_what_it_says() {
    use Traffic::{Copies, None, Share};
    let walks: Vec<Vec<Traffic>> = strategies().iter().map(|rollout| walk(rollout, &free()).expect("completes")).collect();
    let canary = vec![Share(50), Share(250), Share(1000)];
    let blue_green = vec![Copies(200), Share(1000)];
    let asked = [vec![None], canary.clone()].concat();
    let expected = [vec![Share(1000)], vec![None], canary, vec![Copies(200)], blue_green.clone(), asked, vec![Copies(200)], blue_green];
    assert_eq!(walks, expected);
}

#[test]
fn nobody_gets_an_answer_before_somebody_approves() {
    let leave = Leave { unapproved: Some("waits".into()), frozen: None };
    for rollout in strategies() {
        match walk(&rollout, &leave) {
            Ok(_) => assert!(!rollout.asks(), "{rollout:?} went on without approval"),
            Err(step) => assert!(rollout.asks() && step == Step::Hold("waits".into()), "{rollout:?} {step:?}"),
        }
    }
    // A canary that has become manual keeps its share until somebody decides.
    assert_eq!(decide(&Rollout::Manual, &deployment(50, 0), &evidence(0, None), &leave, at(0)), Step::Hold("waits".into()));
    assert_eq!(decide(&Rollout::Manual, &deployment(50, 0), &evidence(0, None), &free(), at(0)), Step::Complete);
}

#[test]
fn while_it_is_frozen_nothing_moves_but_back() {
    let leave = Leave { unapproved: None, frozen: Some("frozen".into()) };
    for rollout in strategies() {
        assert_eq!(walk(&rollout, &leave), Err(Step::Hold("frozen".into())), "{rollout:?}");
        let there = begun(&rollout);
        if rollout.judging().is_some() && Traffic::of(there.canary.as_ref().expect("a canary")) != Traffic::None {
            let bad = evidence(1, Some(true));
            assert!(matches!(decide(&rollout, &there, &bad, &leave, at(0)), Step::Abort(_)), "{rollout:?}");
        }
    }
}

#[test]
fn copies_without_data_prove_nothing() {
    for rollout in strategies().into_iter().filter(|rollout| matches!(first(rollout), Traffic::Copies(_))) {
        let there = begun(&rollout);
        for nothing in [evidence(99, Some(false)), evidence(1_000, None)] {
            let step = |minutes| decide(&rollout, &there, &nothing, &free(), at(minutes * MINUTE));
            assert!(matches!(step(59), Step::Hold(_)) && matches!(step(60), Step::Pause(_)), "{rollout:?}");
        }
        let early = decide(&rollout, &there, &evidence(100, Some(false)), &free(), at(29 * MINUTE));
        assert!(matches!(early, Step::Hold(_)), "the preview has its time: {early:?}");
    }
}

#[test]
fn an_edited_spec_never_takes_traffic_back() {
    let shadow = strategies().into_iter().find(|rollout| matches!(rollout, Rollout::Shadow { .. })).expect("a shadow");
    assert_eq!(decide(&shadow, &deployment(50, 0), &evidence(100, Some(false)), &free(), at(60 * MINUTE)), Step::Complete);
    let mut copies = deployment(0, 0);
    if let Some(canary) = &mut copies.canary {
        canary.mirrored = 70;
    }
    let next = decide(&rollout(&[50, 1000]), &copies, &evidence(100, Some(false)), &free(), at(60 * MINUTE));
    assert_eq!(next, Step::Advance { traffic: Traffic::Share(50), step: 0 });
}

#[test]
fn shares_read_well() {
    assert_eq!([percent(50), percent(5), percent(1000), percent(125)], ["5%", "0.5%", "100%", "12.5%"]);
}
