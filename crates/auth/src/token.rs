//! Making tokens: 256 random bits, shown once, stored as a hash.
//!
//! A fast hash is right here: nobody guesses 256 random bits, so there is nothing for a slow one to slow down.

use crate::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gristmill_kernel::port::{Ids, Token, Tokens};
use gristmill_kernel::{Actor, Code, Digest, Fault, Name, Result, Timestamp};
use secrecy::{ExposeSecret, SecretString};

/// What every token begins with, so that scanners of leaked secrets find it.
pub(crate) const PREFIX: &str = "grm_";
/// Random bytes of a token.
const RANDOM_BYTES: usize = 32;

/// A wish for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, unique: who or what uses it. Checked as every name is.
    pub name: String,
    /// What it may be used as.
    pub role: Role,
    /// When it stops working; `None` is never.
    pub expires_at: Option<Timestamp>,
}

/// Makes a token and returns it: the only moment at which it can be seen.
pub async fn make_token(tokens: &dyn Tokens, ids: &dyn Ids, wish: NewToken, actor: &Actor, now: Timestamp) -> Result<SecretString> {
    let name = Name::new(wish.name)?;
    if wish.expires_at.is_some_and(|moment| moment <= now) {
        return Err(
            Fault::invalid(Code::BAD_VALUE, format!("token `{name}` would have expired already")).fix("give it a later moment, or none")
        );
    }
    let mut random = [0; RANDOM_BYTES];
    ids.random(&mut random);
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let token = Token {
        name: name.as_str().to_owned(),
        hash: hash_of(&text),
        role: wish.role.as_str().to_owned(),
        made_at: now,
        expires_at: wish.expires_at,
        revoked_at: None,
    };
    tokens.put_token(token, actor, now).await?;
    Ok(SecretString::from(text))
}

/// A token's text, to be shown to whoever asked for it and nowhere else.
pub fn expose(token: &SecretString) -> &str {
    token.expose_secret()
}

/// What is stored of a token.
pub fn hash_of(token: &str) -> Digest {
    Digest::of(token)
}

/// Whether a text can be a token at all: what cannot is refused without a look at the store.
pub(crate) fn is_well_formed(text: &str) -> bool {
    // 32 bytes are 43 characters of base64 without padding.
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 43 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_token_is_that_of_32_bytes() {
        let text = |bytes: u8| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([bytes; RANDOM_BYTES]));
        assert!((0..=255).all(|bytes| is_well_formed(&text(bytes))));
        let good = text(7);
        let wrong = [&good[..46], &good[1..], "", PREFIX, &good.replace("grm_", "grn_"), &format!("{good}A")].map(str::to_owned);
        // As long as a token, but not written in its letters; of the last one only the bytes are counted.
        let letters = ["+", "/", "=", " ", "é"].map(|letter| format!("{}{letter}", &good[..good.len() - letter.len()]));
        for text in wrong.into_iter().chain(letters) {
            assert!(!is_well_formed(&text), "{text}");
        }
    }
}
