//! Content by digest. A blob is complete before its name exists, so there is nothing to clean up and nothing to overwrite.

use crate::{Digest, Result};
use async_trait::async_trait;
use bytes::Bytes;

/// Content by digest. What `put` returned is durable; nobody ever sees half a blob.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores content and names it. Storing the same content again changes nothing.
    async fn put(&self, content: Bytes) -> Result<Digest>;
    /// The content, or `None` if it was never stored. Content that does not match its digest is damage, never an answer.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>>;
    /// Whether it is there.
    async fn has(&self, digest: &Digest) -> Result<bool>;
}
