//! How far long work has come: one line on standard error, drawn again in place, when that is a terminal. Written here: a crate for
//! it brings four more, for a line.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use super::{Screen, figures};

/// Between two pictures; nothing is drawn of what takes no longer.
const EVERY: Duration = Duration::from_millis(200);

/// Work that has a number of bytes.
pub(super) struct Progress {
    shown: bool,
    begun: Instant,
    drawn: Instant,
    first: Option<u64>,
    total: Option<u64>,
    is_there: bool,
}

// === impl Progress ===

impl Progress {
    /// Begins; `total` where it is known.
    pub(super) fn new(screen: Screen, total: Option<u64>) -> Self {
        let now = Instant::now();
        Self { shown: screen.progress, begun: now, drawn: now, first: None, total, is_there: false }
    }

    /// So many bytes are there.
    pub(super) fn at(&mut self, bytes: u64) {
        let first = *self.first.get_or_insert(bytes);
        if !self.shown || self.drawn.elapsed() < EVERY {
            return;
        }
        self.drawn = Instant::now();
        self.is_there = true;
        let rate = bytes.saturating_sub(first) as f64 / self.begun.elapsed().as_secs_f64();
        // Nobody is left to see it when standard error is gone.
        drop(write!(io::stderr(), "\r{}\u{1b}[K", line(bytes, self.total, rate)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_there {
            drop(write!(io::stderr(), "\r\u{1b}[K"));
        }
    }
}

fn line(bytes: u64, total: Option<u64>, rate: f64) -> String {
    let speed = format!("{}/s", figures::bytes(rate as u64));
    match total.filter(|total| *total > 0) {
        None => format!("{}  {speed}", figures::bytes(bytes)),
        Some(total) => {
            let done = (bytes.min(total) as f64 / total as f64 * 20.0) as usize;
            let percent = bytes.min(total).saturating_mul(100) / total;
            let left =
                if rate > 0.0 { figures::seconds(total.saturating_sub(bytes) as f64 / rate) } else { "-".into() };
            let bar = format!("{}{}", "#".repeat(done), ".".repeat(20 - done));
            format!(
                "[{bar}] {percent:>3} %  {} of {}  {speed}  {left} left",
                figures::bytes(bytes),
                figures::bytes(total)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is() {
        assert_eq!(line(512, Some(1024), 256.0), "[##########..........]  50 %  512 B of 1.0 KiB  256 B/s  2.0s left");
        assert_eq!(line(5 << 20, None, 1048576.0), "5.0 MiB  1.0 MiB/s");
        assert_eq!(line(0, Some(10), 0.0), "[....................]   0 %  0 B of 10 B  0 B/s  - left");
    }
}
