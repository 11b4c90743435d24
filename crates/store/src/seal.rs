//! Secrets at rest: what the ledger must keep but nobody may read there.
//!
//! Promise: a sealed text is AES-256-GCM under a key that lies beside the ledger (`seal.key`, readable by its owner only) and never in it.
//! So a copy of the ledger holds no secret. A sealed text is bound to what it belongs to: moved to another row it does not open.
//!
//! Written as `v1:` and base64 of nonce, ciphertext and tag. The key is made when something is sealed for the first time.

use crate::system::RandomIds;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gristmill_kernel::port::Ids;
use gristmill_kernel::{Fault, Result};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The name of the key's file.
pub(crate) const KEY_FILE: &str = "seal.key";
const VERSION: &str = "v1:";
const KEY_BYTES: usize = 32;

/// Seals and opens with one key.
pub(crate) struct Seal {
    path: PathBuf,
    key: OnceLock<RandomizedNonceKey>,
}

impl Seal {
    /// A seal whose key lies in this file, which is made when it is needed.
    pub(crate) fn at(path: PathBuf) -> Seal {
        Seal { path, key: OnceLock::new() }
    }

    /// Seals a secret that belongs to `owner`.
    pub(crate) fn seal(&self, owner: &str, secret: &SecretString) -> Result<String> {
        let mut text = secret.expose_secret().as_bytes().to_vec();
        let nonce = self
            .key(Missing::Make)?
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut text)
            .map_err(|e| Fault::internal("a secret cannot be sealed").because(e))?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut text);
        Ok(format!("{VERSION}{}", BASE64.encode(whole)))
    }

    /// Opens what was sealed for `owner`. What does not open is damage; the fault holds nothing of it.
    pub(crate) fn open(&self, owner: &str, sealed: &str) -> Result<SecretString> {
        let damaged = || {
            Fault::damaged(format!("the secret of {owner} does not open with {}", self.path.display()))
                .fix("restore that file beside the ledger, or set the secret again")
        };
        let mut whole = sealed.strip_prefix(VERSION).and_then(|text| BASE64.decode(text).ok()).ok_or_else(damaged)?;
        let (nonce, text) = whole.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let plain = self.key(Missing::Refuse)?.open_in_place(nonce, Aad::from(owner.as_bytes()), text).map_err(|_| damaged())?;
        let secret = std::str::from_utf8(plain).map(|plain| SecretString::from(plain.to_owned())).map_err(|_| damaged());
        whole.zeroize();
        secret
    }

    fn key(&self, missing: Missing) -> Result<&RandomizedNonceKey> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let told = |e| Fault::io(format_args!("read the key {}", self.path.display()), e);
        let mut bytes = match (read_key(&self.path), missing) {
            (Err(e), Missing::Make) if e.kind() == io::ErrorKind::NotFound => make_key(&self.path).map_err(told)?,
            (read, _) => read.map_err(told)?,
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes);
        bytes.zeroize();
        let key =
            key.map_err(|_| Fault::damaged(format!("{} is not a key", self.path.display())).fix("restore that file from a backup"))?;
        Ok(self.key.get_or_init(|| key))
    }
}

/// What to do without a key.
#[derive(Clone, Copy)]
enum Missing {
    Make,
    Refuse,
}

fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a key, complete and synced before it has its name. The key of another process that was quicker is taken instead.
fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; KEY_BYTES];
    RandomIds.random(&mut bytes);
    let temporary = path.with_file_name(format!("{KEY_FILE}.{}", RandomIds.run()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| std::fs::hard_link(&temporary, path));
    std::fs::remove_file(&temporary)?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(e) => Err(e),
        Ok(()) => {
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::Kind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_sealed_opens_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let secret = SecretString::from("hunter2 äöü".to_owned());
        let sealed = Seal::at(path.clone()).seal("w1", &secret).unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, Seal::at(path.clone()).seal("w1", &secret).unwrap(), "a new nonce each time");
        let again = Seal::at(path.clone());
        assert_eq!(again.open("w1", &sealed).unwrap().expose_secret(), "hunter2 äöü");
        assert_eq!(again.open("w2", &sealed).unwrap_err().kind, Kind::Damaged);
        let mut bent = sealed.clone().into_bytes();
        let last = bent.len() - 6;
        bent[last] ^= 1;
        for bad in [String::from_utf8(bent).unwrap(), "v1:".into(), "v2:AAAA".into(), String::new()] {
            let fault = again.open("w1", &bad).unwrap_err();
            assert!(fault.kind == Kind::Damaged && !fault.to_string().contains(&sealed[3..]), "{fault}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn without_its_key_nothing_opens_and_no_key_is_made_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = Seal::at(dir.path().join(KEY_FILE)).seal("w", &"s".to_owned().into()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Seal::at(elsewhere.path().join(KEY_FILE)).open("w", &sealed).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        std::fs::write(elsewhere.path().join(KEY_FILE), b"short").unwrap();
        assert_eq!(Seal::at(elsewhere.path().join(KEY_FILE)).open("w", &sealed).unwrap_err().kind, Kind::Damaged);
    }

    #[test]
    fn many_who_make_the_key_at_once_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let sealed: Vec<String> = std::thread::scope(|scope| {
            let one = |_| scope.spawn(|| Seal::at(dir.path().join(KEY_FILE)).seal("w", &"s".to_owned().into()).unwrap());
            let threads: Vec<_> = (0..8).map(one).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let seal = Seal::at(dir.path().join(KEY_FILE));
        assert!(sealed.iter().all(|s| seal.open("w", s).unwrap().expose_secret() == "s"));
    }
}
