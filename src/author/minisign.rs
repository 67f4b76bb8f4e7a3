//! Secret keys and signatures as the `minisign` tool writes and reads them. What it takes to sign; checking is
//! [`trust`](crate::trust)'s. Nothing here prints, and nothing of a secret is in an error.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blake2::{Blake2b256, Blake2b512, Digest as _};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};

use crate::trust::KeyId;

/// Ed25519 over the bytes' hash, and over the bytes themselves; keys are marked with the latter.
const PREHASHED: &[u8; 2] = b"ED";
const PLAIN: &[u8; 2] = b"Ed";
/// Key derivation by scrypt, or none.
const SCRYPT: &[u8; 2] = b"Sc";
const UNENCRYPTED: &[u8; 2] = b"\0\0";
/// Checksum by BLAKE2b.
const BLAKE2: &[u8; 2] = b"B2";
/// libsodium's limits of operations and memory that stand for scrypt's N = 2^17, r = 8, p = 1: 128 MiB and half a second.
const OPERATIONS: u64 = 1 << 22;
const MEMORY: u64 = 1 << 27;
/// The largest that is taken, minisign's own: 1 GiB.
const MEMORY_MAX: u64 = 1 << 30;
/// Most that is taken of operations; minisign's own is 2^25.
const OPERATIONS_MAX: u64 = 1 << 30;

const COMMENT: &str = "untrusted comment: ";
const TRUSTED_COMMENT: &str = "trusted comment: ";

/// Why a key or a signature cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a secret key file.
    #[error("is not a minisign secret key")]
    Format,
    /// It is a public key.
    #[error("is a public key: name the secret one")]
    Public,
    /// It has a password.
    #[error("is encrypted: it needs its password")]
    Encrypted,
    /// The checksum does not fit.
    #[error("does not open with this password")]
    Password,
    /// Unencrypted, and its checksum does not fit.
    #[error("is damaged")]
    Damaged,
    /// The system has no randomness.
    #[error("cannot be made: the system gives no random numbers")]
    Random,
}

/// A secret key, open.
pub(super) struct SecretKey {
    id: [u8; 8],
    pair: Ed25519KeyPair,
}

/// A new pair of keys, as files.
pub(super) struct NewKeys {
    /// Contents of the secret key's file.
    pub secret: String,
    /// Contents of the public key's file.
    pub public: String,
    /// What settings take: the public key on one line.
    pub line: String,
    /// What tells it apart.
    pub id: KeyId,
}

/// The parts of a secret key's file.
struct Sealed {
    kdf: [u8; 2],
    salt: [u8; 32],
    operations: u64,
    memory: u64,
    /// Id, seed and public key, checksum; encrypted unless `kdf` says that they are not.
    body: [u8; 104],
}

/// Makes a pair of keys; without a password the secret one is not encrypted.
///
/// # Errors
/// There is no randomness, or scrypt failed.
pub(super) fn generate(password: Option<&[u8]>) -> Result<NewKeys, KeyError> {
    let random = SystemRandom::new();
    let (mut id, mut seed, mut salt) = ([0; 8], [0; 32], [0; 32]);
    for bytes in [&mut id[..], &mut seed, &mut salt] {
        random.fill(bytes).map_err(|_| KeyError::Random)?;
    }
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Random)?;
    let public = pair.public_key().as_ref();
    let secret = [&seed[..], public].concat();
    let mut body = [0; 104];
    body.copy_from_slice(&[&id[..], &secret, &checksum(&id, &secret)].concat());
    let mut sealed = Sealed { kdf: *UNENCRYPTED, salt: [0; 32], operations: 0, memory: 0, body };
    if let Some(password) = password {
        sealed = Sealed { kdf: *SCRYPT, salt, operations: OPERATIONS, memory: MEMORY, body };
        sealed.crypt(password)?;
    }
    let (line, id) = (STANDARD.encode([&PLAIN[..], &id, public].concat()), KeyId::new(id));
    let kind = if password.is_some() { "encrypted" } else { "unencrypted" };
    Ok(NewKeys {
        secret: format!("{COMMENT}minisign {kind} secret key {id}\n{}\n", STANDARD.encode(sealed.bytes())),
        public: format!("{COMMENT}minisign public key {id}\n{line}\n"),
        line,
        id,
    })
}

