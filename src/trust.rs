//! Whose signatures count: minisign public keys, and whether a minisign signature of one of them fits some bytes. Pure but for
//! reading files of keys; nothing here holds a secret.

use std::{fmt, fs::File, io::Read as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minisign_verify::{Error as Minisign, PublicKey, Signature};

/// What a signature's file ends with, after the whole name of the file that it signs.
pub const SIGNATURE_SUFFIX: &str = ".minisig";
/// Largest signature file, in bytes; minisign allows comments of 8 KiB.
pub const SIGNATURE_BYTES_MAX: u64 = 32 << 10;
/// Largest file of keys, in bytes.
const KEYS_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a public key: algorithm, key id, key.
const PUBLIC_BYTES: usize = 2 + 8 + 32;
/// Bytes of a secret key; one that is given by mistake is not shown.
const SECRET_BYTES: usize = 158;

/// What tells keys apart; shown as minisign shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

/// Public keys whose signatures count; none: signatures are not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<(KeyId, PublicKey)>);

/// Something in a list of keys that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadKey {
    /// As it was given; `[secret]` for a secret key.
    pub item: String,
    /// What is wrong with it, for people.
    pub reason: String,
}

/// A good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whose.
    pub key: KeyId,
    /// The comment that was signed with the bytes.
    pub comment: String,
}

/// Why a signature does not count. To be read after the name of the file that it should sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("is not signed")]
    Missing,
    /// Not in minisign's format.
    #[error("has a signature that is not in minisign's format")]
    Format,
    /// Made over the bytes themselves, as minisign did before 0.10 and does with `-l`.
    #[error("has a signature in minisign's legacy format: sign it again with minisign 0.10 or later, without -l")]
    Legacy,
    /// Of nobody who is trusted.
    #[error("is signed by key {0}, which is not in PLUGIN_TRUSTED_KEYS")]
    Stranger(KeyId),
    /// The bytes, the comment or the signature were changed after signing.
    #[error("does not fit its signature by key {0}: one of the two was changed since")]
    Altered(KeyId),
}

/// The key that a signature names; not whether it is good. `None`: it is no signature.
pub fn signer(signature: &[u8]) -> Option<KeyId> {
    let line = std::str::from_utf8(signature).ok()?.lines().nth(1)?;
    KeyId::of(&STANDARD.decode(line.trim()).ok()?)
}

// === impl KeyId ===

impl KeyId {
    /// From its eight bytes, least significant first.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Behind the algorithm's two bytes, in keys and signatures alike.
    fn of(decoded: &[u8]) -> Option<Self> {
        Some(Self(decoded.get(2..10)?.try_into().ok()?))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

// === impl TrustedKeys ===

impl TrustedKeys {
    /// Reads public keys, and files that hold some, split by commas.
    ///
    /// # Errors
    /// Everything in the list that is neither; all at once. A list without items is an error without an item.
    pub fn read(list: &str) -> Result<Self, Vec<BadKey>> {
        let (mut keys, mut bad) = (Self::default(), Vec::new());
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let added = match decode(item) {
                Some(key) => {
                    keys.add(key);
                    Ok(())
                }
                None => keys.add_file(item),
            };
            if let Err(reason) = added {
                let item = if is_secret(item) { "[secret]".to_owned() } else { item.chars().take(200).collect() };
                bad.push(BadKey { item, reason });
            }
        }
        if bad.is_empty() && !keys.is_empty() { Ok(keys) } else { Err(bad) }
    }

    /// Nothing needs to be signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids of all keys, as given.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.0.iter().map(|(id, _)| *id)
    }

    /// Whether one of the keys signed these bytes. Only the pre-hashed format counts, which minisign writes since 0.10.
    ///
    /// # Errors
    /// [`SignatureError`] says why not.
    pub fn verify(&self, bytes: &[u8], signature: Option<&[u8]>) -> Result<Signed, SignatureError> {
        let text = signature.ok_or(SignatureError::Missing)?;
        let key = signer(text).ok_or(SignatureError::Format)?;
        let text = std::str::from_utf8(text).map_err(|_| SignatureError::Format)?;
        let signature = Signature::decode(text).map_err(|_| SignatureError::Format)?;
        let mut verdict = SignatureError::Stranger(key);
        // Ids are random, not proven: two keys may have the same.
        for (_, public) in self.0.iter().filter(|(id, _)| *id == key) {
            match public.verify(bytes, &signature, false) {
                Ok(()) => return Ok(Signed { key, comment: signature.trusted_comment().to_owned() }),
                Err(Minisign::UnexpectedAlgorithm) => verdict = SignatureError::Legacy,
                Err(_) => verdict = SignatureError::Altered(key),
            }
        }
        Err(verdict)
    }

    fn add(&mut self, key: (KeyId, PublicKey)) {
        if !self.0.contains(&key) {
            self.0.push(key);
        }
    }

