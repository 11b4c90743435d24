//! HMAC-SHA256 (RFC 2104) over the kernel's digest: signs addresses of ours and messages to webhooks.

use gristmill_kernel::digest::Hasher;
use subtle::ConstantTimeEq;

/// The block of SHA-256.
const BLOCK: usize = 64;

/// The code of a message that comes in pieces. Their borders do not matter; who needs them puts them into the message.
pub(crate) fn hmac_sha256<'a>(key: &[u8], message: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        let mut hasher = Hasher::default();
        hasher.update(key);
        block[..32].copy_from_slice(hasher.finish().bytes());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Hasher::default();
    inner.update(block.map(|b| b ^ 0x36));
    for piece in message {
        inner.update(piece);
    }
    let mut outer = Hasher::default();
    outer.update(block.map(|b| b ^ 0x5c));
    outer.update(inner.finish().bytes());
    *outer.finish().bytes()
}

/// Whether two codes are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases of RFC 4231.
    #[test]
    fn codes_are_those_of_the_standard() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (key, message, code) in [
            (vec![0x0b; 20], "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (b"Jefe".to_vec(), "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                vec![0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(hmac_sha256(&key, [message.as_bytes()])), code);
            let (head, tail) = message.as_bytes().split_at(5);
            assert_eq!(hex(hmac_sha256(&key, [head, tail])), code, "in pieces");
        }
        assert!(same(b"abc", b"abc") && !same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
