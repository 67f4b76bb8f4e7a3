//! tar: a head with the exact length, the content, zeros to the next 512 bytes; the whole compressed.

use std::io;

use ::tar::{Builder, EntryType, Header};

use super::{Container, Head};
use crate::compress::{Coding, Compressor};

const BLOCK: u64 = 512;

pub(super) struct Tar {
    packed: Compressor,
    /// Bytes of the present member that are still to come.
    left: u64,
    padding: u64,
}

// === impl Tar ===

impl Tar {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self { packed: Compressor::new(coding)?, left: 0, padding: 0 })
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let zeros = [0; 2 * BLOCK as usize];
        self.packed.write(zeros.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default())
    }
}

impl Container for Tar {
    fn length_first(&self) -> bool {
        true
    }

    fn begin(&mut self, head: &Head<'_>) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(head.size);
        header.set_mtime(u64::try_from(head.modified.as_second()).unwrap_or(0));
        if header.set_path(head.path).is_err() {
            // Too long for a head: a head of its own says it, and readers that do not know of such take what fits.
            let mut extended = Builder::new(Vec::new());
            extended.append_pax_extensions([("path", head.path.as_bytes())])?;
            self.packed.write(&std::mem::take(extended.get_mut()))?;
            let short: String = head.path.chars().rev().take(100).collect::<Vec<_>>().into_iter().rev().collect();
            header.set_path(short.trim_start_matches('/'))?;
        }
        header.set_cksum();
        self.packed.write(header.as_bytes())?;
        self.left = head.size;
        self.padding = head.size.next_multiple_of(BLOCK) - head.size;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.packed.write(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.zeros(self.padding)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.zeros(2 * BLOCK)?;
        self.packed.finish()
    }

    fn ready(&self) -> usize {
        self.packed.ready()
    }

    fn take(&mut self) -> Vec<u8> {
        self.packed.take()
    }
}