/// Whether a secret key's file needs a password.
///
/// # Errors
/// It is no secret key.
pub(super) fn is_encrypted(file: &str) -> Result<bool, KeyError> {
    Ok(Sealed::parse(file)?.kdf == *SCRYPT)
}

/// Both halves of a checksum's input are fixed in length.
fn checksum(id: &[u8], secret: &[u8]) -> [u8; 32] {
    Blake2b256::new().chain_update(PLAIN).chain_update(id).chain_update(secret).finalize().into()
}

// === impl SecretKey ===

impl SecretKey {
    /// Opens a secret key's file.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it, or with the password.
    pub(super) fn open(file: &str, password: Option<&[u8]>) -> Result<Self, KeyError> {
        let mut sealed = Sealed::parse(file)?;
        let wrong = match (sealed.kdf == *SCRYPT, password) {
            (true, None) => return Err(KeyError::Encrypted),
            (true, Some(password)) => {
                sealed.crypt(password)?;
                KeyError::Password
            }
            (false, _) => KeyError::Damaged,
        };
        let (id, rest) = sealed.body.split_at(8);
        let (secret, sum) = rest.split_at(64);
        // minisign leaves the checksum of a key without a password empty; the two halves of the pair are compared below.
        let unchecked = wrong == KeyError::Damaged && sum == [0; 32];
        if !unchecked && checksum(id, secret) != *sum {
            return Err(wrong);
        }
        let (seed, public) = secret.split_at(32);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| KeyError::Damaged)?;
        Ok(Self { id: id.try_into().map_err(|_| KeyError::Format)?, pair })
    }

    /// What tells it apart.
    pub(super) fn id(&self) -> KeyId {
        KeyId::new(self.id)
    }

    /// A signature's file for some bytes; the comment, one line, is signed too.
    pub(super) fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let signature = self.pair.sign(&Blake2b512::digest(bytes));
        let signature = signature.as_ref();
        let global = self.pair.sign(&[signature, comment.as_bytes()].concat());
        format!(
            "{COMMENT}signature by minisign key {}\n{}\n{TRUSTED_COMMENT}{comment}\n{}\n",
            self.id(),
            STANDARD.encode([&PREHASHED[..], &self.id, signature].concat()),
            STANDARD.encode(global.as_ref())
        )
    }
}

// === impl Sealed ===

impl Sealed {
    /// The second line of a file, or its only one.
    fn parse(file: &str) -> Result<Self, KeyError> {
        let line = file.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(COMMENT));
        let bytes = STANDARD.decode(line.ok_or(KeyError::Format)?).map_err(|_| KeyError::Format)?;
        if bytes.len() == 42 {
            return Err(KeyError::Public);
        }
        let mut at = 0;
        let mut part = |bytes_max: usize| {
            let part = bytes.get(at..at + bytes_max).ok_or(KeyError::Format);
            at += bytes_max;
            part
        };
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| KeyError::Format);
        let is = |found: &[u8], expected: &[u8]| if found == expected { Ok(()) } else { Err(KeyError::Format) };
        is(part(2)?, PLAIN)?;
        let kdf: [u8; 2] = part(2)?.try_into().map_err(|_| KeyError::Format)?;
        is(part(2)?, BLAKE2)?;
        let sealed = Self {
            kdf,
            salt: part(32)?.try_into().map_err(|_| KeyError::Format)?,
            operations: number(part(8)?)?,
            memory: number(part(8)?)?,
            body: part(104)?.try_into().map_err(|_| KeyError::Format)?,
        };
        if at == bytes.len() && [*SCRYPT, *UNENCRYPTED].contains(&kdf) { Ok(sealed) } else { Err(KeyError::Format) }
    }

    fn bytes(&self) -> Vec<u8> {
        let (operations, memory) = (self.operations.to_le_bytes(), self.memory.to_le_bytes());
        [&PLAIN[..], &self.kdf, BLAKE2, &self.salt, &operations, &memory, &self.body].concat()
    }

    /// Encrypts what is open, decrypts what is not.
    fn crypt(&mut self, password: &[u8]) -> Result<(), KeyError> {
        let params = params(self.operations, self.memory).ok_or(KeyError::Format)?;
        let mut stream = [0; 104];
        scrypt::scrypt(password, &self.salt, &params, &mut stream).map_err(|_| KeyError::Format)?;
        self.body.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
        Ok(())
    }
}

