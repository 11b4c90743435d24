//! What every `Online` promises.

use bytes::Bytes;
use gristmill_kernel::port::{Online, OnlineRead, OnlineRow, SlotState, WholeRows};
use gristmill_kernel::{Span, Timestamp};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
fn row(key: &'static [u8], micros: i64, load: i64, row: i64) -> OnlineRow {
    OnlineRow { key: Bytes::from_static(key), at: at(micros), load, row, value: Bytes::from(format!("{micros}/{load}/{row}")) }
}
fn state(load: i64) -> SlotState {
    SlotState { layout: "v1".into(), generation: 3, load, ..SlotState::default() }
}
/// Rows are needed so many microseconds back.
fn needing(load: i64, micros: i64) -> SlotState {
    SlotState { window: Some(Span::from_micros(micros)), ..state(load) }
}

/// Runs every case.
pub async fn run<O: Online, F: Future<Output = O>>(make: impl Fn() -> F) {
    rows_come_in_order_within_their_edges(&make().await).await;
    keys_do_not_run_into_each_other(&make().await).await;
    writing_again_changes_nothing(&make().await).await;
    old_rows_expire(&make().await).await;
    a_cleared_slot_is_new(&make().await).await;
    rows_of_whole_loads_are_read(&make().await).await;
}

/// Rows of a load that is just being written are not read, the newest of a key neither.
async fn rows_of_whole_loads_are_read(online: &dyn Online) {
    let whole = |newest, from, before| {
        let keys = [Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"nobody")];
        async move {
            let read = OnlineRead { keys: &keys, from, before, newest };
            online.read_whole("s", read).await.expect("read").rows
        }
    };
    let (one, two) = ([row(b"a", 1, 1, 0), row(b"a", 5, 1, 1), row(b"b", 3, 1, 2)], [row(b"a", 5, 2, 0), row(b"a", 9, 2, 1)]);
    online.write("s", one.to_vec(), &state(0)).await.expect("write");
    assert_eq!(whole(false, None, None).await, vec![Vec::<OnlineRow>::new(); 3], "the load has not ended");
    online.write("s", vec![], &state(1)).await.expect("it has");
    online.write("s", two.to_vec(), &state(1)).await.expect("the next one begins");
    assert_eq!(whole(false, None, None).await, vec![vec![one[0].clone(), one[1].clone()], vec![one[2].clone()], vec![]]);
    assert_eq!(whole(true, None, None).await, vec![vec![one[1].clone()], vec![one[2].clone()], vec![]]);
    online.write("s", vec![], &state(2)).await.expect("it ends");
    assert_eq!(whole(true, None, None).await[0], [two[1].clone()]);
    assert_eq!(whole(true, None, Some(at(9))).await[0], [two[0].clone()], "of one moment the later load's row is the newer one");
    assert_eq!(whole(true, None, Some(at(5))).await[0], [one[0].clone()]);
    assert_eq!(whole(true, Some(at(2)), Some(at(5))).await, vec![vec![], vec![one[2].clone()], vec![]]);
    assert_eq!(whole(true, Some(at(9)), Some(at(5))).await, vec![Vec::<OnlineRow>::new(); 3], "edges the wrong way round");
    online.write("s", vec![row(b"a", 20, 3, 0)], &state(3)).await.expect("written");
    assert_eq!(whole(true, None, None).await[0], [row(b"a", 20, 3, 0)], "who reads after a write reads it");
    online.clear("s").await.expect("cleared");
    assert_eq!(whole(true, None, None).await, vec![Vec::<OnlineRow>::new(); 3]);
}

async fn rows_come_in_order_within_their_edges(online: &dyn Online) {
    assert_eq!(online.state("s").await.expect("state"), None);
    assert!(online.read("s", b"a", None, None).await.expect("read").is_empty());
    let rows = vec![row(b"a", 5, 2, 0), row(b"a", -7, 1, 1), row(b"a", 5, 1, 3), row(b"a", 9, 2, 1), row(b"b", 6, 2, 2)];
    online.write("s", rows, &state(2)).await.expect("write");
    assert_eq!(online.state("s").await.expect("state"), Some(state(2)));
    let all = online.read("s", b"a", None, None).await.expect("read");
    assert_eq!(all, vec![row(b"a", -7, 1, 1), row(b"a", 5, 1, 3), row(b"a", 5, 2, 0), row(b"a", 9, 2, 1)]);
    let some = online.read("s", b"a", Some(at(5)), Some(at(9))).await.expect("read");
    assert_eq!(some, vec![row(b"a", 5, 1, 3), row(b"a", 5, 2, 0)], "from is inside, before is outside");
    assert!(online.read("s", b"a", Some(at(9)), Some(at(5))).await.expect("read").is_empty(), "edges the wrong way round");
    let keys = [Bytes::from_static(b"b"), Bytes::from_static(b"nobody"), Bytes::from_static(b"b")];
    let wanted = OnlineRead { keys: &keys, from: None, before: None, newest: false };
    let many = online.read_whole("s", wanted).await.expect("read many");
    assert_eq!(many.rows, vec![vec![row(b"b", 6, 2, 2)], vec![], vec![row(b"b", 6, 2, 2)]]);
    assert_eq!(many.state, online.state("s").await.expect("state"));
    let none = online.read_whole("other", wanted).await.expect("read");
    assert_eq!(none, WholeRows { state: None, rows: vec![vec![]; 3] });
    assert!(online.read("other", b"a", None, None).await.expect("read").is_empty());
}

