//! What every `Blobs` promises.

use bytes::Bytes;
use gristmill_kernel::Digest;
use gristmill_kernel::port::Blobs;

/// Runs every case.
pub async fn run<B: Blobs, F: Future<Output = B>>(make: impl Fn() -> F) {
    let blobs = make().await;
    assert_eq!(blobs.get(&Digest::of("never")).await.expect("get"), None);
    assert!(!blobs.has(&Digest::of("never")).await.expect("has"));
    for content in [Bytes::new(), Bytes::from_static(b"rows"), Bytes::from(vec![0xa5; 3 << 20])] {
        let digest = blobs.put(content.clone()).await.expect("put");
        assert_eq!(digest, Digest::of(&content), "a blob is named by its content");
        assert_eq!(blobs.put(content.clone()).await.expect("put again"), digest);
        assert!(blobs.has(&digest).await.expect("has"));
        assert_eq!(blobs.get(&digest).await.expect("get"), Some(content));
    }
    let same = Bytes::from_static(b"from many at once");
    let puts = futures::future::join_all((0..16).map(|_| blobs.put(same.clone()))).await;
    assert!(puts.into_iter().all(|digest| digest.expect("concurrent put") == Digest::of(&same)));
    assert_eq!(blobs.get(&Digest::of(&same)).await.expect("get"), Some(same));
}
