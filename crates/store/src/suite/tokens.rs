//! What every `Tokens` promises.

use crate::system::ManualClock;
use gristmill_kernel::port::{AuditFilter, Clock, Ledger, Token, Tokens};
use gristmill_kernel::{Actor, Digest, Kind, Timestamp};
use std::sync::Arc;

/// Runs every case. The two ports are the same ledger.
pub async fn run<F: Future<Output = (Arc<dyn Tokens>, Arc<dyn Ledger>)>>(make: impl Fn(Arc<dyn Clock>) -> F) {
    let now = Timestamp::from_micros(9);
    let (tokens, ledger) = make(Arc::new(ManualClock::new(now))).await;
    let ada = Actor::user("ada");
    let token = |name: &str| Token {
        name: name.into(),
        hash: Digest::of(name),
        role: "viewer".into(),
        made_at: now,
        expires_at: Some(Timestamp::from_micros(99)),
        revoked_at: None,
    };
    tokens.put_token(token("ci"), &ada, now).await.expect("put");
    tokens.put_token(token("a"), &ada, now).await.expect("put");
    assert_eq!(tokens.put_token(token("ci"), &ada, now).await.expect_err("twice").kind, Kind::Conflict);
    assert_eq!(tokens.token_by_hash(&Digest::of("ci")).await.expect("look"), Some(token("ci")));
    assert_eq!(tokens.token_by_hash(&Digest::of("nobody")).await.expect("look"), None);
    assert_eq!(tokens.tokens().await.expect("list"), [token("a"), token("ci")]);
    tokens.revoke_token("ci", &ada, Timestamp::from_micros(10)).await.expect("revoke");
    tokens.revoke_token("ci", &ada, Timestamp::from_micros(11)).await.expect("twice");
    let revoked = tokens.token_by_hash(&Digest::of("ci")).await.expect("look").expect("is still there");
    assert_eq!(revoked.revoked_at, Some(Timestamp::from_micros(10)));
    assert_eq!(tokens.revoke_token("nobody", &ada, now).await.expect_err("unknown").kind, Kind::NotFound);
    let lines = ledger.audit(&AuditFilter::default()).await.expect("audit");
    let told: Vec<_> = lines.iter().map(|l| (l.action.as_str(), l.subject.as_str())).collect();
    assert_eq!(told, [("token.made", "tokens.ci"), ("token.made", "tokens.a"), ("token.revoked", "tokens.ci")]);
    assert!(!serde_json::to_string(&lines).expect("JSON").contains(&Digest::of("ci").hex()), "no hash of a token in the chain");
    assert_eq!(ledger.verify_audit().await.expect("verify"), 3);
}
