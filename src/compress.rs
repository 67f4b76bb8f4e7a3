//! Compressors that write into memory: fed a piece at a time, emptied whenever there is something, with bounded windows, so that
//! however many are at work each costs little.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use flate2::{Compression, write::GzEncoder};

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// What is compressed and was not taken yet is held in it.
pub struct Compressor(Of);

enum Of {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Finished(Vec<u8>),
}

/// Bytes that brotli gathers before it compresses them.
const BROTLI_BUFFER: usize = 4096;
/// Brotli: its fastest quality that beats gzip, and a window of 256 KiB.
const BROTLI: (i32, i32) = (4, 18);
/// Zstd: its default level, with a window of 512 KiB instead of 2 MiB.
const ZSTD: (i32, u32) = (3, 19);

// === impl Compressor ===

impl Compressor {
    /// A new one.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self(match coding {
            // Without a time of its own and without a name: the same content gives the same bytes.
            Coding::Gzip => Of::Gzip(GzEncoder::new(Vec::new(), Compression::default())),
            Coding::Brotli => {
                let parameters = BrotliEncoderParams { quality: BROTLI.0, lgwin: BROTLI.1, ..Default::default() };
                let writer = brotli::CompressorWriter::with_params(Vec::new(), BROTLI_BUFFER, &parameters);
                Of::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD.0)?;
                encoder.window_log(ZSTD.1)?;
                encoder.include_checksum(true)?;
                Of::Zstd(encoder)
            }
        }))
    }

    /// Takes bytes in.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Of::Gzip(encoder) => encoder.write_all(bytes),
            Of::Brotli(encoder) => encoder.write_all(bytes),
            Of::Zstd(encoder) => encoder.write_all(bytes),
            Of::Finished(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Makes everything that was taken in readable for whoever decompresses.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Of::Gzip(encoder) => encoder.flush(),
            Of::Brotli(encoder) => encoder.flush(),
            Of::Zstd(encoder) => encoder.flush(),
            Of::Finished(_) => Ok(()),
        }
    }

    /// Ends what is compressed; after it there is only something to take.
    pub fn finish(&mut self) -> io::Result<()> {
        let rest = match std::mem::replace(&mut self.0, Of::Finished(Vec::new())) {
            Of::Gzip(encoder) => encoder.finish()?,
            Of::Brotli(encoder) => encoder.into_inner(),
            Of::Zstd(encoder) => encoder.finish()?,
            Of::Finished(rest) => rest,
        };
        self.0 = Of::Finished(rest);
        Ok(())
    }

    /// Bytes that can be taken.
    pub fn ready(&self) -> usize {
        match &self.0 {
            Of::Gzip(encoder) => encoder.get_ref().len(),
            Of::Brotli(encoder) => encoder.get_ref().len(),
            Of::Zstd(encoder) => encoder.get_ref().len(),
            Of::Finished(rest) => rest.len(),
        }
    }

    /// Takes what is compressed so far.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.0 {
            Of::Gzip(encoder) => encoder.get_mut(),
            Of::Brotli(encoder) => encoder.get_mut(),
            Of::Zstd(encoder) => encoder.get_mut(),
            Of::Finished(rest) => rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    fn decompressed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // What comes before a flush can be read although the end is missing.
        let read = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text),
        };
        drop(read);
        text
    }

    #[test]
    fn what_goes_in_comes_out_in_pieces_of_any_size() {
        let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
        for coding in ALL {
            let mut compressor = Compressor::new(coding).unwrap();
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            for n in 0..200 {
                let piece: Vec<u8> = match n % 3 {
                    0 => {
                        format!("{{\"n\":{n},\"text\":\"again and again\"}}\n").repeat(random.usize(..50)).into_bytes()
                    }
                    _ => (0..random.usize(..3000)).map(|_| random.u8(..)).collect(),
                };
                compressor.write(&piece).unwrap();
                plain.extend(piece);
                if random.u8(..4) == 0 {
                    compressor.flush().unwrap();
                    packed.extend(compressor.take());
                    assert_eq!(compressor.ready(), 0);
                    assert!(decompressed(coding, &packed) == plain, "{coding:?}: a flush held something back");
                }
            }
            compressor.finish().unwrap();
            packed.extend(compressor.take());
            assert!(decompressed(coding, &packed) == plain, "{coding:?}");
            assert!(compressor.write(b"more").is_err());
        }
    }

    #[test]
    fn the_same_gives_the_same() {
        for coding in ALL {
            let pack = || {
                let mut compressor = Compressor::new(coding).unwrap();
                compressor.write(&b"some text ".repeat(10_000)).unwrap();
                compressor.finish().unwrap();
                compressor.take()
            };
            let packed = pack();
            assert!(packed == pack() && packed.len() < 1000, "{coding:?} {}", packed.len());
        }
    }
}
