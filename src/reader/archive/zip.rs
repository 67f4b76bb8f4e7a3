//! zip for a reader that cannot seek (APPNOTE 6.3.10): sizes and checksum stand behind each member, and again in the directory at
//! the end. Members from 4 GB on, and archives of that length or of more than 65,534 members, are zip64.

use std::io::{self, Write};

use crc32fast::Hasher;
use flate2::{Compression, write::DeflateEncoder};
use jiff::{Timestamp, tz::TimeZone};

use super::{Container, Head};

/// Members of this length are zip64: less than 4 GiB, so that one that deflate makes longer stays below it.
const LARGE: u64 = 4_000_000_000;
/// Sizes follow the content; names are UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;
const DEFLATE: u16 = 8;
/// What is needed to read: 2.0 knows deflate, 4.5 knows zip64.
const VERSIONS: (u16, u16) = (20, 45);
/// Made on Unix, by what knows 4.5.
const MADE_BY: u16 = 3 << 8 | 45;
/// A regular file, 0644.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// Stands for a value that is in the zip64 field.
const ELSEWHERE: u32 = u32::MAX;

pub(super) struct Zip {
    out: Vec<u8>,
    /// Bytes before `out`.
    before: u64,
    deflate: Option<DeflateEncoder<Vec<u8>>>,
    checksum: Hasher,
    members: Vec<Member>,
    large_from: u64,
}

/// What the directory says of a member.
struct Member {
    path: String,
    modified: Timestamp,
    checksum: u32,
    packed: u64,
    size: u64,
    offset: u64,
    large: bool,
}

// === impl Zip ===

impl Zip {
    pub(super) fn new() -> Self {
        Self::with_large_from(LARGE)
    }

    pub(super) fn with_large_from(large_from: u64) -> Self {
        let (out, members, checksum) = (Vec::new(), Vec::new(), Hasher::new());
        Self { out, before: 0, deflate: None, checksum, members, large_from }
    }

    fn at(&self) -> u64 {
        self.before + self.out.len() as u64
    }

    /// Moves what deflate has ready.
    fn drain(&mut self) {
        let Some(deflate) = &mut self.deflate else { return };
        let packed = std::mem::take(deflate.get_mut());
        if let Some(member) = self.members.last_mut() {
            member.packed += packed.len() as u64;
        }
        self.out.extend(packed);
    }

    fn directory(&mut self) {
        let start = self.at();
        for member in std::mem::take(&mut self.members) {
            member.entry(&mut self.out, self.large_from);
            self.members.push(member);
        }
        let (end, count) = (self.at(), self.members.len() as u64);
        let large = count >= u64::from(u16::MAX) || end >= self.large_from;
        if large {
            // The zip64 end of the directory, and where that stands.
            put(&mut self.out, &[&0x0606_4b50_u32.to_le_bytes(), &44_u64.to_le_bytes(), &MADE_BY.to_le_bytes()]);
            put(&mut self.out, &[&VERSIONS.1.to_le_bytes(), &[0; 8], &count.to_le_bytes(), &count.to_le_bytes()]);
            put(&mut self.out, &[&(end - start).to_le_bytes(), &start.to_le_bytes()]);
            put(&mut self.out, &[&0x0706_4b50_u32.to_le_bytes(), &[0; 4], &end.to_le_bytes(), &1_u32.to_le_bytes()]);
        }
        let count = u16::try_from(count).ok().filter(|_| !large).unwrap_or(u16::MAX);
        let short = |value: u64| u32::try_from(value).ok().filter(|_| !large).unwrap_or(ELSEWHERE);
        put(&mut self.out, &[&0x0605_4b50_u32.to_le_bytes(), &[0; 4], &count.to_le_bytes(), &count.to_le_bytes()]);
        put(&mut self.out, &[&short(end - start).to_le_bytes(), &short(start).to_le_bytes(), &[0; 2]]);
    }
}

impl Container for Zip {
    fn length_first(&self) -> bool {
        false
    }

