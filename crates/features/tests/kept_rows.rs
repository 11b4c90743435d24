//! Online = offline, to the bit, through a real online store, whatever the order and the number of deliveries.
//!
//! Sources arrive load by load in the tables; the stage brings the kept rows up to date, some loads are applied again as after a crash, and the
//! request plane's answers are held against the same views over the stored tables. The oracle of the views themselves is the engine's test;
//! here the question is whether what is kept is what a view needs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic; clippy knows only the test functions themselves")]

mod world;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use gristmill_kernel::Timestamp;
use gristmill_kernel::view::Ties;
use rand::prelude::*;
use rand::rngs::StdRng;
use std::cmp::Reverse;
use std::sync::Arc;
use world::{BASE, DAY, World, view};

const ENTITIES: usize = 120;
const LOADS: usize = 6;

/// The order in which rows arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    InTime,
    Backwards,
    Shuffled,
}

#[derive(Debug, Clone)]
struct Event {
    customer: Option<String>,
    time: Option<i64>,
    amount: Option<f64>,
    quantity: Option<i64>,
    kind: Option<&'static str>,
    order: i64,
}

#[derive(Debug, Clone)]
struct Refund {
    order: i64,
    buyer: String,
    time: i64,
    back: f64,
}

#[derive(Debug, Clone)]
struct History {
    events: Vec<Event>,
    refunds: Vec<Refund>,
}

impl History {
    fn random(rng: &mut StdRng) -> History {
        let mut history = History { events: Vec::new(), refunds: Vec::new() };
        for entity in 0..ENTITIES {
            for _ in 0..rng.random_range(0..20) {
                let order = history.events.len() as i64;
                // A coarse grid: ties with each other, with moments and with the edges of windows are common.
                let time = BASE + rng.random_range(0..60) * DAY / 2 + if rng.random_bool(0.1) { rng.random_range(-1..=1) } else { 0 };
                let event = Event {
                    customer: rng.random_bool(0.98).then(|| format!("c{entity}")),
                    time: rng.random_bool(0.97).then_some(time),
                    amount: rng.random_bool(0.85).then(|| [0.0, -0.0, 0.1, 1e9, rng.random_range(-9.0..99.0)][rng.random_range(0..5)]),
                    quantity: rng.random_bool(0.85).then(|| rng.random_range(-5..50)),
                    kind: rng.random_bool(0.85).then(|| ["a", "b", "c"][rng.random_range(0..3)]),
                    order,
                };
                if rng.random_bool(0.3) {
                    let later = rng.random_range(0..6) * DAY / 2;
                    history.refunds.push(Refund {
                        order,
                        buyer: format!("c{entity}"),
                        time: time + later,
                        back: rng.random_range(0.0..9.0),
                    });
                }
                // Two equal rows count twice.
                if rng.random_bool(0.1) {
                    history.events.push(event.clone());
                }
                history.events.push(event);
            }
        }
        history
    }

    fn arranged(&self, order: Order, rng: &mut StdRng) -> History {
        let History { mut events, mut refunds } = self.clone();
        match order {
            Order::InTime => {
                events.sort_by_key(|e| e.time);
                refunds.sort_by_key(|r| r.time);
            }
            Order::Backwards => {
                events.sort_by_key(|e| Reverse(e.time));
                refunds.sort_by_key(|r| Reverse(r.time));
            }
            Order::Shuffled => {
                events.shuffle(rng);
                refunds.shuffle(rng);
            }
        }
        History { events, refunds }
    }

