//! From a header to a caller.

use crate::token::{hash_of, is_well_formed};
use crate::{Permission, Role, allows};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gristmill_kernel::port::{Clock, Token, Tokens};
use gristmill_kernel::time::Span;
use gristmill_kernel::{Actor, Code, Digest, Fault, Kind, Result, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// How long a looked-up token is believed: a revoked one works no longer than this.
const BELIEVED_FOR: Span = Span::from_secs(3);
/// Looked-up tokens kept. Only real ones are, so guessing fills nothing.
const KEPT_MAX: usize = 1_000;
/// The longest header that is looked at.
const HEADER_CHARS_MAX: usize = 1_000;

/// Somebody who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who, as the audit chain names them.
    pub actor: Actor,
    /// As what.
    pub role: Role,
}

impl Caller {
    /// An error unless the caller may do this.
    pub fn may(&self, permission: Permission) -> Result<()> {
        if allows(self.role, permission) {
            return Ok(());
        }
        let roles: Vec<&str> = Role::ALL.into_iter().filter(|role| allows(*role, permission)).map(Role::as_str).collect();
        Err(Fault::new(
            Kind::Denied,
            Code::NOT_ALLOWED,
            format!("{} is {} and lacks the permission `{}`", self.actor, self.role, permission.as_str()),
        )
        .fix(format!("use a token with one of these roles: {}", roles.join(", "))))
    }
}

/// Finds out who calls.
pub struct Authenticator {
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    nameless: Option<Role>,
    believed: Mutex<HashMap<Digest, (Token, Timestamp)>>,
}

impl Authenticator {
    /// What a caller without credentials is: nobody, unless a role is given. An admin only for `dev` and `demo` on a loopback address, a predictor
    /// only in the container of a platform that knows its callers.
    pub fn new(tokens: Arc<dyn Tokens>, clock: Arc<dyn Clock>, nameless: Option<Role>) -> Authenticator {
        Authenticator { tokens, clock, nameless, believed: Mutex::default() }
    }

    /// Who sends this `Authorization` header: `Bearer TOKEN`, or `Basic` with the token as password.
    pub async fn authenticate(&self, header: Option<&str>) -> Result<Caller> {
        let Some(header) = header else {
            let caller = self.nameless.map(|role| Caller { actor: Actor::user("anonymous"), role });
            return caller.ok_or_else(|| refused("this needs a token"));
        };
        let text = token_in(header)?;
        if !is_well_formed(&text) {
            return Err(refused("this is not a token of gristmill"));
        }
        let now = self.clock.now();
        let hash = hash_of(&text);
        let token = self.look_up(&hash, now).await?.ok_or_else(|| refused("this token is not known"))?;
        if !bool::from(token.hash.bytes().ct_eq(hash.bytes())) {
            return Err(refused("this token is not known"));
        }
        if token.revoked_at.is_some() {
            return Err(refused(&format!("token `{}` was revoked", token.name)));
        }
        if token.expires_at.is_some_and(|moment| moment <= now) {
            return Err(refused(&format!("token `{}` has expired", token.name)));
        }
        let role = token.role.parse().map_err(|_| {
            Fault::damaged(format!("ledger table `tokens`, column `role`, row `{}`: `{}` is not a role", token.name, token.role))
        })?;
        Ok(Caller { actor: Actor(format!("token:{}", token.name)), role })
    }

    async fn look_up(&self, hash: &Digest, now: Timestamp) -> Result<Option<Token>> {
        if let Some((token, since)) = self.believed.lock().unwrap_or_else(PoisonError::into_inner).get(hash)
            && *since <= now
            && now.since(*since) < BELIEVED_FOR
        {
            return Ok(Some(token.clone()));
        }
        let found = self.tokens.token_by_hash(hash).await?;
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Some(token) => {
                if believed.len() >= KEPT_MAX {
                    believed.retain(|_, (_, since)| now.since(*since) < BELIEVED_FOR);
                }
                if believed.len() < KEPT_MAX || believed.contains_key(hash) {
                    believed.insert(*hash, (token.clone(), now));
                }
            }
            None => {
                believed.remove(hash);
            }
        }
        Ok(found)
    }
}

/// The token in a header.
fn token_in(header: &str) -> Result<String> {
    let unreadable = || refused("the Authorization header is neither `Bearer TOKEN` nor `Basic` with the token as password");
    if header.len() > HEADER_CHARS_MAX {
        return Err(unreadable());
    }
    let (scheme, rest) = header.trim().split_once(' ').ok_or_else(unreadable)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unreadable());
    }
    let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
    let (_, password) = decoded.split_once(':').ok_or_else(unreadable)?;
    Ok(password.to_owned())
}

