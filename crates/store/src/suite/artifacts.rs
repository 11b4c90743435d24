//! What every `Artifacts` promises.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use gristmill_kernel::port::{ArtifactEntry, ArtifactInfo, ArtifactKey, Artifacts};
use gristmill_kernel::tracking::evil::{EVIL, HARMLESS};
use gristmill_kernel::{Code, Digest, Fault, Kind, Result, Timestamp, limits};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A key that must parse.
pub fn key(text: &str) -> ArtifactKey {
    ArtifactKey::new(text).expect("a key")
}

/// A text as a stream of pieces.
pub fn content(text: &str) -> BoxStream<'static, Result<Bytes>> {
    let pieces: Vec<Result<Bytes>> = text.as_bytes().chunks(3).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces).boxed()
}

async fn put(artifacts: &dyn Artifacts, at_key: &str, text: &str) -> ArtifactInfo {
    artifacts.put_artifact(&key(at_key), content(text), at(1)).await.expect("put")
}

async fn read(artifacts: &dyn Artifacts, digest: &Digest, range: Range<u64>) -> Vec<u8> {
    let pieces: Vec<Bytes> = artifacts.read_artifact(digest, range).await.expect("read").try_collect().await.expect("content");
    assert!(pieces.iter().all(|piece| piece.len() <= limits::ARTIFACT_CHUNK_BYTES), "no piece is larger than its limit");
    pieces.concat()
}

fn file(name: &str, bytes: u64) -> ArtifactEntry {
    ArtifactEntry::File(name.to_owned(), bytes)
}
fn folder(name: &str) -> ArtifactEntry {
    ArtifactEntry::Folder(name.to_owned())
}

/// Runs every case.
pub async fn run<F: Future<Output = Arc<dyn Artifacts>>>(make: impl Fn() -> F) {
    what_is_put_is_read(&*make().await).await;
    putting_again_replaces(&*make().await).await;
    a_failed_upload_changes_nothing(&*make().await).await;
    content_is_linked_by_digest(&*make().await).await;
    folders_are_listed(&*make().await).await;
    large_folders_are_listed(&*make().await).await;
    a_key_is_a_file_or_a_folder(&*make().await).await;
    deleting_takes_what_is_beneath_and_nothing_beside(&*make().await).await;
    large_content_goes_through_in_pieces(&*make().await).await;
    odd_keys_are_plain_keys(&*make().await).await;
    many_at_once(make().await).await;
}

async fn what_is_put_is_read(artifacts: &dyn Artifacts) {
    assert_eq!(artifacts.artifact(&key("1/run/artifacts/MLmodel")).await.expect("look"), None);
    let nothing = Digest::of("never");
    assert_eq!(artifacts.read_artifact(&nothing, 0..1).await.err().expect("unknown").code, Code::UNKNOWN_ARTIFACT);
    let info = put(artifacts, "1/run/artifacts/MLmodel", "0123456789").await;
    assert_eq!(info, ArtifactInfo { key: "1/run/artifacts/MLmodel".into(), digest: Digest::of("0123456789"), bytes: 10 });
    assert_eq!(artifacts.artifact(&key("1/run/artifacts/MLmodel")).await.expect("look"), Some(info.clone()));
    for (range, found) in
        [(0..10, "0123456789"), (0..u64::MAX, "0123456789"), (2..5, "234"), (9..10, "9"), (10..20, ""), (30..40, ""), (4..4, "")]
    {
        assert_eq!(read(artifacts, &info.digest, range.clone()).await, found.as_bytes(), "{range:?}");
    }
    let empty = put(artifacts, "1/run/artifacts/empty", "").await;
    assert_eq!((empty.bytes, read(artifacts, &empty.digest, 0..9).await), (0, Vec::new()));
    assert_eq!(artifacts.artifact(&key("1/run/artifacts")).await.expect("look"), None, "a folder is no file");
}

async fn putting_again_replaces(artifacts: &dyn Artifacts) {
    let first = put(artifacts, "a/b", "first").await;
    assert_eq!(put(artifacts, "a/b", "first").await, first, "twice");
    let second = put(artifacts, "a/b", "second").await;
    assert_eq!(artifacts.artifact(&key("a/b")).await.expect("look"), Some(second.clone()));
    assert_eq!(artifacts.list_artifacts(Some(&key("a"))).await.expect("list"), [file("b", 6)]);
    assert_eq!(read(artifacts, &first.digest, 0..9).await, b"first", "whoever reads the old content reads on");
    put(artifacts, "c", "second").await;
    artifacts.delete_artifacts(&key("a")).await.expect("delete");
    assert_eq!(read(artifacts, &second.digest, 0..9).await, b"second", "two keys, one content");
}