    fn begin(&mut self, head: &Head<'_>) -> io::Result<()> {
        let member = Member {
            path: head.path.to_owned(),
            modified: head.modified,
            checksum: 0,
            packed: 0,
            size: 0,
            offset: self.at(),
            large: head.size >= self.large_from,
        };
        member.head(&mut self.out);
        self.members.push(member);
        self.deflate = Some(DeflateEncoder::new(Vec::new(), Compression::default()));
        self.checksum = Hasher::new();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (Some(deflate), Some(member)) = (&mut self.deflate, self.members.last_mut()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        deflate.write_all(bytes)?;
        self.checksum.update(bytes);
        member.size += bytes.len() as u64;
        self.drain();
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(deflate) = self.deflate.take() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let packed = deflate.finish()?;
        let checksum = std::mem::take(&mut self.checksum).finalize();
        if let Some(member) = self.members.last_mut() {
            member.packed += packed.len() as u64;
            member.checksum = checksum;
            self.out.extend(packed);
            member.sizes(&mut self.out)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.directory();
        Ok(())
    }

    fn ready(&self) -> usize {
        self.out.len()
    }

    fn take(&mut self) -> Vec<u8> {
        self.before = self.at();
        std::mem::take(&mut self.out)
    }
}

// === impl Member ===

impl Member {
    fn head(&self, out: &mut Vec<u8>) {
        let size = if self.large { ELSEWHERE } else { 0 };
        let zip64: &[u8] =
            if self.large { &[1, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] } else { &[] };
        let extra = [zip64, &self.unix_time()].concat();
        put(out, &[&0x0403_4b50_u32.to_le_bytes(), &self.version().to_le_bytes(), &FLAGS.to_le_bytes()]);
        put(
            out,
            &[&DEFLATE.to_le_bytes(), &dos_time(self.modified), &[0; 4], &size.to_le_bytes(), &size.to_le_bytes()],
        );
        put(out, &[&length(self.path.len()), &length(extra.len()), self.path.as_bytes(), &extra]);
    }

    /// Behind the content.
    fn sizes(&self, out: &mut Vec<u8>) -> io::Result<()> {
        put(out, &[&0x0807_4b50_u32.to_le_bytes(), &self.checksum.to_le_bytes()]);
        if self.large {
            put(out, &[&self.packed.to_le_bytes(), &self.size.to_le_bytes()]);
            return Ok(());
        }
        let short = |size| u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        put(out, &[&short(self.packed)?.to_le_bytes(), &short(self.size)?.to_le_bytes()]);
        Ok(())
    }

    /// In the directory.
    fn entry(&self, out: &mut Vec<u8>, large_from: u64) {
        let mut zip64 = Vec::new();
        let mut short = |value: u64, elsewhere: bool| match u32::try_from(value) {
            Ok(value) if !elsewhere => value,
            _ => {
                zip64.extend(value.to_le_bytes());
                ELSEWHERE
            }
        };
        let (size, packed) = (short(self.size, self.large), short(self.packed, self.large));
        let far = self.offset >= large_from;
        let offset = short(self.offset, far);
        let version = if far { VERSIONS.1 } else { self.version() };
        if !zip64.is_empty() {
            zip64.splice(..0, [[1, 0], length(zip64.len())].concat());
        }
        let extra = [zip64, self.unix_time().to_vec()].concat();
        put(out, &[&0x0201_4b50_u32.to_le_bytes(), &MADE_BY.to_le_bytes(), &version.to_le_bytes()]);
        put(out, &[&FLAGS.to_le_bytes(), &DEFLATE.to_le_bytes(), &dos_time(self.modified)]);
        put(out, &[&self.checksum.to_le_bytes(), &packed.to_le_bytes(), &size.to_le_bytes()]);
        put(out, &[&length(self.path.len()), &length(extra.len()), &[0; 6], &ATTRIBUTES.to_le_bytes()]);
        put(out, &[&offset.to_le_bytes(), self.path.as_bytes(), &extra]);
    }

    fn version(&self) -> u16 {
        if self.large { VERSIONS.1 } else { VERSIONS.0 }
    }

    /// The extended timestamp: seconds since 1970, in no time zone.
    fn unix_time(&self) -> [u8; 9] {
        let seconds = i32::try_from(self.modified.as_second()).unwrap_or(0).to_le_bytes();
        [0x55, 0x54, 5, 0, 1, seconds[0], seconds[1], seconds[2], seconds[3]]
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(0).to_le_bytes()
}

/// Time and date as MS-DOS has them: UTC here, to two seconds, from 1980 to 2107.
fn dos_time(at: Timestamp) -> [u8; 4] {
    let at = TimeZone::UTC.to_datetime(at);
    let part = |value: i8| u16::try_from(value).unwrap_or(0);
    let (time, date) = match u16::try_from(at.year() - 1980) {
        Ok(year) if year < 128 => (
            part(at.hour()) << 11 | part(at.minute()) << 5 | (part(at.second()) / 2),
            year << 9 | part(at.month()) << 5 | part(at.day()),
        ),
        _ => (0, 1 << 5 | 1),
    };
    let (time, date) = (time.to_le_bytes(), date.to_le_bytes());
    [time[0], time[1], date[0], date[1]]
}