fn refused(why: &str) -> Fault {
    Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, why)
        .fix("send `Authorization: Bearer TOKEN`; make a token with: gristmill token new NAME --role ROLE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewToken, make_token};
    use gristmill_store::memory::MemoryLedger;
    use gristmill_store::system::{ManualClock, SeededIds};
    use secrecy::ExposeSecret;

    struct World {
        clock: Arc<ManualClock>,
        tokens: Arc<MemoryLedger>,
        auth: Authenticator,
    }

    fn world() -> World {
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_000)));
        let tokens = Arc::new(MemoryLedger::new(clock.clone()));
        World { auth: Authenticator::new(tokens.clone(), clock.clone(), None), clock, tokens }
    }

    async fn token(world: &World, name: &str, role: Role, expires_at: Option<Timestamp>) -> String {
        let wish = NewToken { name: name.to_owned(), role, expires_at };
        let ids = SeededIds::new(name.len() as u64);
        let made = make_token(&*world.tokens, &ids, wish, &Actor::user("ada"), world.clock.now()).await.unwrap();
        made.expose_secret().to_owned()
    }

    #[tokio::test]
    async fn bearer_and_basic_find_the_caller() {
        let world = world();
        let text = token(&world, "ci", Role::Editor, None).await;
        assert!(text.starts_with("grm_") && text.len() == 47, "{text}");
        let expected = Caller { actor: Actor("token:ci".into()), role: Role::Editor };
        let basic = format!("Basic {}", STANDARD.encode(format!("anyone:{text}")));
        for header in [format!("Bearer {text}"), format!("bearer  {text} "), basic] {
            assert_eq!(world.auth.authenticate(Some(&header)).await.unwrap(), expected, "{header}");
        }
        let stored = world.tokens.tokens().await.unwrap();
        assert_eq!(stored[0].hash, hash_of(&text), "only the hash is stored");
    }

    #[tokio::test]
    async fn everything_else_is_refused_with_a_fix() {
        let world = world();
        let text = token(&world, "ci", Role::Editor, None).await;
        let flipped = format!("{}{}", &text[..46], if text.ends_with('A') { 'E' } else { 'A' });
        let headers = [None, Some(String::new()), Some(text.clone()), Some("Bearer ".into()), Some("Bearer grm_short".into())];
        let more = [format!("Bearer {flipped}"), format!("Digest {text}"), "Basic !!".into(), format!("Bearer {}", "x".repeat(5_000))];
        for header in headers.into_iter().chain(more.map(Some)) {
            let fault = world.auth.authenticate(header.as_deref()).await.unwrap_err();
            assert_eq!((fault.kind, fault.code), (Kind::Unauthenticated, Code::NOT_AUTHENTICATED), "{header:?}");
            assert!(fault.fix.is_some() && !fault.message.contains(&text), "{fault}");
        }
    }

    #[tokio::test]
    async fn tokens_expire_to_the_moment() {
        let world = world();
        let header = format!("Bearer {}", token(&world, "ci", Role::Viewer, Some(Timestamp::from_micros(2_000))).await);
        world.clock.set(Timestamp::from_micros(1_999));
        world.auth.authenticate(Some(&header)).await.unwrap();
        world.clock.set(Timestamp::from_micros(2_000));
        let fault = world.auth.authenticate(Some(&header)).await.unwrap_err();
        assert!(fault.message.contains("expired"), "{fault}");
    }

    #[tokio::test]
    async fn a_revoked_token_stops_within_seconds() {
        let world = world();
        let header = format!("Bearer {}", token(&world, "ci", Role::Viewer, None).await);
        world.auth.authenticate(Some(&header)).await.unwrap();
        world.tokens.revoke_token("ci", &Actor::user("ada"), world.clock.now()).await.unwrap();
        world.clock.advance(BELIEVED_FOR);
        let fault = world.auth.authenticate(Some(&header)).await.unwrap_err();
        assert!(fault.message.contains("revoked"), "{fault}");
    }

    #[tokio::test]
    async fn open_mode_lets_the_nameless_in_but_no_wrong_token() {
        let world = world();
        for role in Role::ALL {
            let open = Authenticator::new(world.tokens.clone(), world.clock.clone(), Some(role));
            assert_eq!(open.authenticate(None).await.unwrap().role, role);
            assert!(open.authenticate(Some("Bearer nonsense")).await.is_err());
        }
        assert!(world.auth.authenticate(None).await.is_err());
    }

    #[test]
    fn a_denied_caller_learns_which_roles_may() {
        let caller = Caller { actor: Actor("token:app".into()), role: Role::Predictor };
        caller.may(Permission::Predict).unwrap();
        let fault = caller.may(Permission::MoveAlias).unwrap_err();
        assert_eq!((fault.kind, fault.code), (Kind::Denied, Code::NOT_ALLOWED));
        assert!(fault.fix.unwrap().contains("admin, editor"));
    }
}