    /// One key a line; comments, as minisign writes them, and empty lines are passed over.
    fn add_file(&mut self, path: &str) -> Result<(), String> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(KEYS_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| format!("is neither a minisign public key nor a file that can be read ({error})"))?;
        let known = self.0.len();
        let is_key =
            |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("untrusted comment:");
        let mut found = false;
        for line in text.lines().map(str::trim).filter(is_key) {
            let Some(key) = decode(line) else {
                self.0.truncate(known);
                return Err(match is_secret(line) {
                    true => "holds a secret key: name the public one, which ends in .pub".to_owned(),
                    false => "holds a line that is not a minisign public key".to_owned(),
                });
            };
            found = true;
            self.add(key);
        }
        if found { Ok(()) } else { Err("holds no minisign public key".to_owned()) }
    }
}

fn decode(text: &str) -> Option<(KeyId, PublicKey)> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == PUBLIC_BYTES)?;
    Some((KeyId::of(&bytes)?, PublicKey::from_base64(text).ok()?))
}

fn is_secret(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == SECRET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with minisign 0.11: `minisign -GW`, then `minisign -S` over the text "test".
    const KEY: &str = include_str!("trust/fixture.pub");
    const SIGNATURE: &[u8] = include_bytes!("trust/fixture.minisig");
    const LEGACY: &[u8] = include_bytes!("trust/legacy.minisig");

    fn keys() -> TrustedKeys {
        TrustedKeys::read(KEY.lines().nth(1).unwrap()).unwrap()
    }

    #[test]
    fn what_minisign_signed_counts() {
        let keys = keys();
        let signed = keys.verify(b"test", Some(SIGNATURE)).unwrap();
        assert_eq!(Some(signed.key), keys.ids().next());
        assert!(KEY.contains(&signed.key.to_string()), "{} is what minisign calls it: {KEY}", signed.key);
        assert_eq!(signed.comment, "signed for a test");
    }

    #[test]
    fn anything_else_does_not() {
        let keys = keys();
        let id = keys.ids().next().unwrap();
        let check = |bytes: &[u8], signature: Option<&[u8]>| keys.verify(bytes, signature).unwrap_err();
        assert_eq!(check(b"test", None), SignatureError::Missing);
        assert_eq!(check(b"test!", Some(SIGNATURE)), SignatureError::Altered(id));
        assert_eq!(check(b"test", Some(LEGACY)), SignatureError::Legacy);
        let commented = String::from_utf8(SIGNATURE.to_vec()).unwrap().replace("for a test", "for a jest");
        assert_eq!(check(b"test", Some(commented.as_bytes())), SignatureError::Altered(id));
        for garbage in [&b""[..], b"\xff\n\xff", b"one\ntwo\nthree\nfour", &SIGNATURE[..100]] {
            assert_eq!(check(b"test", Some(garbage)), SignatureError::Format);
        }
        let other = TrustedKeys(vec![(KeyId([7; 8]), keys.0[0].1.clone())]);
        assert_eq!(other.verify(b"test", Some(SIGNATURE)), Err(SignatureError::Stranger(id)));
    }

    #[test]
    fn no_altered_signature_counts_or_panics() {
        let keys = keys();
        for at in 0..SIGNATURE.len() {
            for bit in [1, 0x80] {
                let mut altered = SIGNATURE.to_vec();
                altered[at] ^= bit;
                let counts = keys.verify(b"test", Some(&altered)).is_ok();
                let line = SIGNATURE[..at].iter().filter(|byte| **byte == b'\n').count();
                // The first line is not signed; the last digit of the last has bits that mean nothing.
                let means_nothing = line == 0 || line == 3 && SIGNATURE[at + 1..].starts_with(b"==");
                assert!(!counts || means_nothing, "byte {at} changed");
            }
        }
    }

    #[test]
    fn keys_come_as_texts_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, text: &str| {
            std::fs::write(path(name), text).unwrap();
            path(name)
        };
        let (good, text) = (write("a.pub", KEY), KEY.lines().nth(1).unwrap());
        let bare = write("b.pub", &format!("# ours\n\n{text}\n"));
        assert_eq!(TrustedKeys::read(&format!("{good}, {bare},{text}")).unwrap(), keys());
        let secret = STANDARD.encode([b'E'; SECRET_BYTES]);
        for (item, shown, reason) in [
            (path("none.pub"), path("none.pub"), "nor a file that can be read"),
            (write("empty.pub", "\n"), path("empty.pub"), "holds no minisign public key"),
            (write("junk.pub", "RWQjunk"), path("junk.pub"), "a line that is not a minisign public key"),
            (write("secret.key", &secret), path("secret.key"), "holds a secret key"),
            (secret.clone(), "[secret]".to_owned(), "nor a file"),
            ("RWQf6LRCGA9i53m".to_owned(), "RWQf6LRCGA9i53m".to_owned(), "is neither a minisign public key"),
        ] {
            let bad = TrustedKeys::read(&format!("{text},{item}")).unwrap_err();
            assert_eq!((bad.len(), &bad[0].item), (1, &shown));
            assert!(bad[0].reason.contains(reason) && !bad[0].reason.contains(&secret), "{bad:?}");
        }
        assert_eq!(TrustedKeys::read(" , "), Err(Vec::new()));
    }
}
