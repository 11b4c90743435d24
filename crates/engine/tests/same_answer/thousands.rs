//! Ten thousand histories, each asked in every way.

use super::arrival::{Arrival, Batches, ORDERS};
use super::cases::{CASES, Case, REQUEST, REQUEST_LOOKUP, REQUEST_SHARES, SLIDES};
use super::history::{self, History};
use super::oracle::Oracle;
use super::{asked, compile, differences, ties_of};
use crate::support::*;
use gristmill_kernel::port::AsOfPlan;
use gristmill_kernel::view::Ties;
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Histories that are asked together.
const TOGETHER: usize = 250;
/// Batches of them in one test; there are two tests, one per core.
const BATCHES: usize = 20;
/// Questions per batch and view that are asked alone, as a prediction asks.
const ALONE: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_histories_have_one_answer() {
    let asked = histories(20_110_901).await;
    assert!(asked >= 5_000, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_more_histories_have_one_answer() {
    let asked = histories(20_110_902).await;
    assert!(asked >= 5_000, "{asked}");
}

/// Returns how many histories were asked.
async fn histories(seed: u64) -> usize {
    let bench = bench();
    let mut views = Vec::new();
    for case in CASES.iter().chain([&REQUEST, &REQUEST_SHARES, &REQUEST_LOOKUP]) {
        let plans = [compile(&bench.engine, case, Ties::Exclude).await, compile(&bench.engine, case, Ties::Include).await];
        views.push((case, plans));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..BATCHES {
        let history = history::random(&mut rng, TOGETHER);
        let ties = ties_of(number);
        let oracle = Oracle::new(&history, ties);
        for (place, (case, plans)) in views.iter().enumerate() {
            let asking = Asking { case, plan: &plans[usize::from(ties == Ties::Include)], history: &history, oracle: &oracle };
            asking.ask(number, place, &mut rng).await;
        }
    }
    BATCHES * TOGETHER
}

/// One view over one batch of histories.
struct Asking<'a> {
    case: &'a Case,
    plan: &'a Arc<dyn AsOfPlan>,
    history: &'a History,
    oracle: &'a Oracle<'a>,
}

impl Asking<'_> {
    async fn ask(&self, number: usize, place: usize, rng: &mut StdRng) {
        // Planning a join takes longer than answering it, so joined views see one order per batch, and all of them over the batches.
        let arrivals: Vec<Arrival> = match self.case.how {
            SLIDES => ORDERS.into_iter().map(|order| Arrival { order, batches: Arrival::of(number + 3 * place).batches }).collect(),
            _ => vec![Arrival::of(number + place)],
        };
        for arrival in arrivals {
            self.check(&self.history.asked, arrival, How::Offline, rng).await;
        }
        // Every entity once, as the batch read of a server does.
        let arrival = Arrival::of(number + place + 1);
        let mut by_entity: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        self.history.asked.iter().for_each(|(customer, moment)| by_entity.entry(customer).or_default().push(*moment));
        let once: Vec<(String, i64)> = by_entity.into_iter().map(|(c, moments)| (c.to_string(), *moments.choose(rng).unwrap())).collect();
        self.check(&once, arrival, How::Online, rng).await;
        for _ in 0..ALONE {
            let one = once.choose(rng).unwrap().clone();
            self.check(&[one], Arrival { batches: Batches::One, ..arrival }, How::Online, rng).await;
        }
    }

    async fn check(&self, questions: &[(String, i64)], arrival: Arrival, how: How, rng: &mut StdRng) {
        let tables = match how {
            How::Offline => arrival.catalog(self.history, rng),
            How::Online => arrival.kept(self.plan.as_ref(), self.history, questions, rng),
        };
        let answer = self.plan.evaluate(&asked(questions), &tables).await.unwrap();
        assert_eq!(differences(self.case, self.oracle, questions, &answer), Vec::<String>::new(), "{how:?}, {arrival:?}");
    }
}

#[derive(Debug, Clone, Copy)]
enum How {
    Offline,
    Online,
}
