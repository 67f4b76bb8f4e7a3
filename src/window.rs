//! `READ_WINDOW`: how many bytes of entries may be on their way between the stream and the task files. The reader takes,
//! the applier gives back; everything between them is bounded by this.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Bytes in flight and their limit.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Window {
    /// A window of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: Mutex::new(0), freed: Condvar::new() }
    }

    /// Takes bytes. May overdraw: an entry is only known when it is read, and one larger than the window must pass too.
    pub fn take(&self, bytes: usize) {
        *self.lock() += bytes;
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: usize) {
        let mut used = self.lock();
        *used = used.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Bytes that are free, after waiting at most `timeout` for some; 0 when there are still none.
    pub fn free(&self, timeout: Duration) -> usize {
        let used = self.lock();
        let waited = self.freed.wait_timeout_while(used, timeout, |used| *used >= self.limit);
        let (used, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.limit.saturating_sub(*used)
    }

    /// Waits at most `timeout` until nothing is in flight; whether that is so.
    pub fn wait_empty(&self, timeout: Duration) -> bool {
        let waited = self.freed.wait_timeout_while(self.lock(), timeout, |used| *used > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        // A number cannot be left half changed.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn bounded_everything_a_full_window_lets_nothing_more_in() {
        let window = Arc::new(Window::new(100));
        assert_eq!(window.free(Duration::ZERO), 100);
        window.take(60);
        assert_eq!(window.free(Duration::ZERO), 40);
        // One that is larger than what is free passes, and closes the window.
        window.take(1000);
        assert_eq!((window.free(Duration::from_millis(1)), window.used()), (0, 1060));
        let waiting = Arc::clone(&window);
        let reader = thread::spawn(move || waiting.free(Duration::from_secs(60)));
        window.give(1000);
        assert!(reader.join().unwrap() > 0);
        window.give(60);
        assert_eq!(window.free(Duration::ZERO), 100);
    }
}
