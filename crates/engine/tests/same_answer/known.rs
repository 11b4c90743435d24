//! As it was known then: every path leaves out what came later, to the bit of the oracle, whatever each asked row knows.

use super::cases::{REQUEST, REQUEST_LOOKUP};
use super::oracle::Knows;
use super::*;
use arrow::array::{Int64Array, TimestampMicrosecondArray};
use gristmill_kernel::port::Known;

/// How far the asked rows of a test know the history.
struct Knowledge {
    knows: Vec<Knows>,
    moments: TimestampMicrosecondArray,
    loads: BTreeMap<String, Int64Array>,
}

impl Knowledge {
    /// Known is what was available at the asked moment itself, or a while before or after it.
    fn by_moment(history: &History, rng: &mut StdRng) -> Knowledge {
        let moments: Vec<i64> = history.asked.iter().map(|(_, t)| t + [0, 0, -1, 3 * history::DAY][rng.random_range(0..4)]).collect();
        Knowledge {
            knows: moments.iter().map(|m| Knows::Until(*m)).collect(),
            moments: TimestampMicrosecondArray::from(moments).with_timezone("UTC"),
            loads: BTreeMap::new(),
        }
    }
    /// Known is what the loads up to any number brought, and no number is nothing.
    fn by_load(history: &History, rng: &mut StdRng) -> Knowledge {
        let last: Vec<i64> = history.asked.iter().map(|_| rng.random_range(0..7)).collect();
        let column: Int64Array = last.iter().map(|l| (*l > 0 || rng.random_bool(0.5)).then_some(*l)).collect();
        Knowledge {
            knows: last.iter().map(|l| Knows::Loads(*l)).collect(),
            moments: TimestampMicrosecondArray::from(Vec::<i64>::new()),
            loads: ["events", "refunds", "customers"].map(|table| (table.to_string(), column.clone())).into(),
        }
    }
    fn known(&self) -> Known<'_> {
        if self.loads.is_empty() { Known::Available(&self.moments) } else { Known::Loads(&self.loads) }
    }
}

/// The asked rows whose answers differ from those of an oracle that knows what they know.
fn differences_known(case: &Case, history: &History, ties: Ties, knows: &[Knows], answer: &RecordBatch) -> Vec<String> {
    let mut oracle = Oracle::new(history, ties);
    let mut wrong = Vec::new();
    for (at, (row, knows)) in history.asked.iter().zip(knows).enumerate() {
        oracle.knows = *knows;
        wrong.extend(differences(case, &oracle, std::slice::from_ref(row), &answer.slice(at, 1)));
    }
    wrong
}

async fn judge(case: &Case, plan: &dyn AsOfPlan, ties: Ties, history: &History, rng: &mut StdRng) -> usize {
    let mut changed = 0;
    for by in [Knowledge::by_moment, Knowledge::by_load] {
        let knowledge = by(history, rng);
        let tables = ANYHOW.catalog(history, rng);
        let answer = plan.evaluate_known(&asked(&history.asked), &tables, knowledge.known()).await.unwrap();
        let wrong = differences_known(case, history, ties, &knowledge.knows, &answer);
        assert_eq!(wrong, Vec::<String>::new());
        changed += differences(case, &Oracle::new(history, ties), &history.asked, &answer).len();
    }
    changed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_later_is_not_seen() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(31_415);
    for case in CASES {
        let mut changed = 0;
        for number in 0..8 {
            let ties = ties_of(number);
            let plan = compile(&bench.engine, case, ties).await;
            let history = history::random(&mut rng, 40);
            changed += judge(case, plan.as_ref(), ties, &history, &mut rng).await;
        }
        assert!(changed > 0, "{}: late rows must change answers, or nothing is tested", case.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_later_is_not_seen_word_for_word_and_on_request() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(27_182);
    for case in [&LITERAL, &REQUEST, &REQUEST_LOOKUP] {
        for ties in [Ties::Exclude, Ties::Include] {
            let plan = compile(&bench.engine, case, ties).await;
            let mut history = history::random(&mut rng, 12);
            history.asked.truncate(10);
            judge(case, plan.as_ref(), ties, &history, &mut rng).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_rows_are_known_as_those_at_hand() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(16_180);
    let history = history::random(&mut rng, 40);
    let tables = stored(&bench, &history, &mut rng).await;
    for case in CASES {
        let plan = compile(&bench.engine, case, Ties::Exclude).await;
        for by in [Knowledge::by_moment, Knowledge::by_load] {
            let knowledge = by(&history, &mut rng);
            let answer = plan.evaluate_known(&asked(&history.asked), &tables, knowledge.known()).await.unwrap();
            let wrong = differences_known(case, &history, Ties::Exclude, &knowledge.knows, &answer);
            assert_eq!(wrong, Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knowledge_of_another_length_or_of_no_table_is_refused() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(8);
    let history = history::random(&mut rng, 5);
    let plan = compile(&bench.engine, &CASES[0], Ties::Exclude).await;
    let tables = ANYHOW.catalog(&history, &mut rng);
    let short = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
    assert!(plan.evaluate_known(&asked(&history.asked), &tables, Known::Available(&short)).await.is_err());
    assert!(plan.evaluate_known(&asked(&history.asked), &tables, Known::Loads(&BTreeMap::new())).await.is_err());
}