async fn keys_do_not_run_into_each_other(online: &dyn Online) {
    let keys: [&'static [u8]; 7] = [b"", b"\0", b"\0\0", b"\0\x01", b"a", b"a\0b", b"\xff\xff"];
    for (i, key) in keys.iter().enumerate() {
        online.write("s", vec![row(key, i as i64, 1, i as i64)], &state(1)).await.expect("write");
        online.write("t", vec![row(key, 100, 1, 0)], &state(1)).await.expect("write");
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(online.read("s", key, None, None).await.expect("read"), vec![row(key, i as i64, 1, i as i64)], "{key:?}");
    }
    let listed = online.keys("s", 100).await.expect("keys");
    assert_eq!(listed, keys.map(Bytes::from_static), "each key once, in order");
    assert_eq!(online.keys("s", 2).await.expect("keys").len(), 2);
}

async fn writing_again_changes_nothing(online: &dyn Online) {
    for load in [4, 4, 5] {
        online.write("s", vec![row(b"a", 1, 4, 0), row(b"a", 2, 4, 1)], &state(load)).await.expect("write");
    }
    assert_eq!(online.read("s", b"a", None, None).await.expect("read").len(), 2);
    online.write("s", vec![], &state(6)).await.expect("state alone");
    assert_eq!(online.state("s").await.expect("state"), Some(state(6)));
}

async fn old_rows_expire(online: &dyn Online) {
    let rows = || (0..1000).map(|i| row([b"a".as_slice(), b"b", b"c"][i % 3], i as i64, 1, i as i64)).collect();
    online.write("s", rows(), &needing(1, 50)).await.expect("write");
    online.write("t", vec![row(b"a", 0, 1, 0)], &needing(1, 50)).await.expect("write");
    assert_eq!(online.expire("s", at(50)).await.expect("expire"), 0, "a row at the very edge is needed");
    assert_eq!(online.state("s").await.expect("state"), Some(needing(1, 50)), "nothing was forgotten");
    assert_eq!(online.expire("s", at(650)).await.expect("expire"), 600);
    assert_eq!(online.expire("s", at(650)).await.expect("again"), 0);
    assert_eq!(online.state("s").await.expect("state").expect("one").kept_from, Some(at(600)), "the state says what may be gone");
    let mut left = 0;
    for key in [b"a".as_slice(), b"b", b"c"] {
        let rows = online.read("s", key, None, None).await.expect("read");
        assert!(rows.iter().all(|r| r.at >= at(600)));
        left += rows.len();
    }
    assert_eq!(left, 400);
    assert_eq!(online.read("t", b"a", None, None).await.expect("read").len(), 1, "another slot is untouched");
    assert_eq!(online.expire("unknown", at(1)).await.expect("no slot"), 0);
    // Somebody needs rows of longer ago: they are written again, and kept.
    online.write("s", vec![], &needing(0, 500)).await.expect("a wider window");
    online.write("s", rows(), &needing(1, 500)).await.expect("write");
    let now = online.state("s").await.expect("state").expect("one");
    assert_eq!((now.window, now.kept_from), (Some(Span::from_micros(500)), Some(at(600))), "a write does not change what was forgotten");
    assert_eq!(online.expire("s", at(650)).await.expect("expire"), 150);
    online.write("s", vec![], &needing(9, 50)).await.expect("one that knows of less");
    assert_eq!(online.state("s").await.expect("state").expect("one").load, 1, "cannot say that all is there");
    assert_eq!(online.expire("s", at(650)).await.expect("expire"), 0, "nor make the window smaller");
    assert_eq!(online.expire("s", at(10_000)).await.expect("expire all"), 850);
    assert!(online.keys("s", 10).await.expect("keys").is_empty());
    // A slot that needs everything keeps everything.
    online.write("all", vec![row(b"a", 0, 1, 0)], &state(1)).await.expect("write");
    assert_eq!(online.expire("all", at(i64::MAX)).await.expect("expire"), 0);
    online.clear("s").await.expect("clear");
    assert_eq!(online.state("s").await.expect("state"), None);
    online.write("s", rows(), &needing(1, 50)).await.expect("write");
    assert_eq!(online.state("s").await.expect("state"), Some(needing(1, 50)), "a new slot has forgotten nothing");
}

async fn a_cleared_slot_is_new(online: &dyn Online) {
    online.write("s", vec![row(b"a", 1, 1, 0)], &state(1)).await.expect("write");
    online.write("t", vec![row(b"a", 1, 1, 0)], &state(1)).await.expect("write");
    online.clear("s").await.expect("clear");
    online.clear("s").await.expect("twice");
    assert_eq!(online.state("s").await.expect("state"), None);
    assert!(online.read("s", b"a", None, None).await.expect("read").is_empty());
    assert!(online.keys("s", 10).await.expect("keys").is_empty());
    online.write("s", vec![row(b"a", 2, 1, 0)], &state(9)).await.expect("write");
    assert_eq!(online.read("s", b"a", None, None).await.expect("read"), vec![row(b"a", 2, 1, 0)]);
    assert_eq!(online.read("t", b"a", None, None).await.expect("read").len(), 1);
}
