//! The file that keeps a plugin's last good bytes: the pair with its signatures in one file, so that it is never torn, written
//! without a second copy of the component in memory.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{loader::Candidate, seal::Signatures};

/// Begins files of this format; those of the format before it begin with a length.
const MAGIC: &[u8; 8] = b"\xf0pair-2\n";
/// Largest head, in bytes: a sidecar and two signatures.
const HEAD_BYTES_MAX: u32 = 1 << 20;

/// All but the component, which follows it to the file's end.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Digest of component and sidecar, to know the same again without reading it all.
    pair: String,
    wasm_bytes: u64,
    sidecar: Option<Vec<u8>>,
    wasm_signature: Option<Vec<u8>>,
    sidecar_signature: Option<Vec<u8>>,
}

/// The format before signatures.
#[derive(Deserialize)]
struct Unsigned {
    wasm: Vec<u8>,
    sidecar: Option<Vec<u8>>,
}

/// What comes before the component.
pub(super) fn head(candidate: &Candidate) -> io::Result<Vec<u8>> {
    let owned = |bytes: &Option<Bytes>| bytes.as_deref().map(<[u8]>::to_vec);
    let head = Head {
        pair: candidate.pair(),
        wasm_bytes: u64::try_from(candidate.wasm.len()).map_err(invalid)?,
        sidecar: owned(&candidate.sidecar),
        wasm_signature: owned(&candidate.signatures.wasm),
        sidecar_signature: owned(&candidate.signatures.sidecar),
    };
    let head = postcard::to_stdvec(&head).map_err(invalid)?;
    let bytes = u32::try_from(head.len()).map_err(invalid)?;
    Ok([&MAGIC[..], &bytes.to_le_bytes(), &head].concat())
}

/// Whether a file begins so, and is as long as it says.
pub(super) fn is_same(mut file: File, head: &[u8], wasm: &[u8]) -> bool {
    let mut begins = vec![0; head.len()];
    let bytes = head.len().saturating_add(wasm.len());
    file.metadata().is_ok_and(|meta| usize::try_from(meta.len()) == Ok(bytes))
        && file.read_exact(&mut begins).is_ok()
        && begins == head
}

/// The pair that a file keeps, if that can be read.
pub(super) fn pair_of(mut file: File) -> Option<String> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic).ok()?;
    (magic == *MAGIC).then(|| read_head(&mut file).ok()).flatten().map(|head| head.pair)
}

/// Writes a candidate whole.
pub(super) fn write(mut to: impl Write, head: &[u8], wasm: &[u8]) -> io::Result<()> {
    to.write_all(head)?;
    to.write_all(wasm)
}

/// Reads a pair back: component, sidecar, signatures. Of the format before this one, too.
pub(super) fn read(mut file: File) -> io::Result<(Bytes, Option<Bytes>, Signatures)> {
    let mut magic = Vec::new();
    (&mut file).take(8).read_to_end(&mut magic)?;
    if magic != MAGIC {
        file.read_to_end(&mut magic)?;
        let pair: Unsigned = postcard::from_bytes(&magic).map_err(invalid)?;
        return Ok((pair.wasm.into(), pair.sidecar.map(Bytes::from), Signatures::default()));
    }
    let head = read_head(&mut file)?;
    let mut wasm =
        Vec::with_capacity(usize::try_from(head.wasm_bytes.min(super::loader::COMPONENT_BYTES_MAX)).map_err(invalid)?);
    file.read_to_end(&mut wasm)?;
    if u64::try_from(wasm.len()) != Ok(head.wasm_bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let signatures =
        Signatures { wasm: head.wasm_signature.map(Bytes::from), sidecar: head.sidecar_signature.map(Bytes::from) };
    Ok((wasm.into(), head.sidecar.map(Bytes::from), signatures))
}

fn read_head(file: &mut File) -> io::Result<Head> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    let bytes = u32::from_le_bytes(bytes);
    if bytes > HEAD_BYTES_MAX {
        return Err(invalid("its head is too long"));
    }
    let mut head = Vec::new();
    file.take(bytes.into()).read_to_end(&mut head)?;
    postcard::from_bytes(&head).map_err(invalid)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        let signatures = Signatures { wasm: Some(Bytes::from_static(b"signed")), sidecar: None };
        let (wasm, sidecar) = (Bytes::from_static(b"component"), Some(Bytes::from_static(b"x = 1")));
        Candidate { file: "p.wasm".to_owned(), dir: "/p".into(), wasm, sidecar, signatures }
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let candidate = candidate();
        let head = head(&candidate).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, &head, &candidate.wasm).unwrap();
        let (wasm, sidecar, signatures) = read(file(&bytes)).unwrap();
        assert_eq!((wasm, sidecar, signatures), (candidate.wasm.clone(), candidate.sidecar, candidate.signatures));
        assert!(is_same(file(&bytes), &head, &candidate.wasm));
        assert!(!is_same(file(&bytes[..bytes.len() - 1]), &head, &candidate.wasm));
        for end in 0..bytes.len() {
            assert!(read(file(&bytes[..end])).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_format_before_is_read() {
        let old = postcard::to_stdvec(&(b"component".to_vec(), Some(b"x = 1".to_vec()))).unwrap();
        let (wasm, sidecar, signatures) = read(file(&old)).unwrap();
        assert_eq!((&wasm[..], sidecar.as_deref()), (&b"component"[..], Some(&b"x = 1"[..])));
        assert_eq!(signatures, Signatures::default());
    }
}
