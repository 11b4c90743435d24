//! What every `Journal` promises.

use bytes::Bytes;
use gristmill_kernel::port::{Journal, JournalState};
use gristmill_kernel::{Code, Name, Timestamp};

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}
fn rows(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// Runs every case.
pub async fn run<J: Journal, F: Future<Output = J>>(make: impl Fn() -> F) {
    offsets_have_no_gaps(&make().await).await;
    a_known_key_appends_nothing(&make().await).await;
    what_is_forgotten_is_gone(&make().await).await;
    many_appenders_lose_and_double_nothing(&make().await).await;
}

async fn offsets_have_no_gaps(journal: &dyn Journal) {
    let (a, ab, now) = (name("a"), name("ab"), Timestamp::from_micros(7));
    assert_eq!(journal.state(&a).await.expect("state"), JournalState::default());
    assert!(journal.sources().await.expect("sources").is_empty());
    assert_eq!(journal.append(&a, now, rows(&["1", "2"]), None).await.expect("append"), (2, true));
    assert_eq!(journal.append(&ab, now, rows(&["x"]), None).await.expect("append"), (1, true));
    assert_eq!(journal.append(&a, now, rows(&["3"]), None).await.expect("append"), (3, true));
    assert_eq!(journal.append(&a, now, vec![], None).await.expect("nothing"), (3, true));
    let entries = journal.read(&a, 0, 10).await.expect("read");
    assert_eq!(entries.iter().map(|e| e.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries.iter().map(|e| e.row.clone()).collect::<Vec<_>>(), rows(&["1", "2", "3"]));
    assert!(entries.iter().all(|e| e.at == now));
    assert_eq!(journal.read(&a, 1, 1).await.expect("read")[0].offset, 2);
    assert!(journal.read(&a, 3, 10).await.expect("read").is_empty());
    assert_eq!(journal.sources().await.expect("sources"), [a, ab]);
}

async fn a_known_key_appends_nothing(journal: &dyn Journal) {
    let (a, b) = (name("a"), name("b"));
    let hour = 3_600_000_000;
    let now = Timestamp::from_micros(1_000 * hour);
    assert_eq!(journal.append(&a, now, rows(&["1", "2"]), Some("k")).await.expect("append"), (2, true));
    assert_eq!(journal.append(&a, now, rows(&["3"]), None).await.expect("append"), (3, true));
    let tomorrow = Timestamp::from_micros(1_024 * hour);
    assert_eq!(journal.append(&a, tomorrow, rows(&["1", "2"]), Some("k")).await.expect("again"), (2, false));
    assert_eq!(journal.append(&b, now, rows(&["1"]), Some("k")).await.expect("another source"), (1, true));
    assert_eq!(journal.state(&a).await.expect("state").last, 3);
    let twice =
        futures::future::join(journal.append(&a, now, rows(&["4"]), Some("both")), journal.append(&a, now, rows(&["4"]), Some("both")));
    let (one, two) = twice.await;
    let (one, two) = (one.expect("one"), two.expect("two"));
    assert!(one.0 == 4 && two.0 == 4 && one.1 != two.1, "{one:?} {two:?}");
    let long = "k".repeat(gristmill_kernel::limits::IDEMPOTENCY_KEY_CHARS_MAX + 1);
    assert_eq!(journal.append(&a, now, rows(&["5"]), Some(&long)).await.expect_err("too long").code, Code::BAD_VALUE);
}

async fn what_is_forgotten_is_gone(journal: &dyn Journal) {
    let (a, now) = (name("a"), Timestamp::from_micros(7));
    journal.append(&a, now, rows(&["1", "2", "3"]), None).await.expect("append");
    journal.forget(&a, 2).await.expect("forget");
    journal.forget(&a, 1).await.expect("backwards does nothing");
    assert_eq!(journal.state(&a).await.expect("state"), JournalState { last: 3, forgotten: 2 });
    let entries = journal.read(&a, 0, 10).await.expect("read");
    assert_eq!(entries.iter().map(|e| e.offset).collect::<Vec<_>>(), [3]);
    journal.forget(&a, 99).await.expect("beyond the end");
    assert_eq!(journal.state(&a).await.expect("state"), JournalState { last: 3, forgotten: 3 });
    assert!(journal.sources().await.expect("sources").is_empty(), "nothing waits");
    assert_eq!(journal.append(&a, now, rows(&["4"]), None).await.expect("append"), (4, true));
}

async fn many_appenders_lose_and_double_nothing(journal: &dyn Journal) {
    let (a, now) = (name("a"), Timestamp::from_micros(7));
    let append = |i: u32| journal.append(&a, now, vec![Bytes::from(format!("{i}/0")), Bytes::from(format!("{i}/1"))], None);
    let answers = futures::future::join_all((0..64).map(append)).await;
    let entries = journal.read(&a, 0, 1_000).await.expect("read");
    assert_eq!(entries.len(), 128);
    for (i, answer) in answers.into_iter().enumerate() {
        let (last, new) = answer.expect("append");
        assert!(new);
        let at = last as usize - 1;
        assert_eq!((&entries[at - 1].row[..], &entries[at].row[..]), (format!("{i}/0").as_bytes(), format!("{i}/1").as_bytes()));
    }
}
