//! Addresses that carry their own permission: what clients call without their token, for a file or a part of one, for a while.
//!
//! Promises: a signature covers what may be done, to what, and until when; with another secret none is good. The secret is made when the
//! server starts and is written nowhere, so a restart ends every such address.

use super::super::hmac::{hmac_sha256, same};
use super::key::invalid_path;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use gristmill_kernel::port::{ArtifactKey, Ids};
use gristmill_kernel::{Code, Fault, Kind, Result, Span, Timestamp};
use std::sync::Arc;

/// What an address permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant<'a> {
    /// Read this artifact.
    Read(&'a str),
    /// Write this artifact.
    Write(&'a str),
    /// Write this part of this upload.
    Part(&'a str, u32),
}

/// Makes and checks signatures.
#[derive(Clone)]
pub(crate) struct Signer {
    secret: Arc<[u8; 32]>,
}

impl Signer {
    /// A signer with a secret of its own.
    pub(crate) fn new(ids: &dyn Ids) -> Signer {
        let mut secret = [0; 32];
        ids.random(&mut secret);
        Signer { secret: Arc::new(secret) }
    }

    /// The query string of an address that works until `until`.
    pub(crate) fn query(&self, grant: Grant<'_>, until: Timestamp) -> String {
        let until = until.millis();
        format!("expires={until}&signature={}", BASE64.encode(self.code(grant, until)))
    }

    /// Whether an address permits this now.
    pub(crate) fn check(&self, grant: Grant<'_>, signed: &Signed, now: Timestamp) -> Result<()> {
        let given = BASE64.decode(&signed.signature).unwrap_or_default();
        if !same(&given, &self.code(grant, signed.expires)) {
            return Err(
                Fault::new(Kind::Denied, Code::NOT_ALLOWED, "the signature of this address is not good").fix("ask for a new address")
            );
        }
        if now.millis() > signed.expires {
            return Err(Fault::new(Kind::Denied, Code::NOT_ALLOWED, "this address has expired").fix("ask for a new address"));
        }
        Ok(())
    }

    fn code(&self, grant: Grant<'_>, until: i64) -> [u8; 32] {
        let (what, of, part) = match grant {
            Grant::Read(key) => ("read", key, 0),
            Grant::Write(key) => ("write", key, 0),
            Grant::Part(upload, part) => ("part", upload, part),
        };
        self.code_of(what, of, &[part.to_be_bytes().as_slice(), &until.to_be_bytes()])
    }

    /// The code of something with borders: what it is for, its name with its length, and fields of fixed length.
    fn code_of(&self, what: &str, of: &str, fields: &[&[u8]]) -> [u8; 32] {
        let (what_len, of_len) = ((what.len() as u64).to_be_bytes(), (of.len() as u64).to_be_bytes());
        let head = [&what_len[..], what.as_bytes(), &of_len[..], of.as_bytes()];
        hmac_sha256(self.secret.as_slice(), head.into_iter().chain(fields.iter().copied()))
    }
}

/// What the query string of such an address says.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Signed {
    expires: i64,
    signature: String,
}

/// The id of an upload in parts. It says when the upload began, and is signed with the key it is for, so nothing else need be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadId(String);

/// Hex digits of the random part, of the moment, and of the code.
const ID_PARTS: [usize; 3] = [32, 16, 32];

impl UploadId {
    /// A new upload to a key.
    pub(crate) fn new(signer: &Signer, ids: &dyn Ids, key: &ArtifactKey, now: Timestamp) -> UploadId {
        let mut nonce = [0; 16];
        ids.random(&mut nonce);
        let head = format!("{}{:016x}", hex::encode(nonce), now.micros().max(0));
        let code = UploadId::code(signer, &head, key);
        UploadId(head + &code)
    }

    /// Reads an id that a client brings back for a key.
    pub(crate) fn parse(text: &str, signer: &Signer, key: &ArtifactKey) -> Result<UploadId> {
        let unknown = || Fault::not_found(Code::UNKNOWN_ARTIFACT, "there is no such upload of this artifact").fix("begin the upload again");
        if text.len() != ID_PARTS.iter().sum::<usize>() || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(unknown());
        }
        let (head, code) = text.split_at(ID_PARTS[0] + ID_PARTS[1]);
        if !same(code.as_bytes(), UploadId::code(signer, head, key).as_bytes()) {
            return Err(unknown());
        }
        Ok(UploadId(text.to_owned()))
    }

    /// When an upload with this id began; `None` for what is no id. Says nothing about who made it.
    pub(crate) fn began(text: &str) -> Option<Timestamp> {
        let moment = text.get(ID_PARTS[0]..ID_PARTS[0] + ID_PARTS[1])?;
        i64::from_str_radix(moment, 16).ok().map(Timestamp::from_micros)
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// When its parts may be written no more.
    pub(crate) fn ends(&self, after: Span) -> Timestamp {
        UploadId::began(&self.0).unwrap_or_default().plus(after)
    }

    fn code(signer: &Signer, head: &str, key: &ArtifactKey) -> String {
        let code = signer.code_of("upload", key.as_str(), &[head.as_bytes()]);
        hex::encode(&code[..ID_PARTS[2] / 2])
    }
}

/// A path in an address: everything but the unreserved is escaped.
pub(crate) fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Where the caller sees this server. `Host` was checked at the door; behind a proxy that ends TLS, `X-Forwarded-Proto` says so. Both only
/// decide what the caller itself is told.
pub(crate) fn origin(call: &gristmill_web::Call) -> Result<String> {
    let host = call.header("host").ok_or_else(invalid_path)?;
    let scheme = if call.header("x-forwarded-proto").is_some_and(|p| p.trim() == "https") { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::RunId;

    struct Counting(u8);
    impl Ids for Counting {
        fn run(&self) -> RunId {
            RunId("0".repeat(32))
        }
        fn random(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    fn signed(query: &str) -> Signed {
        let (expires, signature) = query.split_once('&').expect("two");
        Signed {
            expires: expires.strip_prefix("expires=").expect("named").parse().expect("a number"),
            signature: signature.strip_prefix("signature=").expect("named").to_owned(),
        }
    }

    #[test]
    fn a_signature_is_good_for_one_thing_until_it_expires() {
        let (signer, at) = (Signer::new(&Counting(1)), |ms: i64| Timestamp::from_micros(ms * 1_000));
        let grant = Grant::Read("0/r/a");
        let good = signed(&signer.query(grant, at(100)));
        assert!(signer.check(grant, &good, at(100)).is_ok());
        assert!(signer.check(grant, &good, at(101)).is_err(), "too late");
        for other in [Grant::Write("0/r/a"), Grant::Read("0/r/b"), Grant::Read("0/r/"), Grant::Part("0/r/a", 0)] {
            assert!(signer.check(other, &good, at(50)).is_err(), "{other:?}");
        }
        assert!(signer.check(grant, &Signed { expires: 1_000, ..good.clone() }, at(50)).is_err(), "a longer time");
        for bad in ["", "AAAA", "!", &good.signature[1..]] {
            assert!(signer.check(grant, &Signed { signature: bad.to_owned(), ..good.clone() }, at(50)).is_err(), "{bad}");
        }
        assert!(Signer::new(&Counting(2)).check(grant, &good, at(50)).is_err(), "another server's");
        let part = signed(&signer.query(Grant::Part("u", 1), at(100)));
        assert!(signer.check(Grant::Part("u", 1), &part, at(1)).is_ok() && signer.check(Grant::Part("u", 2), &part, at(1)).is_err());
    }

    #[test]
    fn upload_ids_belong_to_their_key_and_know_their_age() {
        let (ids, now) = (Counting(7), Timestamp::from_micros(1_790_000_000_000_000));
        let signer = Signer::new(&ids);
        let key = |text| ArtifactKey::new(text).expect("a key");
        let id = UploadId::new(&signer, &ids, &key("0/r/a"), now);
        assert_eq!(UploadId::parse(id.as_str(), &signer, &key("0/r/a")).expect("good"), id);
        assert_eq!((UploadId::began(id.as_str()), id.ends(Span::from_secs(1))), (Some(now), now.plus(Span::from_secs(1))));
        assert!(UploadId::parse(id.as_str(), &signer, &key("0/r/b")).is_err());
        assert!(UploadId::parse(id.as_str(), &Signer::new(&Counting(8)), &key("0/r/a")).is_err());
        for bad in ["", "../x", "é", &"0".repeat(80), &id.as_str()[1..]] {
            assert!(UploadId::parse(bad, &signer, &key("0/r/a")).is_err(), "{bad}");
            assert_ne!(UploadId::began(bad), Some(now));
        }
        assert!(ArtifactKey::new(&format!(".uploads/{}/1", id.as_str())).is_ok());
    }

    #[test]
    fn paths_in_addresses_are_escaped() {
        assert_eq!(escaped("0/r/a b%ä?.txt"), "0/r/a%20b%25%C3%A4%3F.txt");
    }
}