async fn a_failed_upload_changes_nothing(artifacts: &dyn Artifacts) {
    let before = put(artifacts, "a", "before").await;
    let broken =
        || stream::iter([Ok(Bytes::from_static(b"half")), Err(Fault::new(Kind::Unavailable, Code::IO, "the sender went away"))]).boxed();
    for at_key in ["a", "b"] {
        let fault = artifacts.put_artifact(&key(at_key), broken(), at(2)).await.expect_err("broken");
        assert_eq!(fault.message, "the sender went away");
    }
    assert_eq!(artifacts.artifact(&key("a")).await.expect("look"), Some(before));
    assert_eq!(artifacts.artifact(&key("b")).await.expect("look"), None);
    assert_eq!(artifacts.read_artifact(&Digest::of("half"), 0..4).await.err().expect("never stored").code, Code::UNKNOWN_ARTIFACT);
}

async fn content_is_linked_by_digest(artifacts: &dyn Artifacts) {
    let info = put(artifacts, "a", "rows").await;
    artifacts.link_artifact(&key("x/y"), info.digest, info.bytes, at(2)).await.expect("link");
    artifacts.link_artifact(&key("x/y"), info.digest, info.bytes, at(3)).await.expect("twice");
    assert_eq!(artifacts.artifact(&key("x/y")).await.expect("look"), Some(ArtifactInfo { key: "x/y".into(), ..info }));
    let fault = artifacts.link_artifact(&key("z"), Digest::of("never"), 5, at(2)).await.expect_err("unknown");
    assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_ARTIFACT));
    assert_eq!(artifacts.artifact(&key("z")).await.expect("look"), None);
}

async fn folders_are_listed(artifacts: &dyn Artifacts) {
    assert_eq!(artifacts.list_artifacts(None).await.expect("list"), []);
    // What sorts around `/`: a space, `!`, `-` and `.` before it, `0` and letters behind it.
    for name in ["m/z", "m/a/b/c/d", "m/a/b/e", "m/a.txt", "m/a-x/1", "m/a 1", "m/a0", "m", "m.txt", "m-1/x", "m0/x", "é/ü/数"] {
        if name != "m" {
            put(artifacts, name, name).await;
        }
    }
    let all = artifacts.list_artifacts(None).await.expect("list");
    assert_eq!(all, [folder("m"), folder("m-1"), file("m.txt", 5), folder("m0"), folder("é")]);
    let inside = artifacts.list_artifacts(Some(&key("m"))).await.expect("list");
    assert_eq!(inside, [folder("a"), file("a 1", 5), folder("a-x"), file("a.txt", 7), file("a0", 4), file("z", 3)]);
    assert_eq!(artifacts.list_artifacts(Some(&key("m/a/b"))).await.expect("list"), [folder("c"), file("e", 7)]);
    assert_eq!(artifacts.list_artifacts(Some(&key("é/ü"))).await.expect("list"), [file("数", 9)]);
    for nothing in ["m/z", "m/q", "M", "m/a/b/c/d", "é/u"] {
        assert_eq!(artifacts.list_artifacts(Some(&key(nothing))).await.expect("list"), [], "{nothing}");
    }
    let walked = artifacts.walk_artifacts(&key("m/a")).await.expect("walk");
    let keys: Vec<&str> = walked.iter().map(|info| info.key.as_str()).collect();
    assert_eq!(keys, ["b/c/d", "b/e"]);
    assert_eq!(walked[1], ArtifactInfo { key: "b/e".into(), digest: Digest::of("m/a/b/e"), bytes: 7 });
    assert_eq!(artifacts.walk_artifacts(&key("m/z")).await.expect("walk"), [], "a file has nothing beneath it");
}

async fn large_folders_are_listed(artifacts: &dyn Artifacts) {
    let info = put(artifacts, "first", "x").await;
    for number in 0..2_100 {
        let name = if number % 3 == 0 { format!("f/{number:05}") } else { format!("f/deep/{number:05}") };
        artifacts.link_artifact(&key(&name), info.digest, 1, at(1)).await.expect("link");
    }
    let entries = artifacts.list_artifacts(Some(&key("f"))).await.expect("list");
    assert_eq!((entries.len(), entries.last()), (701, Some(&folder("deep"))));
    assert!(entries.windows(2).all(|two| two[0] != two[1]));
    assert_eq!(artifacts.list_artifacts(None).await.expect("list"), [folder("f"), file("first", 1)]);
    assert_eq!(artifacts.walk_artifacts(&key("f")).await.expect("walk").len(), 2_100);
    assert_eq!(artifacts.list_artifacts(Some(&key("f/deep"))).await.expect("list").len(), 1_400);
}

async fn a_key_is_a_file_or_a_folder(artifacts: &dyn Artifacts) {
    put(artifacts, "a/b/c", "x").await;
    for (at_key, message) in [("a", "folder"), ("a/b", "folder"), ("a/b/c/d", "file"), ("a/b/c/d/e", "file")] {
        let fault = artifacts.put_artifact(&key(at_key), content("y"), at(1)).await.expect_err(at_key);
        assert_eq!((fault.kind, fault.code), (Kind::Conflict, Code::ALREADY_EXISTS));
        assert!(fault.message.contains(message), "{fault}");
    }
    put(artifacts, "a/b.txt", "x").await;
    artifacts.delete_artifacts(&key("a/b")).await.expect("delete");
    put(artifacts, "a/b", "now a file").await;
}

