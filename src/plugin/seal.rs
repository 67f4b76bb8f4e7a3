//! Whether a pair of files is what someone trusted signed, as a pair: a component beside another version's sidecar, or beside
//! none where there was one, is somebody else's plugin. Without trusted keys only whose signature lies there is noted.
//!
//! What binds a pair: the comment of the component's signature, which is signed with it and names the sidecar's digest
//! (`plugin sign` writes it), or else the sidecar's own `sha256`.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{hex, loader::Candidate, sidecar};
use crate::trust::{self, KeyId, SIGNATURE_SUFFIX, SignatureError, TrustedKeys};

/// Begins the word of a trusted comment that names the sidecar's digest; words are split by tabs.
const SIDECAR_WORD: &str = "sidecar:";
/// In the digest's place: there is no sidecar.
const NO_SIDECAR: &str = "none";

/// Signatures as read, beside the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signatures {
    /// `NAME.wasm.minisig`.
    pub(super) wasm: Option<Bytes>,
    /// `NAME.toml.minisig`.
    pub(super) sidecar: Option<Bytes>,
}

/// What is known of who signed a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    /// Signed as a pair by trusted keys.
    pub(super) trusted: bool,
    /// The key that the component's signature names.
    pub(super) key: Option<KeyId>,
    /// The key that the sidecar's signature names.
    pub(super) sidecar_key: Option<KeyId>,
}

/// Why a pair is not trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// One of the two is not signed, or not by whom it should be.
    #[error("{file} {error}{}", advice(.file, .error))]
    Signature {
        /// Which of the two.
        file: String,
        /// What is wrong.
        error: SignatureError,
    },
    /// Signed with another sidecar than the one beside it.
    #[error("{0} was signed with another version of its sidecar: sign both again with `task-logger plugin sign`")]
    OtherSidecar(String),
    /// The sidecar was taken away.
    #[error("{0} was signed with a sidecar, which is missing: put it back, or sign the component without it")]
    SidecarGone(String),
    /// The sidecar came later.
    #[error("{0} was signed as a plugin without a sidecar: sign both with `task-logger plugin sign`")]
    SidecarAdded(String),
    /// Nothing says that the two belong together.
    #[error(
        "nothing that is signed says that {0} and its sidecar belong together: sign both with `task-logger plugin sign`, \
         or add sha256 = \"{1}\" to the sidecar and sign that again"
    )]
    Unbound(String, String),
}

/// The words of a component's trusted comment that bind its sidecar.
pub fn binding(sidecar: Option<&[u8]>) -> String {
    let digest = sidecar.map_or_else(|| NO_SIDECAR.to_owned(), |bytes| hex(&Sha256::digest(bytes)));
    format!("{SIDECAR_WORD}{digest}")
}

/// Checks a pair; any is good when there are no keys.
pub(super) fn check(keys: &TrustedKeys, candidate: &Candidate) -> Result<Seal, SealError> {
    let named = |signature: &Option<Bytes>| signature.as_deref().and_then(trust::signer);
    let Candidate { file, wasm, sidecar, signatures, .. } = candidate;
    if keys.is_empty() {
        let (key, sidecar_key) = (named(&signatures.wasm), named(&signatures.sidecar));
        return Ok(Seal { trusted: false, key, sidecar_key });
    }
    let verified = |file: &str, bytes: &[u8], signature: &Option<Bytes>| {
        let failed = |error| SealError::Signature { file: file.to_owned(), error };
        keys.verify(bytes, signature.as_deref()).map_err(failed)
    };
    let signed = verified(file, wasm, &signatures.wasm)?;
    let bound = signed.comment.split('\t').find_map(|word| word.strip_prefix(SIDECAR_WORD));
    let Some(sidecar) = sidecar else {
        return match bound {
            None | Some(NO_SIDECAR) => Ok(Seal { trusted: true, key: Some(signed.key), sidecar_key: None }),
            Some(_) => Err(SealError::SidecarGone(file.clone())),
        };
    };
    let sidecar_key = verified(&sidecar::name_of(file), sidecar, &signatures.sidecar)?.key;
    match bound {
        Some(NO_SIDECAR) => return Err(SealError::SidecarAdded(file.clone())),
        Some(digest) if !hex(&Sha256::digest(sidecar)).eq_ignore_ascii_case(digest) => {
            return Err(SealError::OtherSidecar(file.clone()));
        }
        Some(_) => {}
        None => {
            let sha256 = hex(&Sha256::digest(wasm));
            // One that names another component is refused as such when it is read.
            if sidecar::pinned(sidecar).is_none() {
                return Err(SealError::Unbound(file.clone(), sha256));
            }
        }
    }
    Ok(Seal { trusted: true, key: Some(signed.key), sidecar_key: Some(sidecar_key) })
}

fn advice(file: &str, error: &SignatureError) -> String {
    match error {
        SignatureError::Missing => format!(
            ", and PLUGIN_TRUSTED_KEYS is set: put {file}{SIGNATURE_SUFFIX} beside it (`task-logger plugin sign` makes it)"
        ),
        _ => String::new(),
    }
}

impl Seal {
    /// Who signed, for people: `None` if nobody did.
    pub(super) fn signer(&self) -> Option<String> {
        let mut keys: Vec<String> = [self.key, self.sidecar_key].iter().flatten().map(KeyId::to_string).collect();
        keys.dedup();
        (!keys.is_empty()).then(|| keys.join(" "))
    }
}