    /// Moments at a row, at the edge of a window behind it, and beside both.
    fn moments(&self, rng: &mut StdRng) -> Vec<Timestamp> {
        // Ten days behind the first one lie the newest rows of many.
        let mut moments = vec![Timestamp::from_micros(BASE + 39 * DAY)];
        for days in [0, 10] {
            let time = self.events.iter().filter_map(|e| e.time).choose(rng).unwrap();
            moments.push(Timestamp::from_micros(time + days * DAY + rng.random_range(-1..=1)));
        }
        moments
    }
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn events(rows: &[Event]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("customer_id", Arc::new(rows.iter().map(|e| e.customer.as_deref()).collect::<StringArray>()) as ArrayRef, true),
        ("event_time", times(rows.iter().map(|e| e.time)), true),
        ("amount", Arc::new(rows.iter().map(|e| e.amount).collect::<Float64Array>()), true),
        ("quantity", Arc::new(rows.iter().map(|e| e.quantity).collect::<Int64Array>()), true),
        ("kind", Arc::new(rows.iter().map(|e| e.kind).collect::<StringArray>()), true),
        ("order_id", Arc::new(rows.iter().map(|e| Some(e.order)).collect::<Int64Array>()), true),
    ])
    .unwrap()
}

fn refunds(rows: &[Refund]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("order_id", Arc::new(rows.iter().map(|r| Some(r.order)).collect::<Int64Array>()) as ArrayRef, true),
        ("buyer", Arc::new(rows.iter().map(|r| Some(r.buyer.as_str())).collect::<StringArray>()), true),
        ("refunded_at", times(rows.iter().map(|r| Some(r.time))), true),
        ("back", Arc::new(rows.iter().map(|r| Some(r.back)).collect::<Float64Array>()), true),
    ])
    .unwrap()
}

fn plans(rng: &mut StdRng) -> RecordBatch {
    let names: Vec<String> = (0..ENTITIES).filter(|_| rng.random_bool(0.8)).map(|i| format!("c{i}")).collect();
    let fees: Float64Array = names.iter().map(|_| Some(rng.random_range(0.0..50.0))).collect();
    let customers: StringArray = names.iter().map(|n| Some(n.as_str())).collect();
    RecordBatch::try_from_iter_with_nullable([("customer_id", Arc::new(customers) as ArrayRef, true), ("fee", Arc::new(fees), true)])
        .unwrap()
}

/// Features that do not depend on which of two rows of one moment arrived first.
const SETTLED: &str = "select customer_id, count(*) as orders, count(distinct kind) as kinds, sum(amount) as spend, avg(amount) as mean,
    min(amount) as least, max(amount) as most, stddev(quantity) as spread, median(amount) as middle,
    percentile_cont(0.9) within group (order by amount) as high, approx_distinct(amount) as amounts, bool_or(amount > 5) as any_large,
    sum(quantity) filter (where event_time >= as_of() - interval '7 days') as week
  from events where event_time > as_of() - interval '10 days' group by customer_id";
/// Features that do: of two rows of one moment, the later load brought the newer one.
const ARRIVED: &str = "select customer_id, last_value(amount) as last_amount, first_value(kind) as first_kind,
    last_value(kind order by quantity) as biggest, last_value(amount) ignore nulls as last_known,
    cast(as_of() as bigint) - cast(max(event_time) as bigint) as since
  from events group by customer_id";
const LATEST: &str = "select customer_id, amount, kind, quantity from events where quantity <> 0 or quantity is null";
/// Only the newest row counts, whatever is in it: nothing else is read.
const NEWEST: &str = "select customer_id, amount, kind, quantity, order_id from events";
const NEWEST_RECENT: &str = "select customer_id, amount * 2 as twice, kind, cast(as_of() as bigint) - cast(event_time as bigint) as age
  from events where event_time > as_of() - interval '10 days'";
const NEWEST_SINCE: &str = "select customer_id, quantity, kind from events where event_time >= as_of() - interval '10 days'";
/// The newest row before another moment is another row.
const EARLIER: &str = "select customer_id, amount, kind from events where event_time < as_of() - interval '2 days'";
const RETURNS: &str =
    "select e.customer_id, count(*) as rows, sum(r.back) as back, median(r.back) as middle, string_agg(e.kind, ',') as kinds
  from events e left join refunds r on r.order_id = e.order_id and r.buyer = e.customer_id
  where e.event_time > as_of() - interval '10 days' group by e.customer_id";
const PROFILE: &str = "select customer_id, fee from customers";