async fn deleting_takes_what_is_beneath_and_nothing_beside(artifacts: &dyn Artifacts) {
    for name in ["1/a/x", "1/a/y/z", "1/a.x", "1/a-x", "1/a0", "1/aa", "1/b"] {
        put(artifacts, name, "x").await;
    }
    assert_eq!(artifacts.delete_artifacts(&key("1/nothing")).await.expect("delete"), 0);
    assert_eq!(artifacts.delete_artifacts(&key("1/a")).await.expect("delete"), 2);
    assert_eq!(artifacts.delete_artifacts(&key("1/a")).await.expect("twice"), 0);
    assert_eq!(artifacts.delete_artifacts(&key("1/b")).await.expect("a file"), 1);
    let left = artifacts.list_artifacts(Some(&key("1"))).await.expect("list");
    assert_eq!(left, [file("a-x", 1), file("a.x", 1), file("a0", 1), file("aa", 1)]);
    assert_eq!(artifacts.artifact(&key("1/a/x")).await.expect("look"), None);
}

/// Counts what of an upload is alive at once.
struct Counted {
    piece: Vec<u8>,
    alive: Arc<AtomicUsize>,
}
impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.piece.len(), Ordering::AcqRel);
    }
}

/// Pieces of every size go through, and no more than one of them is alive at a time: what an upload holds does not depend on its length.
async fn large_content_goes_through_in_pieces(artifacts: &dyn Artifacts) {
    let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let largest = 3 * limits::ARTIFACT_CHUNK_BYTES + 7;
    let sizes = [1, 7, limits::ARTIFACT_CHUNK_BYTES - 1, limits::ARTIFACT_CHUNK_BYTES, limits::ARTIFACT_CHUNK_BYTES + 1, largest];
    let sizes: Vec<usize> = (0..24).map(|i| sizes[i % sizes.len()]).collect();
    let whole: Vec<u8> = sizes.iter().enumerate().flat_map(|(i, size)| std::iter::repeat_n(i as u8, *size)).collect();
    let (count, peak) = (Arc::clone(&alive), Arc::clone(&most));
    let pieces = stream::iter(sizes.into_iter().enumerate()).map(move |(i, size)| {
        let now = count.fetch_add(size, Ordering::AcqRel) + size;
        peak.fetch_max(now, Ordering::AcqRel);
        Ok(Bytes::from_owner(Counted { piece: vec![i as u8; size], alive: Arc::clone(&count) }))
    });
    let info = artifacts.put_artifact(&key("large"), pieces.boxed(), at(1)).await.expect("put");
    assert_eq!((info.digest, info.bytes), (Digest::of(&whole), whole.len() as u64));
    assert_eq!(alive.load(Ordering::Acquire), 0);
    assert!(most.load(Ordering::Acquire) <= largest, "{} bytes of the sender's pieces were alive at once", most.load(Ordering::Acquire));
    assert_eq!(read(artifacts, &info.digest, 0..info.bytes).await, whole);
    let (from, to) = (limits::ARTIFACT_CHUNK_BYTES - 3, 2 * limits::ARTIFACT_CHUNK_BYTES + 3);
    assert_eq!(read(artifacts, &info.digest, from as u64..to as u64).await, whole[from..to]);
}

async fn odd_keys_are_plain_keys(artifacts: &dyn Artifacts) {
    for text in EVIL.iter().chain(HARMLESS) {
        let Ok(key) = ArtifactKey::new(text) else { continue };
        // Some are folders of others.
        artifacts.delete_artifacts(&key).await.expect("delete");
        let info = match artifacts.put_artifact(&key, content(text), at(1)).await {
            Err(fault) if fault.code == Code::ALREADY_EXISTS => continue,
            put => put.expect(text),
        };
        assert_eq!(artifacts.artifact(&key).await.expect("look"), Some(info.clone()), "{text:?}");
        assert_eq!(read(artifacts, &info.digest, 0..info.bytes).await, text.as_bytes());
    }
}

async fn many_at_once(artifacts: Arc<dyn Artifacts>) {
    let one = |number: usize| {
        let artifacts = Arc::clone(&artifacts);
        async move {
            let text = format!("content {}", number % 5);
            artifacts.put_artifact(&key(&format!("r/{number}")), content(&text), at(1)).await.expect("put");
            artifacts.put_artifact(&key("r/shared"), content(&text), at(1)).await.expect("put");
        }
    };
    futures::future::join_all((0..24).map(one)).await;
    assert_eq!(artifacts.walk_artifacts(&key("r")).await.expect("walk").len(), 25);
    let shared = artifacts.artifact(&key("r/shared")).await.expect("look").expect("there");
    assert_eq!(Digest::of(read(&*artifacts, &shared.digest, 0..99).await), shared.digest);
}