/// scrypt's parameters as libsodium takes them from its limits; `None` for more than anyone should ask for.
fn params(operations: u64, memory: u64) -> Option<scrypt::Params> {
    if memory > MEMORY_MAX || operations > OPERATIONS_MAX {
        return None;
    }
    let (operations, r) = (operations.max(1 << 15), 8_u32);
    let log_n = |most: u64| (1..63_u8).find(|log| 1_u64 << log > most / 2);
    let (log_n, p) = if operations < memory / 32 {
        (log_n(operations / (u64::from(r) * 4))?, 1)
    } else {
        let log_n = log_n(memory / (u64::from(r) * 128))?;
        let most = (operations / 4 / (1_u64 << log_n)).min(0x3fff_ffff);
        (log_n, u32::try_from(most).ok()? / r)
    };
    scrypt::Params::new(log_n, r, p).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{SignatureError, TrustedKeys};

    #[test]
    fn what_is_signed_is_verified() {
        for password in [None, Some(&b"correct horse"[..])] {
            let keys = generate(password).unwrap();
            assert_eq!(is_encrypted(&keys.secret), Ok(password.is_some()));
            let secret = SecretKey::open(&keys.secret, password).unwrap();
            let signature = secret.sign(b"bytes", "a comment");
            for trusted in [&keys.line, &keys.public.lines().nth(1).unwrap().to_owned()] {
                let trusted = TrustedKeys::read(trusted).unwrap();
                let signed = trusted.verify(b"bytes", Some(signature.as_bytes())).unwrap();
                assert_eq!((signed.key, &*signed.comment), (keys.id, "a comment"));
                let altered = trusted.verify(b"byte", Some(signature.as_bytes()));
                assert_eq!(altered, Err(SignatureError::Altered(keys.id)));
            }
        }
    }

    #[test]
    fn a_key_opens_with_its_password_only() {
        let keys = generate(Some(b"right")).unwrap();
        let open = |file: &str, password: Option<&[u8]>| SecretKey::open(file, password).map(|key| key.id());
        assert_eq!(open(&keys.secret, Some(b"right")), Ok(keys.id));
        assert_eq!(open(&keys.secret, Some(b"wrong")), Err(KeyError::Password));
        assert_eq!(open(&keys.secret, None), Err(KeyError::Encrypted));
        assert_eq!(open(&keys.public, None), Err(KeyError::Public));
        for text in ["", "untrusted comment: x\n", "RWQ", "!!"] {
            assert_eq!(open(text, None), Err(KeyError::Format), "{text}");
        }
        let bare = generate(None).unwrap();
        let line = bare.secret.lines().nth(1).unwrap();
        let mut bytes = STANDARD.decode(line).unwrap();
        bytes[100] ^= 1;
        assert_eq!(open(&STANDARD.encode(&bytes), None), Err(KeyError::Damaged));
    }

    #[test]
    fn limits_mean_what_libsodium_means() {
        let named =
            |operations, memory| params(operations, memory).map(|params| (params.log_n(), params.r(), params.p()));
        assert_eq!(named(OPERATIONS, MEMORY), Some((17, 8, 1)));
        // minisign's own.
        assert_eq!(named(1 << 25, 1 << 30), Some((20, 8, 1)));
        assert_eq!(named(1 << 25, 1 << 31), None);
    }
}