fn world() -> World {
    World::new(vec![
        view("settled", SETTLED, Ties::Exclude),
        view("settled_with_ties", SETTLED, Ties::Include),
        view("arrived", ARRIVED, Ties::Exclude),
        view("latest", LATEST, Ties::Include),
        view("newest", NEWEST, Ties::Exclude),
        view("newest_with_ties", NEWEST, Ties::Include),
        view("newest_recent", NEWEST_RECENT, Ties::Exclude),
        view("newest_since", NEWEST_SINCE, Ties::Include),
        view("earlier", EARLIER, Ties::Exclude),
        view("returns", RETURNS, Ties::Exclude),
        view("profile", PROFILE, Ties::Exclude),
    ])
}

/// The part of the rows that comes with a load.
fn share<R>(rows: &[R], load: usize) -> &[R] {
    &rows[rows.len() * load / LOADS..rows.len() * (load + 1) / LOADS]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_gives_the_same_bits_in_any_order_of_arrival() {
    let mut rng = StdRng::seed_from_u64(1_970);
    let history = History::random(&mut rng);
    let asked: Vec<String> = (0..=ENTITIES).map(|i| format!("c{i}")).collect();
    let moments = history.moments(&mut rng);
    let mut settled = Vec::new();
    for order in [Order::InTime, Order::Backwards, Order::Shuffled] {
        let (mut world, rows) = (world(), history.arranged(order, &mut rng));
        for load in 0..LOADS {
            let loaded_at = Timestamp::from_micros(BASE + load as i64 * 7 * DAY);
            world.load("events", vec![events(share(&rows.events, load))], loaded_at).await;
            // In one batch or many.
            let now = share(&rows.refunds, load);
            world.load("refunds", now.chunks(now.len() / 3 + 1).map(refunds).collect(), loaded_at).await;
            world.load("customers", vec![plans(&mut rng)], loaded_at).await;
            // Some loads wait for the next one.
            if load % 3 == 1 {
                continue;
            }
            world.bring_up_to_date().await;
            if load > 0 {
                let behind = rng.random_range(0..=load as i64);
                assert!(world.apply_again(behind).await > 0, "{order:?}: loads behind {behind} are applied again");
            }
            for moment in &moments {
                let differ = world.differences(&asked, *moment).await;
                assert_eq!(differ, Vec::<String>::new(), "{order:?}, after load {load}, at {moment}");
            }
        }
        let mut answers = Vec::new();
        for moment in &moments {
            answers.push(world.online("settled", &asked, *moment).await);
        }
        settled.push(answers);
    }
    assert!(settled.iter().all(|answers| *answers == settled[0]), "what depends on no order of arrival has the same bits in all of them");
}

/// The comparison sees what a store may do wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_wrong_is_seen() {
    let mut rng = StdRng::seed_from_u64(1_971);
    let history = History::random(&mut rng);
    let asked: Vec<String> = (0..ENTITIES).map(|i| format!("c{i}")).collect();
    let (mut world, loaded_at) = (world(), Timestamp::from_micros(BASE));
    world.load("events", vec![events(&history.events)], loaded_at).await;
    world.load("refunds", vec![refunds(&history.refunds)], loaded_at).await;
    world.load("customers", vec![plans(&mut rng)], loaded_at).await;
    world.bring_up_to_date().await;
    let moment = Timestamp::from_micros(BASE + 12 * DAY);
    assert_eq!(world.differences(&asked, moment).await, Vec::<String>::new());
    assert_eq!(world.of_newest_rows().await, ["newest", "newest_with_ties", "newest_recent", "newest_since"]);
    assert_eq!(world.of_newest_columns().await, ["newest", "newest_with_ties", "newest_since"], "an age depends on the moment");
    for (what, change) in world::WRONG {
        let before = world.tamper("settled", change).await;
        let differ = world.differences(&asked, moment).await;
        assert!(differ.iter().any(|d| d.starts_with("settled")), "{what} was not seen: {differ:?}");
        world.mend("settled", before).await;
        assert_eq!(world.differences(&asked, moment).await, Vec::<String>::new(), "{what}, mended");
    }
}
